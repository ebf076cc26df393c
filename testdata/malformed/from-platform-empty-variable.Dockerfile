FROM --platform=$NONE busybox
