//! What the machine takes at best: bare loops of the system calls that nobody can do without.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, Timespec, Timestamps, UTIME_OMIT};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Lists every folder and asks for the facts of every entry, on one thread, and remembers nothing. Returns how many
/// entries there are.
pub fn walk(root: &Path) -> u64 {
    let root = rustix::fs::openat(CWD, root, FOLDER, Mode::empty()).unwrap();
    walk_below(root.as_fd(), &mut vec![MaybeUninit::uninit(); 32 * 1024])
}

fn walk_below(folder: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> u64 {
    let mut entries = 0;
    let mut folders: Vec<CString> = Vec::new();
    let mut listing = RawDir::new(folder, buffer);
    while let Some(entry) = listing.next() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        let facts = rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS).unwrap();
        entries += 1;
        if FileType::from_raw_mode(facts.stx_mode.into()) == FileType::Directory {
            folders.push(name.to_owned());
        }
    }
    for name in folders {
        let below = rustix::fs::openat(folder, name, FOLDER, Mode::empty()).unwrap();
        entries += walk_below(below.as_fd(), buffer);
    }
    entries
}

/// The names in every folder, which [`look`] then need not list: the folder by its path, and what is in it.
pub fn names(root: &Path) -> Vec<(PathBuf, Vec<CString>)> {
    let mut folders = vec![root.to_path_buf()];
    let mut all = Vec::new();
    while let Some(folder) = folders.pop() {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            names.push(CString::new(entry.file_name().into_vec()).unwrap());
        }
        all.push((folder, names));
    }
    all
}

/// Asks for the facts of every entry by its known name, on one thread, and remembers nothing.
pub fn look(names: &[(PathBuf, Vec<CString>)]) {
    for (folder, names) in names {
        let folder = rustix::fs::openat(CWD, folder, FOLDER, Mode::empty()).unwrap();
        for name in names {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
            rustix::fs::statx(&folder, name, flags, StatxFlags::BASIC_STATS).unwrap();
        }
    }
}

/// Reads the files one after the other and hands their bytes on.
pub fn copy(files: &[PathBuf], out: &mut dyn Write) {
    let mut buffer = vec![0; 256 * 1024];
    for path in files {
        let mut file = File::open(path).unwrap();
        loop {
            let length = file.read(&mut buffer).unwrap();
            if length == 0 {
                break;
            }
            out.write_all(&buffer[..length]).unwrap();
        }
    }
}

/// Reads the files one after the other and hashes their bytes.
pub fn hash(files: &[PathBuf]) {
    let mut hashing = Hashing(Sha256::new());
    copy(files, &mut hashing);
    std::hint::black_box(hashing.0.finalize());
}

struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One thing that [`write()`] makes.
#[derive(Debug)]
pub enum Made {
    /// A folder that the files behind it lie in, by its path below the root.
    Folder(PathBuf),
    /// A file by its name in the last folder, with its content.
    File(PathBuf, Vec<u8>),
}

/// What [`write()`] needs to make the regular files below a folder again.
pub fn take(root: &Path) -> Vec<Made> {
    let mut all = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        all.push(Made::Folder(folder.strip_prefix(root).unwrap().to_path_buf()));
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                all.push(Made::File(entry.file_name().into(), std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    all
}

/// Makes the files in an empty folder: open, write, set the time, close, each by its name in an open folder.
pub fn write(all: &[Made], root: &Path) {
    make(all, root, &|content, file| write_all(content, file));
}

/// The same with as many bytes for each, which come from a buffer that stays near the processor.
pub fn write_as_many(all: &[Made], root: &Path) {
    let near = vec![7; 128 * 1024];
    make(all, root, &|content, file| {
        let mut left = content.len();
        while left > 0 {
            let length = left.min(near.len());
            write_all(&near[..length], file);
            left -= length;
        }
    });
}

fn write_all(mut bytes: &[u8], file: BorrowedFd<'_>) {
    while !bytes.is_empty() {
        let written = rustix::io::write(file, bytes).unwrap();
        bytes = &bytes[written..];
    }
}

fn make(all: &[Made], root: &Path, fill: &dyn Fn(&[u8], BorrowedFd<'_>)) {
    let root = rustix::fs::openat(CWD, root, FOLDER, Mode::empty()).unwrap();
    let mut folder = rustix::io::dup(&root).unwrap();
    let time = Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 };
    let times = Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: time };
    for made in all {
        match made {
            Made::Folder(path) if path.as_os_str().is_empty() => {}
            Made::Folder(path) => {
                rustix::fs::mkdirat(&root, path, Mode::from(0o755)).unwrap();
                folder = rustix::fs::openat(&root, path, FOLDER, Mode::empty()).unwrap();
            }
            Made::File(name, content) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&folder, name, flags, Mode::from(0o644)).unwrap();
                fill(content, file.as_fd());
                rustix::fs::futimens(&file, &times).unwrap();
            }
        }
    }
}
