//! Putting one entry into an open folder, dressing it with owner, mode, attributes and time, and taking entries away.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RawDir, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::attributes::{self, Attributes};
use crate::beneath::{open_listing, stat_at, stat_of};
use crate::metadata::Stat;
use crate::{Ignore, Kind, Owners};

/// What an entry shall look like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dress {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The lower twelve bits.
    pub(crate) mode: u32,
    /// Nanoseconds since 1970; `None` leaves the time as it comes.
    pub(crate) mtime: Option<i128>,
    pub(crate) attributes: Attributes,
}

/// What could not be done and stops nothing: told once for each sort.
#[derive(Debug, Default)]
pub(crate) struct Shortfalls {
    devices: Vec<PathBuf>,
    attributes: Vec<(Vec<u8>, PathBuf)>,
    kept: Vec<PathBuf>,
    sockets: Vec<PathBuf>,
    ignored: Vec<PathBuf>,
}

impl Shortfalls {
    pub(crate) fn device(&mut self, path: PathBuf) {
        self.devices.push(path);
    }

    pub(crate) fn attribute(&mut self, name: &[u8], path: PathBuf) {
        self.attributes.push((name.to_vec(), path));
    }

    /// A folder could not make way because something mounted lies in it.
    pub(crate) fn kept(&mut self, path: PathBuf) {
        self.kept.push(path);
    }

    pub(crate) fn socket(&mut self, path: PathBuf) {
        self.sockets.push(path);
    }

    /// A file of an archive that goes where nothing is part of the image.
    pub(crate) fn ignored(&mut self, path: PathBuf) {
        self.ignored.push(path);
    }

    /// One sentence for each sort.
    pub(crate) fn warnings(self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut group = |paths: &[PathBuf], what: &str| {
            if let Some(first) = paths.first() {
                let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
                warnings.push(format!("{what}: {}{more}", first.display()));
            }
        };
        group(&self.devices, "device files cannot be made here and were left out (CAP_MKNOD is missing)");
        group(&self.kept, "something that is not part of the image lies in a folder, which therefore stays as it is");
        group(&self.sockets, "sockets are not part of an image and were left out");
        group(&self.ignored, "mounts and zuwai's own folder are not part of an image; left out of the archive's files");
        let mut names: Vec<&[u8]> = self.attributes.iter().map(|(name, _)| name.as_slice()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let paths: Vec<PathBuf> =
                self.attributes.iter().filter(|(of, _)| of == name).map(|(_, path)| path.clone()).collect();
            let what = format!(
                "the extended attribute {} cannot be set here and was left out of the files, though not of layers that \
                 are passed on",
                String::from_utf8_lossy(name)
            );
            group(&paths, &what);
        }
        warnings
    }
}

/// Gives an entry its owner, mode, attributes and time, in the order in which one does not undo another: a new owner
/// takes away setuid and capabilities, a new ACL moves the group's permissions.
pub(crate) fn dress(
    at: BorrowedFd<'_>,
    name: &[u8],
    kind: Kind,
    dress: &Dress,
    owners: Option<&Owners>,
    path: &Path,
    shortfalls: &mut Shortfalls,
) -> rustix::io::Result<()> {
    let is_link = kind == Kind::Symlink;
    if let Some(owners) = owners {
        owners.mean(&stat_at(at, name)?, dress.uid, dress.gid, (!is_link).then_some(dress.mode));
        if !is_link {
            let mode = Owners::mode_for(dress.mode, kind == Kind::Dir);
            rustix::fs::chmodat(at, name, Mode::from(mode), AtFlags::empty())?;
        }
    } else {
        let (uid, gid) = (Uid::from_raw(dress.uid), Gid::from_raw(dress.gid));
        rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_link {
            rustix::fs::chmodat(at, name, Mode::from(dress.mode), AtFlags::empty())?;
        }
    }
    for (attribute, value) in &dress.attributes {
        match attributes::write(at, name, attribute, value) {
            Err(Errno::PERM | Errno::OPNOTSUPP) => shortfalls.attribute(attribute, path.to_path_buf()),
            done => done?,
        }
    }
    dress.mtime.map_or(Ok(()), |mtime| set_mtime(at, name, mtime))
}

/// The same for an open file, as far as it was not made like that.
pub(crate) fn dress_open(
    file: BorrowedFd<'_>,
    dress: &Dress,
    path: &Path,
    shortfalls: &mut Shortfalls,
) -> rustix::io::Result<()> {
    let mut made = stat_of(file)?;
    if (made.uid, made.gid) != (dress.uid, dress.gid) {
        rustix::fs::fchown(file, Some(Uid::from_raw(dress.uid)), Some(Gid::from_raw(dress.gid)))?;
        made = stat_of(file)?;
    }
    if made.permissions() != dress.mode {
        rustix::fs::fchmod(file, Mode::from(dress.mode))?;
    }
    set_attributes(file, &dress.attributes, path, shortfalls)?;
    dress.mtime.map_or(Ok(()), |mtime| rustix::fs::futimens(file, &times(mtime)))
}

/// Sets attributes of an open file. Returns those that could be set here.
pub(crate) fn set_attributes(
    file: BorrowedFd<'_>,
    attributes: &Attributes,
    path: &Path,
    shortfalls: &mut Shortfalls,
) -> rustix::io::Result<Attributes> {
    let mut set = Attributes::new();
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(file, &**name, value, XattrFlags::empty()) {
            Ok(()) => set.push((name.clone(), value.clone())),
            Err(Errno::PERM | Errno::OPNOTSUPP) => shortfalls.attribute(name, path.to_path_buf()),
            Err(error) => return Err(error),
        }
    }
    Ok(set)
}

