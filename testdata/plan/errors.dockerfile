FROM debian AS build
RUN --mount=type=cache,target=/root/.cache make
COPY a b /c
ADD https://example.org/file /file
ENV A=${B:?needed}
STOPSIGNAL SIGNOPE
HEALTHCHECK --interval=5 CMD true
FROM debian
COPY --from=build / /
WORKDIR here
RUN --network=host curl x
