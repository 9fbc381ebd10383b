FROM debian:bookworm
# one layer
RUN apt-get update && apt-get install -y \
    python3 \
    # a comment inside
    python3-pip \
  && apt-get clean all
