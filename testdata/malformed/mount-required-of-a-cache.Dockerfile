FROM busybox
RUN --mount=type=cache,target=/x,required true
