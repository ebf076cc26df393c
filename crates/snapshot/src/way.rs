//! Making way: something that is no part of the image lies at a path of a root for a while, and afterwards the root is
//! what it was, to the times of its folders.
//!
//! What was at the path is moved aside by rename. Folders above it that are missing are made, and removed when they are
//! empty at the end. What is put there is the caller's to decide: [`Way::folder`] and [`Way::name`] say where.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::beneath::{open_folder, stat_at, stat_of};
use crate::error::During as _;
use crate::place;
use crate::{Ignore, Kind, Result, RootFs, SnapshotError};

/// A free name in a root, and what it takes to give it back.
#[derive(Debug)]
pub struct Way {
    folder: OwnedFd,
    name: OsString,
    real: PathBuf,
    /// The kind of what was there.
    was: Option<Kind>,
    /// Where that is now.
    aside: Option<(OwnedFd, OsString)>,
    /// Folders that were made, from the top: the folder above each, and its name.
    made: Vec<(OwnedFd, OsString)>,
    /// The folder whose time must not tell of all this, and its time.
    witness: (OwnedFd, i128),
    /// That time as the command left it, where somebody else changes the folder before [`Way::give_back`] does.
    left: Option<i128>,
}

impl RootFs {
    /// Makes way at an image path, links followed; ignored places are no exception. What is there is moved into `aside`,
    /// a folder of the machine that is the caller's alone and exists, under a name that nothing else has there.
    ///
    /// # Errors
    /// The path is the root itself, something is mounted there, or a file is in the way of a folder above it.
    pub fn make_way(&self, path: &Path, aside: &Path) -> Result<Way> {
        let end = match self.beneath().walk(path, true) {
            Err(Errno::NOTDIR) => {
                let reason = "something that is not a folder is in the way of a folder";
                return Err(SnapshotError::InTheWay { path: path.into(), reason });
            }
            end => end.during("resolve", path)?,
        };
        let real = end.real();
        let Some(name) = end.name.clone() else {
            return Err(SnapshotError::InTheWay { path: real, reason: "nothing can be laid over the root itself" });
        };
        if end.stat.is_some_and(|stat| stat.mount) {
            return Err(SnapshotError::InTheWay { path: real, reason: "something is mounted there" });
        }
        let mtime = stat_of(end.folder.fd.as_fd()).during("look at", &real)?.mtime;
        let witness = (end.folder.fd.try_clone().map_err(|source| copy_error(&real, source))?, mtime);
        let mut way =
            Way { folder: end.folder.fd, name, real, was: None, aside: None, made: Vec::new(), witness, left: None };
        for next in end.rest {
            way.descend(next)?;
        }
        if let Some(stat) = end.stat {
            way.was = Some(stat.kind());
            way.move_aside(aside)?;
        }
        way.keep_time(way.witness.1)?;
        Ok(way)
    }
}

impl Way {
    /// The image path without links.
    pub fn path(&self) -> &Path {
        &self.real
    }

    /// What was there before.
    pub fn was(&self) -> Option<Kind> {
        self.was
    }

    /// The folder that holds the free name, as a root of its own in which nothing is ignored.
    pub fn folder(&self) -> Result<RootFs> {
        RootFs::open(&self.folder_path(), Ignore::default())
    }

    /// The free name in [`Way::folder`], as a path of that root.
    pub fn name(&self) -> PathBuf {
        Path::new("/").join(&self.name)
    }

    /// The free name as a path of this machine, good while the way is open, wherever its folder is moved to.
    pub fn machine_path(&self) -> PathBuf {
        self.folder_path().join(&self.name)
    }

    fn folder_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
    }

    /// To be called when everything was put there: the folder's time does not tell of it.
    pub fn settle(&self) -> Result<()> {
        self.keep_time(self.witness.1)
    }

    /// To be called before the caller takes away what it put there: what it does to the folder is not the command's doing.
    pub fn command_ended(&mut self) -> Result<()> {
        self.left = Some(stat_of(self.witness.0.as_fd()).during("look at", &self.real)?.mtime);
        Ok(())
    }

    /// Removes what is at the name now, whoever put it there, and puts back what was there before. Folders that were made
    /// for it are removed where nobody has put anything else into them.
    pub fn give_back(self) -> Result<()> {
        // What the command did to the folder in the meantime stays.
        let now = stat_of(self.witness.0.as_fd()).during("look at", &self.real)?.mtime;
        let mtime = self.left.unwrap_or(now);
        let name = self.name.as_bytes();
        place::remove(self.folder.as_fd(), name, &self.real, &Ignore::default()).during("remove", &self.real)?;
        if let Some((folder, old)) = &self.aside {
            match rustix::fs::renameat(folder, old, &self.folder, &self.name) {
                Ok(()) => {}
                // The command removed the folder with all that was in it.
                Err(Errno::NOENT) if stat_of(self.folder.as_fd()).is_ok_and(|stat| stat.nlink == 0) => {}
                Err(error) => return Err(SnapshotError::path("put back", &self.real, error)),
            }
        }
        for (folder, name) in self.made.iter().rev() {
            match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => break,
                Err(error) => return Err(SnapshotError::path("remove", &self.real, error)),
            }
        }
        self.keep_time(mtime)
    }

    /// Makes the folder of the name at hand, and takes the next name to be the free one.
    fn descend(&mut self, next: OsString) -> Result<()> {
        let mode = Mode::from(0o755);
        rustix::fs::mkdirat(&self.folder, &self.name, mode).during("make the folder", &self.real)?;
        rustix::fs::chmodat(&self.folder, &self.name, mode, AtFlags::empty()).during("make the folder", &self.real)?;
        let below = open_folder(self.folder.as_fd(), &self.name).during("open", &self.real)?;
        let above = std::mem::replace(&mut self.folder, below);
        self.made.push((above, std::mem::replace(&mut self.name, next)));
        Ok(())
    }

    /// Moves what is at the name aside; beside it, where the folder given lies on another device.
    fn move_aside(&mut self, aside: &Path) -> Result<()> {
        let folder = OwnedFd::from(File::open(aside).map_err(|source| copy_error(aside, source))?);
        let beside = self.folder.try_clone().map_err(|source| copy_error(&self.real, source))?;
        for (folder, stem) in [(folder, "was"), (beside, ".zuwai-was")] {
            let mut number = 0;
            let name = loop {
                let name = OsString::from(format!("{stem}-{number}"));
                match stat_at(folder.as_fd(), name.as_bytes()) {
                    Err(Errno::NOENT) => break name,
                    Err(error) => return Err(SnapshotError::path("look at", aside, error)),
                    Ok(_) => number += 1,
                }
            };
            match rustix::fs::renameat(&self.folder, &self.name, &folder, &name) {
                Ok(()) => {
                    self.aside = Some((folder, name));
                    return Ok(());
                }
                Err(Errno::XDEV) => {}
                Err(error) => return Err(SnapshotError::path("move aside", &self.real, error)),
            }
        }
        Err(SnapshotError::path("move aside", &self.real, Errno::XDEV))
    }

    fn keep_time(&self, mtime: i128) -> Result<()> {
        let path = self.real.parent().unwrap_or(Path::new("/"));
        match place::set_mtime(self.witness.0.as_fd(), OsStr::new(".").as_bytes(), mtime) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(SnapshotError::path("set the time of", path, error)),
        }
    }
}

