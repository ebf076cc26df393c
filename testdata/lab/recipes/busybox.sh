# The tree of the image busybox: sh busybox.sh TREE. Small, and with one of everything that an image may hold.
set -eu
umask 022
cd "$1"

mkdir -p bin dev etc home/app opt proc root run srv sys tmp usr/bin usr/sbin var/lib var/tmp
chmod 0700 root
chmod 1777 tmp var/tmp
chown 1000:1000 home/app
ln -s ../run var/run

cp /bin/busybox bin/busybox
chmod 0755 bin/busybox
for applet in \[ ash awk basename cat chgrp chmod chown cmp cp cut date dd df dirname du echo env expr false find getopt \
    grep groups gzip head hostname id kill ln ls md5sum mkdir mkfifo mknod mktemp mount mv nohup nproc od printenv printf ps \
    pwd readlink realpath rm rmdir sed seq setsid sh sha256sum sleep sort stat sync tail tar tee test touch tr true \
    truncate uname uniq unshare wc which whoami xargs yes; do
    ln -s busybox "bin/$applet"
done

cat > etc/passwd <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1000:An application:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
PASSWD
cat > etc/group <<'GROUP'
root:x:0:
daemon:x:1:
tape:x:26:app
audio:x:29:nobody,app
app:x:1000:
nogroup:x:65534:
GROUP

mkdir -p opt/tree/b/d
echo a > opt/tree/a
echo c > opt/tree/b/c
echo e > opt/tree/b/d/e

mkdir -p opt/odd/empty opt/odd/sticky opt/odd/grouped
cd opt/odd
chmod 1777 sticky
chown 1000:26 grouped
chmod 2755 grouped
echo file > file
echo owned > owned
chown 1000:26 owned
chmod 0640 owned
printf '#!/bin/sh\necho run\n' > program
chmod 0755 program
cp program setuid
chmod 4755 setuid
cp program setgid
chmod 2755 setgid
cp program capable
setcap cap_net_bind_service=ep capable
echo marked > marked
setfattr -n user.mark -v one marked
echo linked > hard-a
ln hard-a hard-b
ln -s file to-file
ln -s ../tree to-tree
ln -s /opt/odd/file absolute
ln -s /nowhere/at/all dangling
ln -s loop-b loop-a
ln -s loop-a loop-b
mkfifo fifo
