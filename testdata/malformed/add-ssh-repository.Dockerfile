FROM busybox
ADD git@example.com:a/b.git /x
