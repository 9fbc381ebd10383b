FROM a
RUN ["a", "b c", "\u00e9\n"]
RUN ['not', 'json']
RUN [ -f x ] || y
RUN ["open"
CMD []
ENTRYPOINT ["a"] 
