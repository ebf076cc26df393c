FROM busybox
ARG --x a
