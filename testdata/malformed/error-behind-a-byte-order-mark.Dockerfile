FROM busybox
FOO
