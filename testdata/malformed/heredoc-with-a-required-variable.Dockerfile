FROM busybox
COPY <<EOF /x
${a:?is needed}
EOF
