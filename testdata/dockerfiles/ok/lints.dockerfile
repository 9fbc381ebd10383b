FROM a
CMD b
CMD ["c"]
MAINTAINER m
ENV k v
RUN x \

  y
