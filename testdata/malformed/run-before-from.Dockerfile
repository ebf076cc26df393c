RUN true
FROM busybox
