FROM busybox
ADD --keep-git-dir=maybe https://example.com/a.git /x
