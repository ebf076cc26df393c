FROM busybox
ENTRYPOINT [null]
