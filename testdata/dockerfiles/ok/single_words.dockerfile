FROM a
WORKDIR /with space/x  
USER www-data:www-data
STOPSIGNAL SIGTERM
MAINTAINER Some One <one@example.com>
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
