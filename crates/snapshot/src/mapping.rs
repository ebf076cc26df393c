//! Whether a write through a shared mapping moves a file's ctime: tried on a nameless file.
//!
//! One of the two files of this crate with `unsafe`: a mapping is made, one byte of it read and written, and taken away
//! again; nothing else ever sees it. rustix has no safe mapping.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

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

/// Changes the first byte of a file that is not empty through a shared mapping: what the exam of snapshotters needs.
pub(crate) fn overwrite(path: &Path) -> std::io::Result<()> {
    let file = std::fs::File::options().read(true).write(true).open(path)?;
    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at an address of the kernel's choice, of the first page of a file that has a byte there;
    // read, written and unmapped. Read first, so that the write is no fault, which would move the time on tmpfs as well.
    unsafe {
        let mapping = rustix::mm::mmap(std::ptr::null_mut(), PAGE, both, MapFlags::SHARED, &file, 0)?;
        mapping.cast::<u8>().read_volatile();
        mapping.cast::<u8>().write_volatile(b'!');
        rustix::mm::munmap(mapping, PAGE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{ChangeKind, Ignore, RootFs, Scope, SnapshotMode};

    fn a_write_through_a_mapping_is_found(folder: &Path) {
        fs::write(folder.join("file"), "content").unwrap();
        let root = RootFs::open(folder, Ignore::default()).unwrap();
        let mut snapshotter = SnapshotMode::Full.snapshotter();
        snapshotter.reset(&root).unwrap();
        snapshotter.settle(&root).unwrap();
        let time = fs::metadata(folder.join("file")).unwrap().modified().unwrap();
        overwrite(&folder.join("file")).unwrap();
        fs::File::open(folder.join("file")).unwrap().set_modified(time).unwrap();
        let changes = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
        assert_eq!(changes, [crate::Change::new(ChangeKind::Modify, "/file")]);
    }

    #[test]
    fn a_write_through_a_mapping_is_found_where_it_moves_the_ctime() {
        let folder = tempfile::tempdir().unwrap();
        a_write_through_a_mapping_is_found(folder.path());
    }

    #[test]
    fn a_write_through_a_mapping_is_found_on_tmpfs_where_it_moves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let _mounted = crate::scratch::mount_tmpfs(folder.path(), "1m");
        let open = rustix::fs::open(folder.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert!(!moves_ctime(open.as_fd()).unwrap());
        a_write_through_a_mapping_is_found(folder.path());
    }
}
