FROM a
RUN b \   

  c \
# x
\
  d
RUN e \\
RUN f \\\
RUN g
RU\
N h
RUN trailing \
