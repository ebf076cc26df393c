//! Extended attributes: which of them belong to an image, and reading and writing them.
//!
//! Kept are `security.capability` (as Docker does), `user.*` and POSIX ACLs (`system.posix_acl_*`), which Docker loses.
//! Left out is what says something about the machine rather than the image: labels of SELinux, IMA and EVM, what overlayfs
//! keeps for itself (`trusted.overlay.*`, `user.overlay.*`), and whatever else is `trusted.*`.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::Kind;

/// One file's attributes: names and values, ordered by name.
pub(crate) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Whether an attribute of that name belongs to an image.
pub(crate) fn belongs(name: &[u8]) -> bool {
    name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// The attributes, of those that belong to an image, of the entry of that name (itself where it is a link).
pub(crate) fn read(at: BorrowedFd<'_>, name: &[u8], kind: Kind) -> rustix::io::Result<Attributes> {
    match kind {
        // Links and what is no file have no user attributes and no lists; a capability makes no sense on them.
        Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => read_by_path(at, name),
        Kind::Dir | Kind::File => match read_by_path(at, name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                read_open(rustix::fs::openat(at, name, flags, Mode::empty())?.as_fd())
            }
            done => done,
        },
    }
}

/// The attributes of an open file.
pub(crate) fn read_open(fd: BorrowedFd<'_>) -> rustix::io::Result<Attributes> {
    collect(|list| rustix::fs::flistxattr(fd, list), |name, value| rustix::fs::fgetxattr(fd, name, value))
}

fn read_by_path(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Attributes> {
    let path = below_descriptor(at, name);
    collect(|list| rustix::fs::llistxattr(&*path, list), |name, value| rustix::fs::lgetxattr(&*path, name, value))
}

/// The path through which an entry of an open folder can be named to calls that take no folder: there is no `getxattrat`
/// before Linux 6.13.
fn below_descriptor(at: BorrowedFd<'_>, name: &[u8]) -> CString {
    let mut path = format!("/proc/self/fd/{}/", at.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    CString::new(path).expect("a name of a folder's entry has no NUL")
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Attributes> {
    let mut small = [0_u8; 256];
    let names = match list(&mut small) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => grow(&list)?,
        Err(error) => return Err(error),
    };
    let mut attributes = Attributes::new();
    for name in names.split(|&byte| byte == 0).filter(|name| belongs(name)) {
        match grow(|value| get(name, value)) {
            Ok(value) => attributes.push((name.to_vec(), value)),
            // It went away between the two calls, or this filesystem lists what it does not give.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    attributes.sort_unstable();
    Ok(attributes)
}

/// Reads a value of unknown size.
fn grow(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 256];
    loop {
        match read(&mut value) {
            Ok(length) => {
                value.truncate(length);
                return Ok(value);
            }
            // 64 KiB is the most the kernel allows for a value and for a list.
            Err(Errno::RANGE) if value.len() < 1 << 17 => value.resize(value.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}

/// Sets an attribute of the entry of that name, itself where it is a link.
pub(crate) fn write(at: BorrowedFd<'_>, entry: &[u8], name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(&*below_descriptor(at, entry), name, value, XattrFlags::empty())
}

/// Takes an attribute away; that it is not there is no error.
pub(crate) fn remove(at: BorrowedFd<'_>, entry: &[u8], name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::lremovexattr(&*below_descriptor(at, entry), name) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        done => done,
    }
}

/// What two sets of attributes are compared by: their hash, all zero for the empty set.
pub(crate) fn digest(attributes: &Attributes) -> [u8; 16] {
    if attributes.is_empty() {
        return [0; 16];
    }
    let mut hasher = crate::content::Hasher::new();
    for (name, value) in attributes {
        for part in [name, value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finish()
}
