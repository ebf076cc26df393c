//! A file or folder that must be there while something is mounted over it, and that is no part of the image.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::beneath::{duplicate, open_folder, stat_at, stat_of};
use crate::error::During as _;
use crate::place::set_mtime;
use crate::{Kind, Result, RootFs, SnapshotError};

/// A place in a root on which something can be mounted: what was there, or what was made for it.
#[derive(Debug)]
pub struct Stub {
    on_machine: PathBuf,
    made: Vec<Made>,
}

/// Something that was not there before.
#[derive(Debug)]
struct Made {
    folder: OwnedFd,
    name: OsString,
    is_dir: bool,
    identity: (u64, u64),
}

impl RootFs {
    /// Sees to it that a regular file, or a folder, is at an image path: links are followed inside the root, and what is
    /// missing, folders above it included, is made, as root's with mode 0755 (a file 0644 and empty). The times of folders
    /// that were there are left as they were. `None`: something of another kind is there, or in the way.
    pub fn stub(&self, path: &Path, kind: Kind) -> Result<Option<Stub>> {
        let end = match self.beneath().walk(path, true) {
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(None),
            end => end.during("look at", path)?,
        };
        let real = end.real();
        let on_machine = self.path().join(real.strip_prefix("/").unwrap_or(&real));
        if let Some(stat) = end.stat {
            return Ok((stat.kind() == kind).then_some(Stub { on_machine, made: Vec::new() }));
        }
        let names: Vec<OsString> = end.name.into_iter().chain(end.rest).collect();
        let mut stub = Stub { on_machine, made: Vec::new() };
        let mut folder = end.folder.fd;
        for (number, name) in names.iter().enumerate() {
            let is_dir = number + 1 < names.len() || kind == Kind::Dir;
            match make(&folder, name, is_dir) {
                Ok(made) => stub.made.push(made),
                Err(error) => {
                    stub.remove()?;
                    return Err(SnapshotError::path("make something to mount on", real, error));
                }
            }
            if is_dir {
                folder = open_folder(folder.as_fd(), name).during("open", path)?;
            }
        }
        Ok(Some(stub))
    }
}

impl Stub {
    /// The place as a path of the machine, without links.
    pub fn on_machine(&self) -> &Path {
        &self.on_machine
    }

    /// Takes away what was made, unless somebody put something into it; folders that were there keep their times.
    ///
    /// # Errors
    /// Names the place.
    pub fn remove(self) -> Result<()> {
        for made in self.made.into_iter().rev() {
            made.remove().during("take away what was made to mount on", &self.on_machine)?;
        }
        Ok(())
    }
}

fn make(folder: &OwnedFd, name: &OsString, is_dir: bool) -> rustix::io::Result<Made> {
    let mtime = stat_of(folder.as_fd())?.mtime;
    if is_dir {
        rustix::fs::mkdirat(folder, name, Mode::from(0o755))?;
        rustix::fs::chmodat(folder, name, Mode::from(0o755), AtFlags::empty())?;
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(folder, name, flags, Mode::from(0o644))?;
    }
    set_mtime(folder.as_fd(), b".", mtime)?;
    let stat = stat_at(folder.as_fd(), name)?;
    Ok(Made { folder: duplicate(folder.as_fd())?, name: name.clone(), is_dir, identity: (stat.dev, stat.ino) })
}

impl Made {
    fn remove(self) -> rustix::io::Result<()> {
        let name = self.name.as_bytes();
        match stat_at(self.folder.as_fd(), name) {
            Ok(stat) if (stat.dev, stat.ino) == self.identity && (self.is_dir || stat.size == 0) => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
        let mtime = stat_of(self.folder.as_fd())?.mtime;
        let flags = if self.is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&self.folder, name, flags) {
            Ok(()) => set_mtime(self.folder.as_fd(), b".", mtime),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::Ignore;

    #[test]
    fn what_was_made_goes_again_and_no_time_moves() {
        let tmp = tempfile::tempdir().unwrap();
        let root = RootFs::open(tmp.path(), Ignore::default()).unwrap();
        fs::create_dir(tmp.path().join("etc")).unwrap();
        fs::write(tmp.path().join("etc/hosts"), "own").unwrap();
        symlink("/run/stub/resolv.conf", tmp.path().join("etc/resolv.conf")).unwrap();
        for folder in ["etc", "."] {
            fs::File::open(tmp.path().join(folder)).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let before = crate::tree::render(&root).unwrap();
        let time = |path: &str| fs::metadata(tmp.path().join(path)).unwrap().modified().unwrap();

        let hosts = root.stub(Path::new("/etc/hosts"), Kind::File).unwrap().unwrap();
        let resolv = root.stub(Path::new("/etc/resolv.conf"), Kind::File).unwrap().unwrap();
        let cache = root.stub(Path::new("/var/cache/x"), Kind::Dir).unwrap().unwrap();
        assert_eq!(hosts.on_machine(), root.path().join("etc/hosts"));
        assert_eq!(resolv.on_machine(), root.path().join("run/stub/resolv.conf"));
        assert!(resolv.on_machine().is_file() && cache.on_machine().is_dir());
        assert_eq!(time("."), std::time::UNIX_EPOCH);
        for stub in [hosts, resolv, cache] {
            stub.remove().unwrap();
        }
        assert_eq!(crate::tree::render(&root).unwrap(), before);
        assert_eq!((time("."), time("etc")), (std::time::UNIX_EPOCH, std::time::UNIX_EPOCH));
    }

    #[test]
    fn what_somebody_put_there_stays_and_another_kind_is_no_place() {
        let tmp = tempfile::tempdir().unwrap();
        let root = RootFs::open(tmp.path(), Ignore::default()).unwrap();
        fs::write(tmp.path().join("file"), "").unwrap();
        assert!(root.stub(Path::new("/file"), Kind::Dir).unwrap().is_none());
        assert!(root.stub(Path::new("/file/below"), Kind::File).unwrap().is_none());
        let stub = root.stub(Path::new("/a/b"), Kind::Dir).unwrap().unwrap();
        fs::write(tmp.path().join("a/b/kept"), "").unwrap();
        stub.remove().unwrap();
        assert!(tmp.path().join("a/b/kept").exists());
    }
}
