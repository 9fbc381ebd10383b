FROM a
RUN --mount=type=cache,target=/c --mount=type=bind,src=.,dst=/s --network=none --security=sandbox --device=vendor.com/gpu=all make
RUN --mount="type=secret,id=a b" -- --not-a-flag
RUN --network='host' x