/// Makes a file of a name that is free.
pub(crate) fn create(at: BorrowedFd<'_>, name: &[u8], access: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, mode)
}

/// Sets the time of an entry, itself where it is a link.
pub(crate) fn set_mtime(at: BorrowedFd<'_>, name: &[u8], mtime: i128) -> rustix::io::Result<()> {
    rustix::fs::utimensat(at, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// A modification time as the kernel takes it; the access time stays.
pub(crate) fn times(mtime: i128) -> Timestamps {
    const SECOND: i128 = 1_000_000_000;
    let seconds = mtime.div_euclid(SECOND);
    #[allow(clippy::cast_possible_truncation, reason = "both are clamped, or a remainder")]
    let modified = Timespec {
        tv_sec: seconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
        tv_nsec: mtime.rem_euclid(SECOND) as _,
    };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: modified }
}

/// What of a folder that makes way must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// Nothing: it is gone.
    Wholly,
    /// The folders that lead to something ignored.
    ButWhatLeads,
}

/// Removes the entry of that name and everything below it, but nothing that is ignored or mounted, and no folder that
/// leads there. That it is not there is no error.
///
/// Folders are gone down into with one open descriptor a level.
pub(crate) fn remove(at: BorrowedFd<'_>, name: &[u8], path: &Path, ignore: &Ignore) -> rustix::io::Result<Removed> {
    struct Level {
        fd: OwnedFd,
        name: Vec<u8>,
        path: PathBuf,
        names: Vec<Vec<u8>>,
        stays: bool,
    }
    if ignore.covers(path) {
        return Ok(Removed::ButWhatLeads);
    }
    let unlink = |at: BorrowedFd<'_>, name: &[u8]| match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // POSIX has EPERM for a folder; a mount point of a file is busy.
        Err(error @ (Errno::PERM | Errno::BUSY)) => match stat_at(at, name) {
            Ok(stat) if stat.is_dir() => Ok(false),
            _ => Err(error),
        },
        Err(error) => Err(error),
    };
    if unlink(at, name)? {
        return Ok(Removed::Wholly);
    }
    let open = |at: BorrowedFd<'_>, name: &[u8], path: PathBuf| {
        let fd = open_listing(at, name)?;
        let names = list(fd.as_fd())?;
        Ok::<Level, Errno>(Level { fd, name: name.to_vec(), path, names, stays: false })
    };
    let mut levels = vec![open(at, name, path.to_path_buf())?];
    let mut stays = false;
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.names.pop() {
            let path = level.path.join(OsStr::from_bytes(&name));
            if ignore.covers(&path) || stat_at(level.fd.as_fd(), &*name).is_ok_and(|stat| stat.mount) {
                level.stays = true;
            } else if !unlink(level.fd.as_fd(), &name)? {
                let below = open(level.fd.as_fd(), &name, path)?;
                levels.push(below);
            }
            continue;
        }
        let done = levels.pop().expect("it was just looked at");
        let above = levels.last().map_or(at, |level| level.fd.as_fd());
        if done.stays || ignore.leads_to(&done.path) {
            match levels.last_mut() {
                Some(level) => level.stays = true,
                None => stays = true,
            }
        } else {
            match rustix::fs::unlinkat(above, &*done.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(if stays { Removed::ButWhatLeads } else { Removed::Wholly })
}

/// The names in an open folder, ordered, without `.` and `..`.
pub(crate) fn list(folder: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut names = Vec::new();
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes an entry like another one, with its content but without its dress. The name must be free. `go_on` is asked while a
/// large file is copied.
pub(crate) fn duplicate(
    from: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    to: BorrowedFd<'_>,
    new_name: &[u8],
    go_on: &dyn Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let private = Mode::from(0o600);
    match stat.kind() {
        Kind::Dir => rustix::fs::mkdirat(to, new_name, Mode::from(0o700)),
        Kind::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&target, to, new_name)
        }
        Kind::File => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
            let target = create(to, new_name, OFlags::WRONLY, private)?;
            copy_content(&File::from(source), &File::from(target), go_on)
        }
        kind => {
            let kind = match kind {
                Kind::CharDevice => rustix::fs::FileType::CharacterDevice,
                Kind::BlockDevice => rustix::fs::FileType::BlockDevice,
                Kind::Socket => rustix::fs::FileType::Socket,
                _ => rustix::fs::FileType::Fifo,
            };
            rustix::fs::mknodat(to, new_name, kind, private, rustix::fs::makedev(stat.rdev.0, stat.rdev.1))
        }
    }
}

/// How many bytes of a file are copied before somebody is asked again.
const PIECE: u64 = 64 << 20;

/// Copies a file's bytes, holes as holes where the kernel does so itself (`copy_file_range`, reflinks).
pub(crate) fn copy_content(
    source: &File,
    target: &File,
    go_on: &dyn Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let mut target = target;
    loop {
        go_on()?;
        let copied = std::io::copy(&mut source.take(PIECE), &mut target)
            .map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
        if copied < PIECE {
            return Ok(());
        }
    }
}

/// Writes all bytes, however many the kernel takes at once.
pub(crate) fn write_all(
    mut bytes: &[u8],
    mut write: impl FnMut(&[u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
