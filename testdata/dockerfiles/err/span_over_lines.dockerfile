FROM a
RUN one \
  two
COPY \
  --form=b \
  c d
