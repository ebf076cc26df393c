//! Stages change places: a root's entries are moved out of it and into it again by rename, which costs the same for a
//! file and for a gigabyte.
//!
//! What is ignored stays where it is, and so do the folders that lead there; they are made anew on the other side and
//! what is in them moved. The same is done where the kernel says that a folder cannot be renamed: one that came from a
//! lower layer of overlayfs, or from another device (whose files are then copied). A folder that holds a mount point is
//! never renamed, since the mount would travel along.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, Uid};
use rustix::io::Errno;

use crate::attributes;
use crate::beneath::{Beneath, open_folder, open_listing, stat_at, stat_of};
use crate::error::During as _;
use crate::metadata::Stat;
use crate::place::{self, Dress, Shortfalls};
use crate::scaffold::Scaffold;
use crate::{Ignore, Kind, Result, RootFs, SnapshotError, mount_points};

/// Deeper trees than this are not gone down into: every level holds two folders open.
const DEEPEST: usize = 4096;

/// What a file or folder is called while it is made on the other side.
const UNFINISHED: &[u8] = b".zuwai-unfinished";

impl RootFs {
    /// Moves everything that is not ignored out of the root and into a folder of the machine, which is made if it is
    /// missing and should be empty; on the same filesystem this is a handful of renames. The folders that must stay
    /// (because they lead to something ignored) are left as plain as if nobody had ever made them: root's, mode 0755. Those
    /// that are no image's ([`RootFs::mark_scaffold`]) are not made on the other side.
    ///
    /// # Errors
    /// Names the path. What was moved before it stays moved: [`RootFs::restore`] brings it back.
    pub fn park(&self, into: &Path) -> Result<()> {
        std::fs::create_dir_all(into).during("make the folder", into)?;
        let target = Beneath::open(into).during("open", into)?;
        if let Ok(below) = target.path().strip_prefix(self.path()) {
            let image_path = Path::new("/").join(below);
            if !self.ignore().covers(&image_path) {
                let reason = "what is moved out of the root cannot be put into it";
                return Err(SnapshotError::InTheWay { path: image_path, reason });
            }
        }
        Mover::new(self.unmovable(), &target, Some(self.scaffold())).carry(self.beneath())?;
        self.plain_root()
    }

    /// The reverse of [`RootFs::park`]: moves everything in a folder of the machine into the root, merging with the
    /// folders that had to stay, which get their owner, mode, attributes and time back. Nothing ignored is written.
    /// The folder is empty afterwards, but for what the root ignores.
    ///
    /// # Errors
    /// Names the path; something else than a folder in the root is in the way.
    pub fn restore(&self, from: &Path) -> Result<()> {
        let source = Beneath::open(from).during("open", from)?;
        Mover::new(self.unmovable(), self.beneath(), None).carry(&source)
    }

    /// Removes everything that is not ignored. Folders that lead to something ignored stay, as plain as after
    /// [`RootFs::park`].
    pub fn clear(&self) -> Result<()> {
        let ignore = self.unmovable();
        let root = open_listing(self.beneath().root(), b".").during("list", "/")?;
        for name in place::list(root.as_fd()).during("list", "/")? {
            let path = Path::new("/").join(OsStr::from_bytes(&name));
            place::remove(root.as_fd(), &name, &path, &ignore).during("remove", &path)?;
        }
        self.plain_root()
    }

    /// The ignored paths and every mount point below the root.
    pub(crate) fn unmovable(&self) -> Ignore {
        self.ignore().with(mount_points_below(self.path()))
    }

    /// Makes the root and the folders that lead to something ignored plain.
    fn plain_root(&self) -> Result<()> {
        let unmovable = self.unmovable();
        let mut folders: Vec<&Path> = unmovable.iter().flat_map(|path| path.ancestors().skip(1)).collect();
        folders.sort_unstable();
        folders.dedup();
        for path in folders.into_iter().rev().chain([Path::new("/")]) {
            if let Ok(fd) = self.beneath().exact_folder(path) {
                plain(fd.as_fd()).during("reset the folder", path)?;
            }
        }
        Ok(())
    }
}

