FROM a
COPY --from=b --from=c d e
COPY --link=maybe a b
COPY --link= a b
COPY --chown a b
ADD --exclude a b
