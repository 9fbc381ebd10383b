ARG VERSION=bookworm
FROM --platform=$BUILDPLATFORM debian:${VERSION} AS build
WORKDIR /src
COPY --chown=1000:1000 main.c .
RUN gcc -static -o /hello main.c
FROM scratch
COPY --from=build /hello /hello
ENTRYPOINT ["/hello"]
