FROM debian
LABEL maintainer="somebody@example.org"
RUN apt-get update
RUN apt-get install -y python3 python3-pip
RUN apt-get clean all
RUN pip install --break-system-packages flask
ADD hello.py /tmp/hello.py
EXPOSE 5000
CMD ["python3","/tmp/hello.py"]
