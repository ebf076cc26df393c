FROM busybox
ONBUILD RUN --mount=type=x,target=/y true
