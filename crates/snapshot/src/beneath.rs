//! Opening paths below a root without ever leaving it: the kernel resolves them (`openat2` with `RESOLVE_IN_ROOT`), and
//! where it does not know how or a seccomp profile says no, this file walks component by component.
//!
//! Whatever a link says, `..` above the root is the root and an absolute target begins at the root: both ways give the
//! same answers, and a test holds them to it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::Owners;
use crate::metadata::Stat;

/// A piece of a path that the kernel takes in one call, wherever in a name it would be cut.
const PIECE: usize = 3800;
/// As many links as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// The door to everything below one folder.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: OwnedFd,
    /// The folder's path on the machine, links resolved, as `/proc/self/fd` says it.
    path: PathBuf,
    by_hand: AtomicBool,
    /// Where this process is not root.
    owners: Option<Arc<Owners>>,
}

/// An open folder (`O_PATH`) and its image path without links.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) fd: OwnedFd,
    pub(crate) real: PathBuf,
}

/// Where a path ended.
#[derive(Debug)]
pub(crate) struct End {
    /// The folder that holds the last component.
    pub(crate) folder: Folder,
    /// The last component; `None` where the path is the root itself.
    pub(crate) name: Option<OsString>,
    /// What is there. `None` where it is missing.
    pub(crate) stat: Option<Stat>,
    /// Components behind a missing one.
    pub(crate) rest: Vec<OsString>,
}

impl End {
    /// The image path without links.
    pub(crate) fn real(&self) -> PathBuf {
        let mut real = self.folder.real.clone();
        real.extend(&self.name);
        real.extend(&self.rest);
        real
    }
}

impl Beneath {
    pub(crate) fn open(path: &Path) -> rustix::io::Result<Self> {
        let root = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = path_of(root.as_fd()).unwrap_or_else(|| std::path::absolute(path).unwrap_or_else(|_| path.into()));
        Ok(Self { root, path, by_hand: AtomicBool::new(false), owners: None })
    }

    /// The same, written and seen through a table of owners.
    pub(crate) fn with_owners(self, owners: Arc<Owners>) -> Self {
        Self { owners: Some(owners), ..self }
    }

    pub(crate) fn owners(&self) -> Option<&Owners> {
        self.owners.as_deref()
    }

    /// An entry of the root as it was meant.
    pub(crate) fn seen(&self, stat: Stat) -> Stat {
        self.owners.as_ref().map_or(stat, |owners| owners.seen(stat))
    }

