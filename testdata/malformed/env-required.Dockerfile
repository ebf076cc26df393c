FROM busybox
ENV a=${b:?"must be set"}
