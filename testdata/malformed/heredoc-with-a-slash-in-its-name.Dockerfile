FROM busybox
COPY <<a/b /x
x
a/b
