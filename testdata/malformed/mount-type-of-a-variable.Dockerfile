FROM busybox
ENV t=nope
RUN --mount=type=$t,target=/x true
