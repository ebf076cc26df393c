FROM busybox
COPY --chmod=77777 a b
