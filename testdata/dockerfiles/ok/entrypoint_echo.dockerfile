FROM debian:bookworm
ENTRYPOINT ["/bin/echo"]
