//! What is never part of an image: mount points, the kernel's filesystems, the builder's own folder.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// A set of image paths that are not part of an image, each with everything below it.
///
/// Paths are compared as they are, component by component: whoever asks gives paths without links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    paths: BTreeSet<PathBuf>,
}

impl Ignore {
    /// The given image paths and everything below them. A path below another adds nothing. `/` itself cannot be ignored
    /// and is left out, as is a path with `..` in it.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut all: BTreeSet<PathBuf> = paths.into_iter().filter_map(|path| clean(&path)).collect();
        let given = all.clone();
        all.retain(|path| !path.ancestors().skip(1).any(|above| given.contains(above)));
        Self { paths: all }
    }

    /// Whether the path, or a folder above it, is in the set.
    pub fn covers(&self, path: &Path) -> bool {
        !self.paths.is_empty() && path.ancestors().any(|above| self.paths.contains(above))
    }

    /// Whether something in the set lies below the path (the path itself does not count).
    pub fn leads_to(&self, path: &Path) -> bool {
        // The set is ordered by components, so what lies below a path comes right after it.
        let mut after = self.paths.range::<Path, _>((std::ops::Bound::Excluded(path), std::ops::Bound::Unbounded));
        after.next().is_some_and(|next| next.starts_with(path))
    }

    /// The paths of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    /// The same set and the given paths.
    #[must_use]
    pub fn with(&self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::new(self.paths.iter().cloned().chain(paths))
    }
}

fn clean(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (out != Path::new("/")).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore(paths: &[&str]) -> Ignore {
        Ignore::new(paths.iter().map(PathBuf::from))
    }

    #[test]
    fn covers_the_path_and_what_lies_below_but_not_a_name_that_begins_alike() {
        let set = ignore(&["/proc", "/etc/hosts", "kaniko/"]);
        assert!(set.covers(Path::new("/proc")));
        assert!(set.covers(Path::new("/proc/1/root")));
        assert!(set.covers(Path::new("/kaniko")));
        assert!(!set.covers(Path::new("/process")));
        assert!(!set.covers(Path::new("/etc")));
        assert!(!set.covers(Path::new("/etc/hosts.allow")));
    }

    #[test]
    fn leads_to_says_whether_something_lies_below() {
        let set = ignore(&["/etc/hosts", "/var/run/secrets/token"]);
        assert!(set.leads_to(Path::new("/")));
        assert!(set.leads_to(Path::new("/etc")));
        assert!(set.leads_to(Path::new("/var/run")));
        assert!(!set.leads_to(Path::new("/etc/hosts")));
        assert!(!set.leads_to(Path::new("/etc/ho")));
        assert!(!set.leads_to(Path::new("/usr")));
    }

    #[test]
    fn a_path_below_another_adds_nothing_and_the_root_cannot_be_ignored() {
        let set = ignore(&["/dev/shm", "/dev", "/", "/a/../b"]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Path::new("/dev")]);
        assert!(!set.covers(Path::new("/")));
    }
}