    /// The same root, resolved component by component: what a kernel or profile without `openat2` gets.
    #[cfg(test)]
    pub(crate) fn walk_by_hand(&self) {
        self.by_hand.store(true, Ordering::Relaxed);
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens an image path. Links on the way, and at its end unless the flags have `NOFOLLOW`, are followed inside the
    /// root. Nothing is created by this: the flags have no `CREATE`.
    pub(crate) fn open_at(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if !self.by_hand.load(Ordering::Relaxed) {
            match in_root(self.root(), path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
                Err(Errno::NOSYS | Errno::PERM) => self.by_hand.store(true, Ordering::Relaxed),
                // A path that the kernel takes for too long is walked in steps.
                Err(Errno::NAMETOOLONG) => {}
                done => return done,
            }
        }
        let end = self.walk(path, !flags.contains(OFlags::NOFOLLOW))?;
        if !end.rest.is_empty() || end.stat.is_none() {
            return Err(Errno::NOENT);
        }
        let name = end.name.as_deref().unwrap_or(OsStr::new("."));
        rustix::fs::openat(&end.folder.fd, name, flags | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Opens the folder at an image path, links followed, and says where it really is.
    pub(crate) fn folder(&self, path: &Path) -> rustix::io::Result<Folder> {
        if !self.by_hand.load(Ordering::Relaxed) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match in_root(self.root(), path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
                Ok(fd) => {
                    if let Some(real) = self.real(fd.as_fd()) {
                        return Ok(Folder { fd, real });
                    }
                }
                Err(Errno::NOSYS | Errno::PERM) => self.by_hand.store(true, Ordering::Relaxed),
                Err(Errno::NAMETOOLONG) => {}
                Err(error) => return Err(error),
            }
        }
        let end = self.walk(path, true)?;
        if end.stat.is_none() || !end.rest.is_empty() {
            return Err(Errno::NOENT);
        }
        let real = end.real();
        match &end.name {
            None => Ok(end.folder),
            Some(name) => Ok(Folder { fd: open_folder(end.folder.fd.as_fd(), name)?, real }),
        }
    }

    /// Opens the folder at an image path that has no links in it, without following any, and however long it is.
    pub(crate) fn exact_folder(&self, real: &Path) -> rustix::io::Result<OwnedFd> {
        if !self.by_hand.load(Ordering::Relaxed) {
            match self.exact_in_pieces(real) {
                Err(Errno::NOSYS | Errno::PERM) => self.by_hand.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        let mut fd = None;
        for component in real.components() {
            if let Component::Normal(name) = component {
                fd = Some(open_folder(fd.as_ref().map_or(self.root(), OwnedFd::as_fd), name)?);
            }
        }
        fd.map_or_else(|| duplicate(self.root()), Ok)
    }

    /// The kernel takes a path of less than 4096 bytes at a time.
    fn exact_in_pieces(&self, real: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let mut rest = real.as_os_str().as_bytes();
        let mut fd: Option<OwnedFd> = None;
        loop {
            let end = match rest.get(..PIECE) {
                Some(piece) => piece.iter().rposition(|&byte| byte == b'/').filter(|&at| at > 0).unwrap_or(rest.len()),
                None => rest.len(),
            };
            let at = fd.as_ref().map_or(self.root(), OwnedFd::as_fd);
            fd = Some(in_root(at, Path::new(OsStr::from_bytes(&rest[..end])), flags, resolve)?);
            rest = &rest[end..];
            if rest.is_empty() {
                return fd.ok_or(Errno::NOENT);
            }
        }
    }

    /// The image path of an open folder, if the kernel can say it.
    fn real(&self, fd: BorrowedFd<'_>) -> Option<PathBuf> {
        let path = path_of(fd)?;
        let below = path.strip_prefix(&self.path).ok()?;
        Some(Path::new("/").join(below))
    }

    /// Follows a path component by component. A missing component is no error: it ends the walk, and `..` behind it is
    /// taken lexically.
    pub(crate) fn walk(&self, path: &Path, follow: bool) -> rustix::io::Result<End> {
        let mut above: Vec<OwnedFd> = Vec::new();
        let mut real: Vec<OsString> = Vec::new();
        let mut todo: VecDeque<Step> = steps(path).collect();
        let mut links = 0;
        while let Some(step) = todo.pop_front() {
            let name = match step {
                Step::Up => {
                    above.pop();
                    real.pop();
                    continue;
                }
                Step::Down(name) => name,
            };
            let here = above.last().map_or(self.root(), OwnedFd::as_fd);
            let stat = match stat_at(here, &name) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => return self.end(above, &real, name, None, todo),
                Err(error) => return Err(error),
            };
            let last = todo.is_empty();
            match stat.kind() {
                crate::Kind::Symlink if !last || follow => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(here, &name, Vec::new())?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        above.clear();
                        real.clear();
                    }
                    for step in steps(&target).collect::<Vec<_>>().into_iter().rev() {
                        todo.push_front(step);
                    }
                }
                _ if last => return self.end(above, &real, name, Some(stat), todo),
                crate::Kind::Dir => {
                    above.push(open_folder(here, &name)?);
                    real.push(name);
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        // The path ended on a folder it had gone down into and come up from, or on the root.
        match real.pop() {
            None => {
                let folder = Folder { fd: duplicate(self.root())?, real: "/".into() };
                let stat = stat_of(folder.fd.as_fd())?;
                Ok(End { folder, name: None, stat: Some(stat), rest: Vec::new() })
            }
            Some(name) => {
                let stat = above.pop().map(|fd| stat_of(fd.as_fd())).transpose()?;
                self.end(above, &real, name, stat, [])
            }
        }
    }

    fn end(
        &self,
        mut above: Vec<OwnedFd>,
        real: &[OsString],
        name: OsString,
        stat: Option<Stat>,
        todo: impl IntoIterator<Item = Step>,
    ) -> rustix::io::Result<End> {
        let fd = above.pop().map_or_else(|| duplicate(self.root()), Ok)?;
        let mut rest = Vec::new();
        for step in todo {
            match step {
                Step::Down(name) => rest.push(name),
                Step::Up if rest.pop().is_some() => {}
                // `missing/..`: the kernel says that there is no such path.
                Step::Up => return Err(Errno::NOENT),
            }
        }
        let real = Path::new("/").join(real.iter().collect::<PathBuf>());
        Ok(End { folder: Folder { fd, real }, name: Some(name), stat, rest })
    }
}

/// One component of a path.
enum Step {
    Up,
    Down(OsString),
}

fn steps(path: &Path) -> impl Iterator<Item = Step> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
        Component::ParentDir => Some(Step::Up),
        _ => None,
    })
}

fn in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    // The kernel answers EAGAIN when something was renamed anywhere while it looked at `..`.
    for _ in 0..64 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a folder by its name, which is no link.
pub(crate) fn open_folder(at: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name.as_ref(), flags, Mode::empty())
}

