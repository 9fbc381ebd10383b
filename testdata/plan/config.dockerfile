FROM home
MAINTAINER somebody <somebody@example.org>
ARG VERSION=1.0 UNSET
ENV APP=/app MODE="a b" \
    # a comment between
    NEXT=$VERSION
ENV LEGACY one  two
LABEL version=$VERSION "the key"='the $value'
WORKDIR ${APP}/run
WORKDIR ../etc
USER worker:staff
EXPOSE 8080 53/udp 9000-9002
VOLUME ["/data", "/with space"]
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=1m30s --start-period=500ms --retries=5 \
    CMD curl -f http://localhost/ || exit 1
SHELL ["/bin/sh", "-exc"]
RUN echo "$MODE"
ONBUILD COPY . /app
ONBUILD RUN make
CMD run $APP
ENTRYPOINT exec top
