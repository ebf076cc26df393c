FROM busybox
CMD ["a", {}]
