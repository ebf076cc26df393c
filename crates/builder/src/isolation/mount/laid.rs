//! Mounts without mount(2): way is made at the target, the thing is put there, and after the command what lies there is
//! removed and what was there put back.
//!
//! Files of another root are copied, since a command can write wherever it sees. A folder that keeps what is done to it
//! is moved in and out by rename; where it lies on another device, a link leads to it.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use zuwai_snapshot::{CopyRequest, Ignore, Include, Kind, Ownership, RootFs, Way, copy};

use super::agent::Serving;
use super::lent;
use super::{Card, Laid, Mount, MountError, MountSource};

/// Where scripts lie whose own folder lets nothing be executed: a container's /dev is often such a folder; or where it is
/// another one for the command, as in a root of its own, whose /dev has a link to here.
pub(in crate::isolation) const SCRIPTS: &str = "/run/buildkit/pipes";

/// Lays the mounts in their order, so that one can lie inside another. `aside` is a folder of the machine for what is in
/// the way; it is made.
pub(in crate::isolation) fn lay(
    mounts: &[Mount<'_>],
    root: &RootFs,
    aside: &Path,
) -> Result<Box<dyn Laid>, MountError> {
    let mut laid = Box::new(InPlace { guests: Vec::new() });
    for mount in mounts {
        if let Err(error) = laid.add(mount, root, aside) {
            // The first error is the one to tell.
            let _ = laid.take_out();
            return Err(error);
        }
    }
    Ok(laid)
}

/// Lays one mount at another place than its own, in another root.
pub(super) fn lay_at(
    mount: &Mount<'_>,
    place: &Path,
    root: &RootFs,
    aside: &Path,
) -> Result<Box<dyn Laid>, MountError> {
    let mut laid = Box::new(InPlace { guests: Vec::new() });
    match laid.add_at(mount, place, root, aside) {
        Ok(()) => Ok(laid),
        Err(error) => {
            let _ = laid.take_out();
            Err(error)
        }
    }
}

/// See [`lay`].
struct InPlace {
    guests: Vec<Guest>,
}

/// One thing that lies in the root.
struct Guest {
    way: Way,
    /// The folder that was moved in and goes back there.
    home: Option<PathBuf>,
    serving: Option<Serving>,
}

impl InPlace {
    fn add(&mut self, mount: &Mount<'_>, root: &RootFs, aside: &Path) -> Result<(), MountError> {
        self.add_at(mount, &mount.target, root, aside)
    }

    fn add_at(&mut self, mount: &Mount<'_>, target: &Path, root: &RootFs, aside: &Path) -> Result<(), MountError> {
        let target = &target.to_owned();
        let machine = |action| move |source: io::Error| MountError::Machine { target: target.clone(), action, source };
        let snapshot = |source| MountError::Root { target: target.clone(), source };
        fs::create_dir_all(aside).map_err(machine("make a folder for what is in the way"))?;
        let way = root.make_way(target, aside).map_err(snapshot)?;
        // From here on it is this list that gives the way back.
        self.guests.push(Guest { way, home: None, serving: None });
        let guest = self.guests.last_mut().expect("it was just pushed");
        let path = guest.way.machine_path();
        match &mount.source {
            MountSource::Tree { root, path, owner, include, .. } => {
                copy_tree(root, path, *owner, *include, &guest.way).map_err(snapshot)?;
            }
            MountSource::Folder(folder) => match lent::lend(folder, &path, guest.way.path()) {
                Ok(()) => guest.home = Some(folder.clone()),
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    symlink(folder, &path).map_err(machine("link to the folder"))?;
                }
                Err(source) => return Err(machine("move the folder there")(source)),
            },
            MountSource::ReadOnlyFolder(folder) => {
                let copied = RootFs::open(folder, Ignore::default())
                    .and_then(|root| copy_tree(&root, Path::new("/"), None, &|_| Include::Yes, &guest.way));
                copied.map_err(snapshot)?;
            }
            MountSource::Empty { .. } => {
                fs::create_dir(&path).and_then(|()| dress(&path, (0, 0, 0o1777))).map_err(machine("make a folder"))?;
            }
            MountSource::File(content, card) => {
                write(&path, content, *card).map_err(machine("write the file"))?;
            }
            MountSource::Script(content, card) => {
                let elsewhere = Path::new(SCRIPTS).join(target.file_name().unwrap_or_default());
                let leads = nothing_runs_in(&path).map_err(machine("look at the folder of the script"))?;
                if leads || root.path() != Path::new("/") {
                    symlink(&elsewhere, &path).map_err(machine("link to the script"))?;
                    guest.way.settle().map_err(snapshot)?;
                    let script = Mount { target: elsewhere, source: MountSource::File(content, *card) };
                    return self.add(&script, root, aside);
                }
                write(&path, content, *card).map_err(machine("write the script"))?;
            }
            MountSource::Socket(agent, card) => {
                let serving = agent.serve(&path).map_err(machine("make the socket"))?;
                guest.serving = Some(serving);
                dress(&path, *card).map_err(machine("make the socket"))?;
            }
        }
        guest.way.settle().map_err(snapshot)
    }
}

