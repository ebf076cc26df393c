FROM busybox
RUN --network=nome true