/// Takes owner, mode and attributes of a folder back to what it would have if nobody had said anything.
fn plain(folder: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let stat = stat_of(folder)?;
    if stat.mount {
        // The root of the container is a mount itself, and ours; any other one is not ours to change.
        let root = rustix::fs::open("/", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, Mode::empty())?;
        let root = stat_of(root.as_fd())?;
        if (root.dev, root.ino) != (stat.dev, stat.ino) {
            return Ok(());
        }
    }
    for (name, _) in attributes::read(folder, b".", Kind::Dir)? {
        attributes::remove(folder, b".", &name)?;
    }
    if (stat.uid, stat.gid) != (0, 0) {
        rustix::fs::chownat(folder, c".", Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::empty())?;
    }
    if stat.permissions() != 0o755 {
        rustix::fs::chmodat(folder, c".", Mode::from(0o755), AtFlags::empty())?;
    }
    Ok(())
}

/// The mount points below a folder of the machine, as paths inside it. Empty where the kernel does not say.
fn mount_points_below(root: &Path) -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let below = |point: PathBuf| {
        let below = point.strip_prefix(root).ok()?;
        below.file_name().is_some().then(|| Path::new("/").join(below))
    };
    mount_points(&table).into_iter().filter_map(below).collect()
}

struct Mover<'a> {
    ignore: Ignore,
    target: &'a Beneath,
    /// On the way out: folders that lead to something ignored stay where they are even if they are empty, and these of them
    /// are on the other side only if there is something in them.
    scaffold: Option<&'a Scaffold>,
    /// Files with several names that had to be copied: where the copy is.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<'a> Mover<'a> {
    fn new(ignore: Ignore, target: &'a Beneath, scaffold: Option<&'a Scaffold>) -> Self {
        Self { ignore, target, scaffold, links: HashMap::new() }
    }

    /// Moves everything in a folder into the target, whose own card becomes that folder's.
    fn carry(mut self, source: &Beneath) -> Result<()> {
        let stat = stat_of(source.root()).during("look at", "/")?;
        let dress = |target: BorrowedFd<'_>| {
            dress_like(source.root(), b".", &stat, target, b".").during("set owner and time of", "/")
        };
        dress(self.target.root())?;
        self.children(source.root(), self.target.root(), Path::new("/"), 0)?;
        dress(self.target.root())
    }

    fn children(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(SnapshotError::path("move", path, Errno::NAMETOOLONG));
        }
        let from = open_listing(from, b".").during("list", path)?;
        for name in place::list(from.as_fd()).during("list", path)? {
            let path = path.join(OsStr::from_bytes(&name));
            if !self.ignore.covers(&path) {
                self.entry(from.as_fd(), to, &name, &path, depth)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &[u8],
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        let stat = match stat_at(from, name) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.during("look at", path)?,
        };
        if stat.mount {
            return Ok(());
        }
        if name == UNFINISHED {
            return remove_unfinished(from).during("remove", path);
        }
        let there = match stat_at(to, name) {
            Err(Errno::NOENT) => None,
            there => Some(there.during("look at", path)?),
        };
        if let Some(there) = there {
            // A copy has its name only once it is whole: whoever was killed then had only to remove what was copied.
            if !stat.is_dir() && (there.mode, there.size, there.mtime) == (stat.mode, stat.size, stat.mtime) {
                return rustix::fs::unlinkat(from, name, AtFlags::empty()).during("remove", path);
            }
            if !(there.is_dir() && stat.is_dir()) {
                let reason = "something in the root is in the way of what comes back";
                return Err(SnapshotError::InTheWay { path: path.into(), reason });
            }
            return self.descend(from, to, name, &stat, path, depth);
        }
        if !(stat.is_dir() && self.ignore.leads_to(path)) {
            match rustix::fs::renameat(from, name, to, name) {
                Ok(()) => return Ok(()),
                Err(Errno::XDEV) => {}
                Err(error) => return Err(SnapshotError::path("move", path, error)),
            }
        }
        if stat.is_dir() {
            remove_unfinished(to).during("remove what was not finished beside", path)?;
            rustix::fs::mkdirat(to, UNFINISHED, Mode::from(0o700)).during("make the folder", path)?;
            // Before it has its name, for the way back when this goes no further; and again when it is full, for its time.
            dress_like(from, name, &stat, to, UNFINISHED).during("set owner and time of", path)?;
            rustix::fs::renameat(to, UNFINISHED, to, name).during("make the folder", path)?;
            self.descend(from, to, name, &stat, path, depth)
        } else {
            self.copy(from, to, name, &stat, path).during("move", path)
        }
    }

    /// Moves what is in a folder into the folder of that name on the other side.
    fn descend(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        let source = open_folder(from, OsStr::from_bytes(name)).during("open", path)?;
        let target = open_folder(to, OsStr::from_bytes(name)).during("open", path)?;
        self.children(source.as_fd(), target.as_fd(), path, depth + 1)?;
        dress_like(from, name, stat, to, name).during("set owner and time of", path)?;
        if let Some(scaffold) = self.scaffold
            && self.ignore.leads_to_path(path)
        {
            if scaffold.holds(path) {
                // With something in it that a look does not see, as a socket, it stays.
                let _ = rustix::fs::unlinkat(to, name, AtFlags::REMOVEDIR);
            }
            return Ok(());
        }
        match rustix::fs::unlinkat(from, name, AtFlags::REMOVEDIR) {
            // It leads to something that stays.
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(()),
            Err(error) => Err(SnapshotError::path("remove", path, error)),
        }
    }

    /// Moves one entry to another device.
    fn copy(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        path: &Path,
    ) -> rustix::io::Result<()> {
        let first = self.links.get(&(stat.dev, stat.ino));
        if let Some((folder, first)) = first.and_then(|first| first.parent().zip(first.file_name())) {
            rustix::fs::linkat(self.target.exact_folder(folder)?, first, to, name, AtFlags::empty())?;
        } else {
            let copied = place::duplicate(from, name, stat, to, UNFINISHED, &|| Ok(()))
                .and_then(|()| dress_like(from, name, stat, to, UNFINISHED))
                .and_then(|()| rustix::fs::renameat(to, UNFINISHED, to, name));
            if let Err(error) = copied {
                let _ = rustix::fs::unlinkat(to, UNFINISHED, AtFlags::empty());
                return Err(error);
            }
            if stat.nlink > 1 {
                self.links.insert((stat.dev, stat.ino), path.to_path_buf());
            }
        }
        rustix::fs::unlinkat(from, name, AtFlags::empty())
    }
}

