FROM scratch
ADD --keep-git-dir https://example.com/a.git?keep-git-dir=false /x
