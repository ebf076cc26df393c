FROM busybox
SHELL ["sh", 1]
