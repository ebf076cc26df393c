//! A folder that is one day an image's `/`: looking into it by image paths, and making folders in it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::beneath::{Beneath, open_folder, open_listing, stat_of};
use crate::error::During as _;
use crate::scaffold::Scaffold;
use crate::{Ignore, Kind, Metadata, Owners, Ownership, Result, SnapshotError, attributes, ids, place};

/// A folder that is one day an image's `/`; it may be `/` itself.
///
/// All paths given to its methods are image paths: absolute (a relative one is taken from the image's `/`), with links
/// and `..` resolved inside the root, never above it.
#[derive(Debug)]
pub struct RootFs {
    beneath: Beneath,
    ignore: Ignore,
    scaffold: Scaffold,
}

/// Where an image path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The image path without links. Where a component is missing, it and what follows are as they were written.
    pub real: PathBuf,
    /// What is there; `None` where nothing is.
    pub kind: Option<Kind>,
}

impl RootFs {
    /// Opens a folder of the machine as a root filesystem. What `ignore` names (image paths) is never part of it.
    pub fn open(path: &Path, ignore: Ignore) -> Result<Self> {
        let beneath = Beneath::open(path).during("open the root filesystem", path)?;
        Ok(Self { beneath, ignore, scaffold: Scaffold::default() })
    }

    /// The same for somebody who may not give files away: see [`Owners`].
    pub fn open_with_owners(path: &Path, ignore: Ignore, owners: Arc<Owners>) -> Result<Self> {
        let root = Self::open(path, ignore)?;
        Ok(Self { beneath: root.beneath.with_owners(owners), ..root })
    }

    /// The folder's path on the machine, without links.
    pub fn path(&self) -> &Path {
        self.beneath.path()
    }

    /// What is never part of the image.
    pub fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    pub(crate) fn beneath(&self) -> &Beneath {
        &self.beneath
    }

    /// The folders that are there and no image's.
    pub(crate) fn scaffold(&self) -> &Scaffold {
        &self.scaffold
    }

    pub(crate) fn with_scaffold(self, scaffold: Scaffold) -> Self {
        Self { scaffold, ..self }
    }

    /// Where a path leads, links followed, the last one included; a dangling link leads to its missing target.
    ///
    /// # Errors
    /// More than forty links, or a component that is no folder.
    pub fn resolve(&self, path: &Path) -> Result<Located> {
        let end = self.beneath.walk(path, true).during("resolve", path)?;
        let kind = if end.rest.is_empty() { end.stat.map(|stat| stat.kind()) } else { None };
        Ok(Located { real: end.real(), kind })
    }

    /// Whether the image has the folder that is at a path without links: false where it only stands there because something is
    /// mounted below it ([`RootFs::mark_scaffold`]).
    pub fn has_folder(&self, path: &Path) -> bool {
        !self.scaffold.holds(path)
    }

