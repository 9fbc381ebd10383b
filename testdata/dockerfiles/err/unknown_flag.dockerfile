FROM --plaform=x a
RUN --mout=type=cache x
COPY --checksum=a b c
ENV --x=1 a=b
USER --x y
