# A C program without anything around it.
ARG BASE=debian
FROM ${BASE} AS build
RUN apt-get update && \
    apt-get install -y gcc libc6-dev
WORKDIR /src
COPY hello.c .
RUN gcc -static -O2 -o hello hello.c

FROM ${BASE} AS test
COPY --from=build /src/hello /hello
RUN /hello

FROM scratch
COPY --from=build --chown=1000:1000 /src/hello /hello
USER 1000
ENTRYPOINT ["/hello"]
