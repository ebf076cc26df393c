FROM busybox
INSTALL vim
