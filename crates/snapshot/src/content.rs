//! What two contents are compared by: BLAKE3, of which the index keeps sixteen bytes.
//!
//! Half of the hash keeps an entry of the index within one cache line. Nobody gains from two files that agree in it: who
//! could make such a pair owns both files.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Mode, OFlags};

/// How much is read at once.
const CHUNK: usize = 256 * 1024;

/// The part of a hash that is kept. Never all zero: that says "unknown".
pub(crate) fn short(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    if half == [0; 16] {
        half[0] = 1;
    }
    half
}

/// The hash of bytes in memory.
pub(crate) fn of_bytes(bytes: &[u8]) -> [u8; 16] {
    short(blake3::Hasher::new().update(bytes))
}

/// The hash of a link's target.
pub(crate) fn of_link(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<[u8; 16]> {
    let target = rustix::fs::readlinkat(at, name, Vec::new())?;
    Ok(of_bytes(target.as_bytes()))
}

/// The hash of a regular file's content, read to its end.
pub(crate) fn of_file(at: BorrowedFd<'_>, name: &[u8], buffer: &mut Vec<u8>) -> rustix::io::Result<[u8; 16]> {
    // NONBLOCK: should a pipe have taken the file's place, opening it must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, name, flags, Mode::empty())?;
    of_open(file.as_fd(), buffer)
}

/// The same of one that is open for reading, from its beginning.
pub(crate) fn of_open(file: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> rustix::io::Result<[u8; 16]> {
    buffer.resize(CHUNK, 0);
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    loop {
        match rustix::io::pread(file, &mut buffer[..], at) {
            Ok(0) => return Ok(short(&hasher)),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                at += length as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The bytes of a path.
pub(crate) fn bytes(path: &std::path::Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
