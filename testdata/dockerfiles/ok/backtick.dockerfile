# escape=`
FROM windows
RUN dir C:\ `
  /b
ENV P=C:\x\ Q=a` b
RUN a ``
RUN cat <<E\F
x
EF
