FROM busybox
WORKDIR /${a
