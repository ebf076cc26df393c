FROM --platfrom=linux/arm64 busybox
