FROM busybox
EXPOSE 80/htp