impl Laid for InPlace {
    /// The last laid goes first: it may lie in one before it.
    fn take_out(self: Box<Self>) -> Result<(), MountError> {
        let mut result = Ok(());
        for guest in self.guests.into_iter().rev() {
            let out = guest.take_out();
            result = result.and(out);
        }
        result
    }
}

impl Guest {
    fn take_out(mut self) -> Result<(), MountError> {
        drop(self.serving);
        let target = self.way.path().to_owned();
        if let Some(home) = &self.home {
            self.way.command_ended().map_err(|source| MountError::Root { target: target.clone(), source })?;
            let machine =
                |source| MountError::Machine { target: target.clone(), action: "move the folder back", source };
            match fs::symlink_metadata(self.way.machine_path()) {
                Ok(found) if found.is_dir() => fs::rename(self.way.machine_path(), home).map_err(machine)?,
                // The command has removed it, or put something else there: then the next build finds it empty.
                _ => {}
            }
            lent::is_back(home);
        }
        self.way.give_back().map_err(|source| MountError::Root { target, source })
    }
}

/// A copy of a file or folder, whose own card is the source's too.
fn copy_tree(
    root: &RootFs,
    path: &Path,
    owner: Option<(u32, u32)>,
    include: &dyn Fn(&Path) -> Include,
    way: &Way,
) -> Result<(), zuwai_snapshot::SnapshotError> {
    let folder = way.folder()?;
    let found = root.metadata(path)?;
    let card = found.map_or_else(Ownership::default, |found| {
        let (uid, gid) = owner.unwrap_or((found.uid, found.gid));
        Ownership { uid, gid, mode: found.mode }
    });
    if found.is_some_and(|found| found.kind == Kind::Dir) {
        folder.make_dirs(&way.name(), &card)?;
    }
    let below = |relative: &Path| include(&path.join(relative));
    let request = CopyRequest {
        source: root,
        from: path.to_owned(),
        to: way.name(),
        owner,
        mode: None,
        parents: card,
        include: &below,
        cancelled: None,
    };
    copy(&request, &folder).map(drop)
}

