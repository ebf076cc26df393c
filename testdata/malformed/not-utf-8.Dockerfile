FROM busybox
RUN echo ÿþ
