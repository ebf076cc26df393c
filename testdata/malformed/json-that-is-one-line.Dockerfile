FROM busybox
["a"]
