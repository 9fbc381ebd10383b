FROM a
ENV a
ENV a=1 b
LABEL =x
ARG =x
ENV a=b c d
