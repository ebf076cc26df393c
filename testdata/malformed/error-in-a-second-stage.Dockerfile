FROM busybox AS a
RUN true
FROM a
COPY x
