FROM busybox
RUN --mount=from=$x,target=/x true
