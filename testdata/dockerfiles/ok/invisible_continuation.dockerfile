\
  FROM a
RUN b
