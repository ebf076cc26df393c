FROM busybox
RUN --mout=type=cache true
