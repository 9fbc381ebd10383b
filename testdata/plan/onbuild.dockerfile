FROM alpine AS extra
RUN make extra
FROM trigger AS app
RUN make app
FROM app
ENTRYPOINT ["/app"]
