FROM busybox SA build
