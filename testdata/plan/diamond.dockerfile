FROM debian AS base
RUN apt-get update
FROM base AS left
RUN make left
FROM base AS right
RUN make right
FROM debian AS again
RUN apt-get update
COPY --from=right /right /again
FROM again
COPY --from=left /left /left
COPY --from=busybox /bin/sh /bin/sh