    /// What is at a path, the link itself if it is one; `None` where nothing is.
    pub fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        match self.beneath.open_at(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => Ok(Some(self.beneath.seen(stat_of(fd.as_fd()).during("look at", path)?).metadata())),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(SnapshotError::path("look at", path, error)),
        }
    }

    /// Opens a regular file for reading, links followed.
    ///
    /// # Errors
    /// Nothing is there, or something else than a regular file.
    pub fn open_file(&self, path: &Path) -> Result<File> {
        // NONBLOCK: a pipe must not make anybody wait for its other end.
        let fd = self.beneath.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK).during("open", path)?;
        match stat_of(fd.as_fd()).during("look at", path)?.kind() {
            Kind::File => Ok(File::from(fd)),
            Kind::Dir => Err(SnapshotError::path("read", path, Errno::ISDIR)),
            _ => Err(SnapshotError::InTheWay { path: path.into(), reason: "it is not a regular file" }),
        }
    }

    /// The content of a regular file, links followed; `None` where nothing is.
    ///
    /// # Errors
    /// It holds more than `limit` bytes, or is no regular file.
    pub fn read_file(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        let file = match self.open_file(path) {
            Err(SnapshotError::Path { source, .. })
                if matches!(Errno::from_io_error(&source), Some(Errno::NOENT | Errno::NOTDIR)) =>
            {
                return Ok(None);
            }
            file => file?,
        };
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content).during("read", path)?;
        if content.len() as u64 > limit {
            return Err(SnapshotError::TooLarge { path: path.into(), limit });
        }
        Ok(Some(content))
    }

    /// The target of a link, as it is written.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let fd = self.beneath.open_at(path, OFlags::PATH | OFlags::NOFOLLOW).during("open", path)?;
        let target = rustix::fs::readlinkat(&fd, c"", Vec::new()).during("read the link", path)?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// The extended attributes of what is at a path, the link itself if it is one, by name: those that belong to an image.
    pub fn attributes(&self, path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let end = self.beneath.walk(path, false).during("look at", path)?;
        let Some(stat) = end.stat.filter(|_| end.rest.is_empty()) else {
            return Err(SnapshotError::path("look at", path, Errno::NOENT));
        };
        let name = end.name.as_deref().map_or(&b"."[..], OsStrExt::as_bytes);
        attributes::read(end.folder.fd.as_fd(), name, stat.kind()).during("read the extended attributes of", path)
    }

    /// The names in a folder, links followed, in order; those that are ignored left out.
    pub fn read_dir(&self, path: &Path) -> Result<Vec<OsString>> {
        let folder = self.beneath.folder(path).during("list", path)?;
        let fd = open_listing(folder.fd.as_fd(), b".").during("list", path)?;
        let names = place::list(fd.as_fd()).during("list", path)?.into_iter().map(OsString::from_vec);
        Ok(names.filter(|name| !self.ignore.covers(&folder.real.join(name))).collect())
    }

    /// Makes the folder and those above it that are missing, all with the same ownership; folders that are there keep
    /// theirs. Links are followed, and the target of a dangling one is made. Returns what was made, without links, from
    /// the top.
    ///
    /// # Errors
    /// Something that is no folder is in the way, or the place is not part of the image.
    pub fn make_dirs(&self, path: &Path, ownership: &Ownership) -> Result<Vec<PathBuf>> {
        let end = match self.beneath.walk(path, true) {
            Err(Errno::NOTDIR) => return Err(in_the_way(path)),
            end => end.during("make the folder", path)?,
        };
        if end.stat.is_some_and(|stat| !stat.is_dir()) {
            return Err(in_the_way(&end.real()));
        }
        let mut made = self.make_of_scaffold(&end.real(), ownership)?;
        if end.stat.is_some() {
            return Ok(made);
        }
        let (mut fd, mut real) = (end.folder.fd, end.folder.real);
        for name in end.name.into_iter().chain(end.rest) {
            real.push(&name);
            if self.ignore.covers(&real) {
                return Err(SnapshotError::Ignored { path: real });
            }
            fd = make_dir(fd.as_fd(), name.as_bytes(), ownership, self.beneath.owners())
                .during("make the folder", &real)
                .map_err(|error| ids::explain(error, ownership.uid, ownership.gid))?;
            made.push(real.clone());
        }
        Ok(made)
    }

    /// Folders that are there and no image's are made by giving them what they would be made with.
    fn make_of_scaffold(&self, path: &Path, ownership: &Ownership) -> Result<Vec<PathBuf>> {
        let held = self.scaffold.above(path);
        for path in &held {
            let folder = self.beneath.exact_folder(path).during("open", path)?;
            let (uid, gid) = (Uid::from_raw(ownership.uid), Gid::from_raw(ownership.gid));
            rustix::fs::chownat(&folder, c".", Some(uid), Some(gid), AtFlags::empty())
                .and_then(|()| {
                    rustix::fs::chmodat(&folder, c".", Mode::from(ownership.mode & 0o7777), AtFlags::empty())
                })
                .during("make the folder", path)?;
        }
        self.scaffold.take(path);
        Ok(held)
    }
}

