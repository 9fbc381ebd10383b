FROM a
HEALTHCHECK NONE
HEALTHCHECK --interval=5s --timeout=$T --start-period=1m --start-interval=1s --retries=3 CMD curl -f localhost
healthcheck cmd ["a", "b"]
