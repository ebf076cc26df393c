//! Folders that stand in a root only because something that is no part of the image lies below them: where a container has
//! a mount, the folders above it are there although no layer has them. Whoever makes such a folder finds it made; it is the
//! image's from then on, and looks as it was to be made.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::beneath::open_listing;
use crate::{Change, ChangeKind, Result, RootFs, SnapshotError, place};

/// See the module. Empty for a root that nobody was told of: see [`RootFs::mark_scaffold`].
#[derive(Debug, Default)]
pub(crate) struct Scaffold {
    /// Image paths, without links.
    all: BTreeSet<PathBuf>,
    /// Those that the image has meanwhile.
    taken: Mutex<BTreeSet<PathBuf>>,
}

impl RootFs {
    /// Takes every folder in the root that leads to something ignored, or to a mount, for one that no image has, until a
    /// layer, a copy or a command puts it, or something in it, there. For a root that is empty but for these.
    #[must_use]
    pub fn mark_scaffold(self) -> Self {
        let unmovable = self.unmovable();
        let above =
            unmovable.iter().flat_map(|path| path.ancestors().skip(1)).filter(|path| path.file_name().is_some());
        let all = above.filter(|path| self.beneath().exact_folder(path).is_ok()).map(Path::to_owned).collect();
        self.with_scaffold(Scaffold { all, taken: Mutex::default() })
    }

    /// Gives the image the folders that were none's so far ([`RootFs::mark_scaffold`]) and have something in them by now: what a
    /// look finds out, for a root that nobody looks at.
    ///
    /// # Errors
    /// Names the folder that could not be listed.
    pub fn settle_scaffold(&self) -> Result<()> {
        let scaffold = self.scaffold();
        if scaffold.all.is_empty() {
            return Ok(());
        }
        let unmovable = self.unmovable();
        for folder in &scaffold.all {
            let names = self.beneath().exact_folder(folder).and_then(|fd| {
                let listing = open_listing(fd.as_fd(), b".")?;
                place::list(listing.as_fd())
            });
            let mut paths = match names {
                Ok(names) => names.into_iter().map(|name| folder.join(OsStr::from_bytes(&name))),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(SnapshotError::path("list", folder, error)),
            };
            if paths.any(|path| !unmovable.covers(&path) && !scaffold.holds(&path)) {
                scaffold.take(folder);
            }
        }
        Ok(())
    }
}

impl Scaffold {
    /// Whether the folder is there and no image's.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.all.contains(path) && !self.taken.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Whether it was such a folder, and is the image's meanwhile.
    pub(crate) fn has_taken(&self, path: &Path) -> bool {
        self.all.contains(path) && !self.holds(path)
    }

