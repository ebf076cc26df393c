FROM scratch
ADD --keep-git-dir=true a /x
