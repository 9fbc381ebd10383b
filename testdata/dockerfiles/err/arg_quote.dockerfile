FROM a
ARG 'x=1'
