# The executor's image with a shell, for runners that start scripts in it (GitLab, Jenkins, Woodpecker): the tag `:debug`. Its
# context is the one of `Dockerfile` with busybox in it (`cargo xtask image --debug` lays it out). /busybox is a volume, as Kaniko has it:
# what runs the script is never part of an image.
FROM scratch
COPY . /
ENV HOME=/root \
    USER=root \
    PATH=/usr/local/bin:/kaniko:/busybox \
    SSL_CERT_DIR=/kaniko/ssl/certs \
    DOCKER_CONFIG=/kaniko/.docker/ \
    DOCKER_CREDENTIAL_GCR_CONFIG=/kaniko/.config/gcloud/docker_credential_gcr_config.json
VOLUME /busybox
WORKDIR /workspace
ENTRYPOINT ["/kaniko/executor"]
