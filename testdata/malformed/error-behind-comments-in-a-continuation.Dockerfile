FROM busybox
RUN true && \
# a comment

  true
ENV a=1 \
# another
  b