/// Whether the filesystem of a path's folder is mounted so that nothing in it can be executed.
fn nothing_runs_in(path: &Path) -> io::Result<bool> {
    let found = rustix::fs::statvfs(path.parent().unwrap_or(Path::new("/")))?;
    Ok(found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

fn write(path: &Path, content: &[u8], card: Card) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    dress(path, card)
}

fn dress(path: &Path, (uid, gid, mode): Card) -> io::Result<()> {
    chown(path, Some(uid), Some(gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use zuwai_snapshot::{Ignore, Scope, SnapshotMode};

    use super::*;

    fn everything(_: &Path) -> Include {
        Include::Yes
    }

    struct Place {
        image: tempfile::TempDir,
        work: tempfile::TempDir,
        root: RootFs,
    }

    fn place() -> Place {
        let image = tempfile::tempdir().unwrap();
        let root = RootFs::open(image.path(), Ignore::default()).unwrap();
        fs::create_dir_all(image.path().join("etc/there")).unwrap();
        fs::write(image.path().join("etc/there/own"), "own").unwrap();
        Place { image, work: tempfile::tempdir().unwrap(), root }
    }

    fn mount<'a>(target: &str, source: MountSource<'a>) -> Mount<'a> {
        Mount { target: target.into(), source }
    }

    #[test]
    fn every_kind_is_there_for_the_command_and_leaves_no_trace() {
        let place = place();
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("sub")).unwrap();
        fs::write(source.path().join("sub/file"), "bound").unwrap();
        let tree = RootFs::open(source.path(), Ignore::default()).unwrap();
        let cache = place.work.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let of_tree = |path: &str| MountSource::Tree {
            root: &tree,
            path: path.into(),
            owner: None,
            include: &everything,
            writable: false,
        };
        let mounts = [
            mount("/etc/there", of_tree("/sub")),
            mount("/etc/there/one", of_tree("/sub/file")),
            mount("/var/cache/x", MountSource::Folder(cache.clone())),
            mount("/run/secrets/s", MountSource::File(b"secret", (7, 8, 0o440))),
            mount("/scratch", MountSource::Empty { size: None }),
        ];
        let mut snapshotter = SnapshotMode::Full.snapshotter();
        snapshotter.reset(&place.root).unwrap();
        snapshotter.settle(&place.root).unwrap();
        let laid = lay(&mounts, &place.root, &place.work.path().join("aside")).unwrap();
        let inside = |path: &str| place.image.path().join(path);
        assert_eq!(fs::read(inside("etc/there/file")).unwrap(), b"bound");
        assert_eq!(fs::read(inside("etc/there/one")).unwrap(), b"bound");
        assert!(!inside("etc/there/own").exists());
        let secret = fs::metadata(inside("run/secrets/s")).unwrap();
        assert_eq!((secret.uid(), secret.gid(), secret.mode() & 0o7777), (7, 8, 0o440));
        assert_eq!(fs::metadata(inside("scratch")).unwrap().mode() & 0o7777, 0o1777);
        fs::write(inside("etc/there/file"), "changed").unwrap();
        fs::write(inside("var/cache/x/new"), "kept").unwrap();
        laid.take_out().unwrap();
        assert_eq!(snapshotter.changes(&place.root, &Scope::Everywhere).unwrap(), []);
        assert_eq!(fs::read(source.path().join("sub/file")).unwrap(), b"bound");
        assert_eq!(fs::read(cache.join("new")).unwrap(), b"kept");
        assert_eq!(fs::read(inside("etc/there/own")).unwrap(), b"own");
    }

    #[test]
    fn a_mount_that_cannot_be_laid_leaves_the_others_out_too() {
        let place = place();
        let mounts = [
            mount("/a/b", MountSource::Empty { size: None }),
            mount("/etc/there/own/x", MountSource::Empty { size: None }),
        ];
        let error = lay(&mounts, &place.root, &place.work.path().join("aside")).err().unwrap();
        assert_eq!(error.to_string(), "mount on /etc/there/own/x");
        assert!(!place.image.path().join("a").exists());
    }

    #[test]
    fn a_cache_that_the_command_removes_is_gone() {
        let place = place();
        let cache = place.work.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let mounts = [mount("/c", MountSource::Folder(cache.clone()))];
        let laid = lay(&mounts, &place.root, &place.work.path().join("aside")).unwrap();
        fs::remove_dir(place.image.path().join("c")).unwrap();
        fs::write(place.image.path().join("c"), "a file").unwrap();
        laid.take_out().unwrap();
        assert!(!cache.exists() && !place.image.path().join("c").exists());
    }
}
