//! Whether a write through a shared mapping moves a file's ctime: tried on a nameless file.
//!
//! One of the two files of this crate with `unsafe`: a mapping is made, one byte of it read and written, and taken away
//! again; nothing else ever sees it. rustix has no safe mapping.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mm::{MapFlags, ProtFlags};

use crate::beneath::stat_of;

const PAGE: usize = 4096;

/// Makes a nameless file in the folder and tries. An error says that it could not be tried.
pub(crate) fn moves_ctime(folder: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, c".", flags, Mode::from(0o600))?;
    rustix::fs::ftruncate(&file, PAGE as u64)?;
    rustix::io::write(&file, b"x")?;
    // SAFETY: a new mapping at an address of the kernel's choice, of a file of one page that nobody else has open. It is
    // read and written within that page and unmapped before the function returns.
    let mapping = unsafe {
        rustix::mm::mmap(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)?
    };
    let byte = mapping.cast::<u8>();
    // SAFETY: the first byte of the mapping made above. Volatile, so that the page is really touched.
    unsafe { byte.read_volatile() };
    let moved = stat_of(file.as_fd()).and_then(|before| {
        crate::clock::wait_past(folder, before.ctime);
        // SAFETY: as above; the mapping is writable.
        unsafe { byte.write_volatile(b'y') };
        stat_of(file.as_fd()).map(|after| after.ctime != before.ctime)
    });
    // SAFETY: exactly what was mapped above, and no reference to it is left.
    unsafe { rustix::mm::munmap(mapping, PAGE)? };
    moved
}
