FROM busybox
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://example.com/x https://example.com/y /x/
