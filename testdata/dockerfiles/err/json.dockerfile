FROM a
RUN ["a", 1]
SHELL bash
SHELL []
VOLUME []
VOLUME [""]
CMD [null]
