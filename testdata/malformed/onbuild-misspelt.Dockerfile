FROM busybox
ONBUILD CPOY a b
