FROM debian AS a
COPY --from=c /x /x
FROM debian AS b
COPY --from=a /x /x
FROM debian AS c
COPY --from=b /x /x