/// Opens a folder for reading its names.
pub(crate) fn open_listing(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// The entry of that name, itself where it is a link.
pub(crate) fn stat_at(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> rustix::io::Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(at, name, flags, StatxFlags::BASIC_STATS).map(|statx| Stat::from(&statx))
}

/// What a descriptor is open on.
pub(crate) fn stat_of(fd: BorrowedFd<'_>) -> rustix::io::Result<Stat> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(fd, c"", flags, StatxFlags::BASIC_STATS).map(|statx| Stat::from(&statx))
}

/// Another descriptor for the same folder.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// What `/proc/self/fd` says a descriptor is open on; `None` where it says nothing useful.
fn path_of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    let path = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok()?.into_bytes();
    (path.first() == Some(&b'/')).then(|| PathBuf::from(OsStr::from_bytes(&path)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The same root twice: resolved by the kernel, and by hand.
    fn both(path: &Path) -> [Beneath; 2] {
        let by_hand = Beneath::open(path).unwrap();
        by_hand.walk_by_hand();
        [Beneath::open(path).unwrap(), by_hand]
    }

    #[test]
    fn links_lead_to_the_same_place_by_kernel_and_by_hand() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("root");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir_all(tmp.path().join("outside")).unwrap();
        symlink("/a/b", root.join("absolute")).unwrap();
        symlink("a/b/../b", root.join("relative")).unwrap();
        symlink("../../../../a", root.join("a/climbing")).unwrap();
        symlink("../outside", root.join("escape")).unwrap();
        symlink(tmp.path().join("outside"), root.join("escape-absolute")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/gone", root.join("dangling")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        for beneath in both(&root) {
            let at = |path: &str| beneath.folder(Path::new(path)).map(|folder| folder.real);
            assert_eq!(at("/absolute/c").unwrap(), Path::new("/a/b/c"));
            assert_eq!(at("/relative/c").unwrap(), Path::new("/a/b/c"));
            assert_eq!(at("/a/climbing/b").unwrap(), Path::new("/a/b"));
            assert_eq!(at("/../..").unwrap(), Path::new("/"));
            assert_eq!(at("").unwrap(), Path::new("/"));
            assert_eq!(at("/a/b/..").unwrap(), Path::new("/a"));
            assert_eq!(at("/escape").unwrap_err(), Errno::NOENT);
            assert_eq!(at("/escape-absolute").unwrap_err(), Errno::NOENT);
            assert_eq!(at("/loop").unwrap_err(), Errno::LOOP);
            assert_eq!(at("/dangling").unwrap_err(), Errno::NOENT);
            assert_eq!(at("/magic").unwrap_err(), Errno::NOENT);
            assert_eq!(at("/file").unwrap_err(), Errno::NOTDIR);
            assert_eq!(at("/file/x").unwrap_err(), Errno::NOTDIR);
        }
    }

    #[test]
    fn a_missing_end_keeps_what_was_behind_it() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("a")).unwrap();
        symlink("/a/new/x", tmp.path().join("dangling")).unwrap();
        let beneath = Beneath::open(tmp.path()).unwrap();
        let end = beneath.walk(Path::new("/dangling/y/../z"), true).unwrap();
        assert!(end.stat.is_none());
        assert_eq!(end.real(), Path::new("/a/new/x/z"));
        assert_eq!(end.name.as_deref(), Some(OsStr::new("new")));
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_opened_in_steps() {
        let tmp = tempfile::tempdir().unwrap();
        let beneath = Beneath::open(tmp.path()).unwrap();
        let name = "n".repeat(250);
        let mut fd = duplicate(beneath.root()).unwrap();
        let mut path = PathBuf::from("/");
        for _ in 0..30 {
            rustix::fs::mkdirat(&fd, &*name, Mode::from(0o755)).unwrap();
            fd = open_folder(fd.as_fd(), &name).unwrap();
            path.push(&name);
        }
        let found = beneath.exact_folder(&path).unwrap();
        assert_eq!(stat_of(found.as_fd()).unwrap().ino, stat_of(fd.as_fd()).unwrap().ino);
        assert_eq!(beneath.folder(&path).unwrap().real, path);
    }
}