/// Removes what was being made when somebody was killed: a file, or a folder with nothing in it.
fn remove_unfinished(from: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(from, UNFINISHED, AtFlags::empty()) {
        Err(Errno::ISDIR) => rustix::fs::unlinkat(from, UNFINISHED, AtFlags::REMOVEDIR),
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// Gives an entry the owner, mode, attributes and time of another.
fn dress_like(
    from: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    to: BorrowedFd<'_>,
    new_name: &[u8],
) -> rustix::io::Result<()> {
    let attributes = attributes::read(from, name, stat.kind())?;
    let dress = Dress { uid: stat.uid, gid: stat.gid, mode: stat.permissions(), mtime: Some(stat.mtime), attributes };
    // What cannot be set again could not have been set before either.
    place::dress(to, new_name, stat.kind(), &dress, None, Path::new(""), &mut Shortfalls::default())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn fill(root: &Path) {
        fs::create_dir_all(root.join("etc/ssl")).unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("etc/hosts"), "mounted").unwrap();
        fs::write(root.join("etc/passwd"), "root").unwrap();
        fs::write(root.join("usr/bin/tool"), "x").unwrap();
        fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/link")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o1750)).unwrap();
        std::os::unix::fs::chown(root.join("etc"), Some(7), Some(8)).unwrap();
        fs::File::open(root.join("etc")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }

    #[test]
    fn what_is_parked_comes_back_as_it_was_and_what_is_ignored_never_moves() {
        let tmp = tempfile::tempdir().unwrap();
        let (here, there) = (tmp.path().join("root"), tmp.path().join("parked"));
        fs::create_dir(&here).unwrap();
        fill(&here);
        let ignore = Ignore::new(["/etc/hosts".into()]);
        let root = RootFs::open(&here, ignore).unwrap();
        let whole = RootFs::open(&here, Ignore::default()).unwrap();
        let before = crate::tree::render(&whole).unwrap();

        root.park(&there).unwrap();
        assert_eq!(crate::tree::render(&whole).unwrap().lines().count(), 2, "only etc and etc/hosts stay");
        let etc = fs::metadata(here.join("etc")).unwrap();
        assert_eq!((etc.uid(), etc.mode() & 0o7777), (0, 0o755));
        let etc = fs::metadata(there.join("etc")).unwrap();
        assert_eq!((etc.uid(), etc.gid(), etc.mode() & 0o7777, etc.mtime()), (7, 8, 0o1750, 0));
        assert!(!there.join("etc/hosts").exists());

        root.restore(&there).unwrap();
        assert_eq!(crate::tree::render(&whole).unwrap(), before);
        assert_eq!(fs::metadata(here.join("etc")).unwrap().mtime(), 0);
        assert_eq!(fs::read_dir(&there).unwrap().count(), 0);

        root.clear().unwrap();
        assert_eq!(crate::tree::render(&whole).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_folder_that_was_being_made_when_somebody_was_killed_changes_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let (here, there) = (tmp.path().join("root"), tmp.path().join("parked"));
        fs::create_dir_all(&here).unwrap();
        fill(&here);
        let root = RootFs::open(&here, Ignore::new(["/etc/hosts".into()])).unwrap();
        let whole = RootFs::open(&here, Ignore::default()).unwrap();
        let before = crate::tree::render(&whole).unwrap();
        // Killed while /etc, which stays, was made on the other side; and then what follows a kill: all comes back.
        fs::create_dir_all(there.join(OsStr::from_bytes(UNFINISHED))).unwrap();
        fs::set_permissions(&there, fs::metadata(&here).unwrap().permissions()).unwrap();
        root.restore(&there).unwrap();
        assert_eq!((crate::tree::render(&whole).unwrap(), fs::read_dir(&there).unwrap().count()), (before.clone(), 0));
        // The same, and the next one parks again.
        fs::create_dir(there.join(OsStr::from_bytes(UNFINISHED))).unwrap();
        root.park(&there).unwrap();
        assert_eq!(fs::metadata(there.join("etc")).unwrap().mode() & 0o7777, 0o1750);
        assert!(!there.join(OsStr::from_bytes(UNFINISHED)).exists());
        root.restore(&there).unwrap();
        assert_eq!(crate::tree::render(&whole).unwrap(), before);
    }

    #[test]
    fn another_device_and_a_mount_below_are_no_obstacle() {
        let tmp = tempfile::tempdir().unwrap();
        let (here, there) = (tmp.path().join("root"), tmp.path().join("other"));
        fs::create_dir_all(here.join("srv/mounted")).unwrap();
        fs::create_dir(&there).unwrap();
        fill(&here);
        let _other = crate::scratch::mount_tmpfs(&there, "8m");
        let _below = crate::scratch::mount_tmpfs(&here.join("srv/mounted"), "1m");
        fs::write(here.join("srv/mounted/secret"), "s").unwrap();
        let root = RootFs::open(&here, Ignore::default()).unwrap();
        root.park(&there.join("deep/parked")).unwrap();
        let parked = there.join("deep/parked");
        assert_eq!(fs::read_to_string(here.join("srv/mounted/secret")).unwrap(), "s");
        assert!(!parked.join("srv/mounted").exists());
        let (tool, link) = (parked.join("usr/bin/tool"), parked.join("usr/bin/link"));
        assert_eq!(fs::metadata(tool).unwrap().ino(), fs::metadata(link).unwrap().ino());
        assert_eq!(fs::metadata(parked.join("etc")).unwrap().mtime(), 0);
        root.restore(&parked).unwrap();
        assert_eq!(fs::read_to_string(here.join("etc/passwd")).unwrap(), "root");
        assert_eq!(fs::read_to_string(here.join("srv/mounted/secret")).unwrap(), "s");
    }

    #[test]
    fn the_root_cannot_be_parked_within_itself() {
        let tmp = tempfile::tempdir().unwrap();
        let root = RootFs::open(tmp.path(), Ignore::default()).unwrap();
        assert!(matches!(root.park(&tmp.path().join("x")), Err(SnapshotError::InTheWay { .. })));
        let root = RootFs::open(tmp.path(), Ignore::new(["/work".into()])).unwrap();
        fs::write(tmp.path().join("file"), "").unwrap();
        root.park(&tmp.path().join("work/stage")).unwrap();
        assert!(tmp.path().join("work/stage/file").exists());
    }
}