fn make_dir(
    at: BorrowedFd<'_>,
    name: &[u8],
    ownership: &Ownership,
    owners: Option<&Owners>,
) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from(ownership.mode & 0o7777);
    if let Some(owners) = owners {
        rustix::fs::mkdirat(at, name, Mode::from(0o700))?;
        rustix::fs::chmodat(at, name, Mode::from(Owners::mode_for(ownership.mode, true)), AtFlags::empty())?;
        let fd = open_folder(at, std::ffi::OsStr::from_bytes(name))?;
        owners.mean(&stat_of(fd.as_fd())?, ownership.uid, ownership.gid, Some(ownership.mode & 0o7777));
        return Ok(fd);
    }
    rustix::fs::mkdirat(at, name, mode)?;
    let (uid, gid) = (Uid::from_raw(ownership.uid), Gid::from_raw(ownership.gid));
    rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    // Once more, since the umask had its say, and after the owner, who takes setuid away.
    rustix::fs::chmodat(at, name, mode, AtFlags::empty())?;
    open_folder(at, std::ffi::OsStr::from_bytes(name))
}

fn in_the_way(path: &Path) -> SnapshotError {
    SnapshotError::InTheWay { path: path.into(), reason: "something that is not a folder is in the way of a folder" }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, RootFs) {
        let tmp = tempfile::tempdir().unwrap();
        let root = RootFs::open(tmp.path(), Ignore::new(["/proc".into(), "/work/mount".into()])).unwrap();
        (tmp, root)
    }

    #[test]
    fn folders_are_made_through_links_and_only_where_they_are_missing() {
        let (tmp, root) = root();
        fs::create_dir(tmp.path().join("real")).unwrap();
        symlink("/real", tmp.path().join("link")).unwrap();
        symlink("/real/later", tmp.path().join("dangling")).unwrap();
        let ownership = Ownership { uid: 12, gid: 34, mode: 0o2711 };
        let made = root.make_dirs(Path::new("/link/a/b"), &ownership).unwrap();
        assert_eq!(made, [Path::new("/real/a"), Path::new("/real/a/b")]);
        let facts = fs::metadata(tmp.path().join("real/a/b")).unwrap();
        assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o7777), (12, 34, 0o2711));
        assert!(root.make_dirs(Path::new("/link/a"), &ownership).unwrap().is_empty());
        assert_eq!(root.make_dirs(Path::new("dangling/x"), &ownership).unwrap().len(), 2);
        assert!(tmp.path().join("real/later/x").is_dir());
    }

    #[test]
    fn a_file_in_the_way_and_an_ignored_place_are_errors_that_name_them() {
        let (tmp, root) = root();
        fs::write(tmp.path().join("file"), "").unwrap();
        let ownership = Ownership::default();
        let error = root.make_dirs(Path::new("/file"), &ownership).unwrap_err();
        assert_eq!(error.to_string(), "/file: something that is not a folder is in the way of a folder");
        assert!(matches!(root.make_dirs(Path::new("/file/x"), &ownership), Err(SnapshotError::InTheWay { .. })));
        let error = root.make_dirs(Path::new("/proc/x"), &ownership).unwrap_err();
        assert!(matches!(error, SnapshotError::Ignored { path } if path == Path::new("/proc")));
    }

    #[test]
    fn files_are_read_up_to_a_limit_and_pipes_not_at_all() {
        let (tmp, root) = root();
        fs::write(tmp.path().join("file"), "12345").unwrap();
        symlink("file", tmp.path().join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, tmp.path().join("pipe"), rustix::fs::FileType::Fifo, Mode::from(0o600), 0)
            .unwrap();
        assert_eq!(root.read_file(Path::new("/link"), 5).unwrap().unwrap(), b"12345");
        assert!(matches!(root.read_file(Path::new("/link"), 4), Err(SnapshotError::TooLarge { .. })));
        assert!(root.read_file(Path::new("/none"), 4).unwrap().is_none());
        assert!(root.read_file(Path::new("/pipe"), 4).is_err());
        assert!(root.read_file(Path::new("/"), 4).is_err());
        assert_eq!(root.read_link(Path::new("/link")).unwrap(), Path::new("file"));
        assert_eq!(root.metadata(Path::new("/link")).unwrap().unwrap().kind, Kind::Symlink);
        assert!(root.metadata(Path::new("/file/x")).unwrap().is_none());
        assert_eq!(root.read_dir(Path::new("/")).unwrap(), ["file", "link", "pipe"]);
        assert_eq!(root.resolve(Path::new("/link")).unwrap(), Located { real: "/file".into(), kind: Some(Kind::File) });
        assert_eq!(root.resolve(Path::new("/a/b")).unwrap(), Located { real: "/a/b".into(), kind: None });
    }
}
