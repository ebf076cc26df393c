FROM busybox
RUN --mount=type=tmpfs true
