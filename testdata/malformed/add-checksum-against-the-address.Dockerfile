FROM scratch
ADD --checksum=0123456789 https://example.com/a.git?checksum=9876543210 /x
