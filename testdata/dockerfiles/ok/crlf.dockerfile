# escape=\
FROM a
RUN b \
  c
COPY <<E /x
body
E
