FROM busybox
ENV b=x
ENV a=${b#\a}
