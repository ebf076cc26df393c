# The trees of three more layers, on busybox's: sh layers.sh TREE, which gets the folders 1, 2 and 3. They replace and remove in
# every way a layer can.
set -eu
umask 022
cd "$1"

mkdir -p 1/over/folder/deep 1/over/hidden
echo gone > 1/over/gone
echo kept > 1/over/kept
echo first > 1/over/changed
echo x > 1/over/folder/x
echo y > 1/over/folder/deep/y
echo secret > 1/over/hidden/old
echo file > 1/over/becomes-folder
mkdir 1/over/becomes-file
echo inside > 1/over/becomes-file/inside
mkdir 1/over/becomes-link
echo inside > 1/over/becomes-link/inside
ln -s kept 1/over/link

mkdir -p 2/over/hidden 2/over/becomes-folder
: > 2/over/.wh.gone
: > 2/over/.wh.folder
: > 2/over/hidden/.wh..wh..opq
echo new > 2/over/hidden/new
echo second > 2/over/changed
echo inside > 2/over/becomes-folder/inside
echo file > 2/over/becomes-file
ln -s /opt/tree 2/over/becomes-link
echo file > 2/over/link

mkdir -p 3/over/folder
echo back > 3/over/gone
echo z > 3/over/folder/z
chmod 0700 3/over/folder
: > 3/over/.wh.becomes-folder
