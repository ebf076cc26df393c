FROM busybox
ARG x
COPY --from=$x a b
