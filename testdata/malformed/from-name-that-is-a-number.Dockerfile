FROM busybox AS 1
