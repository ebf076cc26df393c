FROM busybox
COPY <<a <<b /d/
1
a
