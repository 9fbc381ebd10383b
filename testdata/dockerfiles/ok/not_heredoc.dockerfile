FROM a
RUN echo '<<A' "<<B" x<<C $((1<<2))
RUN ["x", "<<A"]
CMD cat <<A
COPY ["<<A", "/x"]
