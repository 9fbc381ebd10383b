# future=1
# escape=`
FROM a
RUN b \
  c
