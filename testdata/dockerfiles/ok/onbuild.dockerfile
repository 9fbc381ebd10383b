FROM a
ONBUILD RUN --mount=type=cache,target=/c x
onbuild copy --from=b c /d
ONBUILD COPY <<E <<F /x/
1
E
2
F