fn copy_error(path: &Path, source: std::io::Error) -> SnapshotError {
    SnapshotError::Path { action: "open", path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::{Scope, SnapshotMode};

    fn root() -> (tempfile::TempDir, tempfile::TempDir, RootFs) {
        let tmp = tempfile::tempdir().unwrap();
        let root = RootFs::open(tmp.path(), Ignore::new(["/dev".into()])).unwrap();
        (tmp, tempfile::tempdir().unwrap(), root)
    }

    #[test]
    fn what_was_there_comes_back_and_nobody_sees_that_it_was_away() {
        let (tmp, aside, root) = root();
        fs::create_dir_all(tmp.path().join("d/old/sub")).unwrap();
        fs::write(tmp.path().join("d/file"), "kept").unwrap();
        symlink("/d", tmp.path().join("link")).unwrap();
        for path in ["/d/old", "/d/file", "/link/old", "/d/new", "/d/a/b/c"] {
            let mut snapshotter = SnapshotMode::Full.snapshotter();
            snapshotter.reset(&root).unwrap();
            snapshotter.settle(&root).unwrap();
            let way = root.make_way(Path::new(path), aside.path()).unwrap();
            assert!(!way.machine_path().exists(), "{path}");
            fs::create_dir(way.machine_path()).unwrap();
            fs::write(way.machine_path().join("x"), "guest").unwrap();
            way.settle().unwrap();
            way.give_back().unwrap();
            assert_eq!(snapshotter.changes(&root, &Scope::Everywhere).unwrap(), [], "{path}");
        }
        assert_eq!(fs::read(tmp.path().join("d/file")).unwrap(), b"kept");
        assert!(tmp.path().join("d/old/sub").is_dir() && !tmp.path().join("d/a").exists());
        assert_eq!(fs::read_dir(aside.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_the_command_does_beside_it_stays() {
        let (tmp, aside, root) = root();
        fs::create_dir(tmp.path().join("d")).unwrap();
        let way = root.make_way(Path::new("/d/a/b"), aside.path()).unwrap();
        fs::write(way.machine_path(), "guest").unwrap();
        way.settle().unwrap();
        fs::write(tmp.path().join("d/a/own"), "").unwrap();
        fs::write(tmp.path().join("d/own"), "").unwrap();
        let time = fs::metadata(tmp.path().join("d")).unwrap().mtime_nsec();
        way.give_back().unwrap();
        assert!(tmp.path().join("d/a/own").exists() && !tmp.path().join("d/a/b").exists());
        assert_eq!(fs::metadata(tmp.path().join("d")).unwrap().mtime_nsec(), time);
    }

    #[test]
    fn a_command_that_removes_everything_above_takes_it_with_it() {
        let (tmp, aside, root) = root();
        fs::create_dir_all(tmp.path().join("d/old")).unwrap();
        let way = root.make_way(Path::new("/d/old"), aside.path()).unwrap();
        fs::create_dir(way.machine_path()).unwrap();
        fs::remove_dir_all(tmp.path().join("d")).unwrap();
        way.give_back().unwrap();
        assert!(!tmp.path().join("d").exists());
    }

    #[test]
    fn a_way_lies_in_ignored_places_too_but_never_over_the_root_or_below_a_file() {
        let (tmp, aside, root) = root();
        fs::create_dir(tmp.path().join("dev")).unwrap();
        fs::write(tmp.path().join("file"), "").unwrap();
        root.make_way(Path::new("/dev/pipes"), aside.path()).unwrap().give_back().unwrap();
        for path in ["/", "/..", "/file/x"] {
            assert!(
                matches!(root.make_way(Path::new(path), aside.path()), Err(SnapshotError::InTheWay { .. })),
                "{path}"
            );
        }
    }
}
