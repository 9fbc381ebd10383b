FROM a
ENV ä=ö 名前=値
RUN echo „x“ \
  ✓
