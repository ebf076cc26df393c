FROM busybox
RUN --mount=target=/x,mode=0755 true