    /// Those of a path and the folders above it that are no image's, from the top.
    pub(crate) fn above(&self, path: &Path) -> Vec<PathBuf> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let mut held: Vec<PathBuf> = path.ancestors().filter(|path| self.holds(path)).map(Path::to_owned).collect();
        held.reverse();
        held
    }

    /// The image has something at the path, and so the folders above it.
    pub(crate) fn take(&self, path: &Path) {
        let held = self.above(path);
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
    }

    /// The same for everything that appeared or changed, of a list in the order of paths.
    pub(crate) fn take_changed(&self, changes: &[Change]) {
        for path in &self.all {
            let begin = changes.partition_point(|change| change.path < *path);
            let mut below = changes[begin..].iter().take_while(|change| change.path.starts_with(path));
            if below.any(|change| change.kind != ChangeKind::Delete) {
                self.take(path);
            }
        }
    }

    /// The image has it no more, nor what is below it.
    pub(crate) fn give_back(&self, path: &Path) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).retain(|taken| !taken.starts_with(path));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;
    use crate::{
        ApplyOptions, CopyRequest, Ignore, Include, Ownership, Scope, SnapshotMode, WriteOptions, apply_tar, copy,
        write_tar,
    };

    /// A root in which nothing but the folders above two mounts is, and a place beside it.
    fn root() -> (tempfile::TempDir, RootFs, PathBuf) {
        let tmp = tempfile::tempdir().unwrap();
        for folder in ["root/etc", "root/var/run/secrets"] {
            fs::create_dir_all(tmp.path().join(folder)).unwrap();
        }
        fs::write(tmp.path().join("root/etc/hosts"), "mounted").unwrap();
        let ignore = Ignore::new(["/etc/hosts".into(), "/var/run/secrets".into(), "/none/at/all".into()]);
        let root = RootFs::open(&tmp.path().join("root"), ignore).unwrap().mark_scaffold();
        let aside = tmp.path().join("aside");
        (tmp, root, aside)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A layer with a folder of its own, `etc`.
    fn layer(folder: &Path) -> Vec<u8> {
        fs::create_dir_all(folder).unwrap();
        let other = RootFs::open(folder, Ignore::default()).unwrap();
        let mut snapshotter = SnapshotMode::Full.snapshotter();
        snapshotter.reset(&other).unwrap();
        fs::create_dir(folder.join("etc")).unwrap();
        fs::set_permissions(folder.join("etc"), fs::Permissions::from_mode(0o711)).unwrap();
        let changes = snapshotter.changes(&other, &Scope::Paths(vec!["/etc".into()])).unwrap();
        let mut tar = Vec::new();
        write_tar(&changes, &other, &mut tar, &WriteOptions::default()).unwrap();
        tar
    }

    #[test]
    fn folders_that_no_image_has_are_not_moved_aside() {
        let (_tmp, root, aside) = root();
        root.park(&aside).unwrap();
        assert!(names(&aside).is_empty());
        assert!(root.path().join("var/run/secrets").is_dir(), "they stay where they are");
    }

    #[test]
    fn who_makes_one_makes_it_and_it_is_moved_aside_from_then_on() {
        let (_tmp, root, aside) = root();
        let ownership = Ownership { uid: 7, gid: 8, mode: 0o2750 };
        assert!(!root.has_folder(Path::new("/var/run")));
        assert_eq!(
            root.make_dirs(Path::new("/var/run"), &ownership).unwrap(),
            [Path::new("/var"), Path::new("/var/run")]
        );
        assert!(root.has_folder(Path::new("/var/run")) && !root.has_folder(Path::new("/etc")));
        assert_eq!(root.make_dirs(Path::new("/var/run"), &Ownership::default()).unwrap(), Vec::<PathBuf>::new());
        root.park(&aside).unwrap();
        assert_eq!(names(&aside), ["var"]);
        let facts = fs::metadata(aside.join("var/run")).unwrap();
        assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o7777), (7, 8, 0o2750));
    }

    #[test]
    fn a_layer_gives_one_to_the_image_and_a_whiteout_takes_it_away() {
        let (tmp, root, aside) = root();
        let mut snapshotter = SnapshotMode::Full.snapshotter();
        snapshotter.reset(&root).unwrap();
        let tar = layer(&tmp.path().join("other"));
        snapshotter.adopt(&apply_tar(&mut tar.as_slice(), &root, &ApplyOptions::default()).unwrap());
        assert!(root.has_folder(Path::new("/etc")) && !root.has_folder(Path::new("/var")));
        assert!(snapshotter.changes(&root, &Scope::Everywhere).unwrap().is_empty());
        let mut gone = tar.clone();
        gone[..8].copy_from_slice(b".wh.etc\0");
        gone[156] = b'0';
        gone[148..156].copy_from_slice(b"        ");
        let sum: u32 = gone[..512].iter().map(|byte| u32::from(*byte)).sum();
        gone[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        snapshotter.adopt(&apply_tar(&mut gone.as_slice(), &root, &ApplyOptions::default()).unwrap());
        assert!(!root.has_folder(Path::new("/etc")));
        assert!(snapshotter.changes(&root, &Scope::Everywhere).unwrap().is_empty());
        root.park(&aside).unwrap();
        assert!(names(&aside).is_empty());
    }

    #[test]
    fn what_lies_in_them_gives_them_to_the_image_without_a_look() {
        let (_tmp, root, _) = root();
        let has = || {
            root.settle_scaffold().unwrap();
            ["/etc", "/var", "/var/run"].map(|path| root.has_folder(Path::new(path)))
        };
        assert_eq!(has(), [false, false, false], "a mount is nobody's");
        fs::create_dir(root.path().join("var/run/app")).unwrap();
        assert_eq!(has(), [false, true, true]);
    }

    #[test]
    fn what_a_command_or_a_copy_puts_into_one_gives_it_to_the_image() {
        let (tmp, root, aside) = root();
        let mut snapshotter = SnapshotMode::Full.snapshotter();
        snapshotter.reset(&root).unwrap();
        fs::write(root.path().join("etc/passwd"), "").unwrap();
        let changes = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
        let paths: Vec<_> = changes.iter().map(|change| change.path.clone()).collect();
        assert_eq!(paths, [Path::new("/etc"), Path::new("/etc/passwd")]);

        let source = tmp.path().join("source");
        fs::create_dir_all(source.join("var/run")).unwrap();
        fs::set_permissions(source.join("var"), fs::Permissions::from_mode(0o700)).unwrap();
        let request = CopyRequest {
            source: &RootFs::open(&source, Ignore::default()).unwrap(),
            from: "/".into(),
            to: "/".into(),
            owner: None,
            mode: None,
            parents: Ownership::default(),
            include: &|_| Include::Yes,
            cancelled: None,
        };
        let copied = copy(&request, &root).unwrap().paths;
        assert_eq!(copied, [Path::new("/var"), Path::new("/var/run")]);
        let changes = snapshotter.changes(&root, &Scope::Paths(copied)).unwrap();
        assert_eq!(changes.len(), 2, "an empty folder that was copied is a change: {changes:?}");
        assert!(snapshotter.changes(&root, &Scope::Everywhere).unwrap().is_empty());
        root.park(&aside).unwrap();
        assert_eq!(names(&aside), ["etc", "var"]);
        assert_eq!(fs::metadata(aside.join("var")).unwrap().mode() & 0o7777, 0o700);
    }
}
