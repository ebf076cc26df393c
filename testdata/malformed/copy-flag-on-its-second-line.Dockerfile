FROM busybox
COPY --chown=app \
  --chmdo=644 a b
