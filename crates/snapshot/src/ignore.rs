//! What is never part of an image: mount points, the kernel's filesystems, the builder's own folder.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

use crate::ignore_pattern::{IgnorePattern, IgnorePatternError};

/// A set of image paths that are not part of an image, each with everything below it.
///
/// Paths are compared as they are, component by component: whoever asks gives paths without links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    paths: BTreeSet<PathBuf>,
    patterns: Vec<IgnorePattern>,
}

impl Ignore {
    /// The given image paths and everything below them. A path below another adds nothing. `/` itself cannot be ignored
    /// and is left out, as is a path with `..` in it.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut all: BTreeSet<PathBuf> = paths.into_iter().filter_map(|path| clean(&path)).collect();
        let given = all.clone();
        all.retain(|path| !path.ancestors().skip(1).any(|above| given.contains(above)));
        Self { paths: all, patterns: Vec::new() }
    }

    /// The same set and what these match: absolute paths with the wildcards of Go's `path.Match` in their components.
    ///
    /// # Errors
    /// A bracket that is not closed, or a backslash before nothing.
    pub fn with_patterns<'a>(
        mut self,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, IgnorePatternError> {
        for pattern in patterns {
            let pattern = IgnorePattern::parse(pattern)?;
            if !self.patterns.contains(&pattern) {
                self.patterns.push(pattern);
            }
        }
        Ok(self)
    }

    /// Whether the path, or a folder above it, is in the set.
    pub fn covers(&self, path: &Path) -> bool {
        // The set is ordered by components and has no path below another, so the only one that may lead here is the last that
        // does not come after this one.
        let mut before = self.paths.range::<Path, _>((Bound::Unbounded, Bound::Included(path)));
        before.next_back().is_some_and(|last| path.starts_with(last))
            || self.patterns.iter().any(|pattern| pattern.covers(path))
    }

    /// Whether something in the set lies below the path, or may match something there (the path itself does not count).
    pub fn leads_to(&self, path: &Path) -> bool {
        self.leads_to_path(path) || self.patterns.iter().any(|pattern| pattern.leads_to(path))
    }

    /// The same for the paths alone: what they name is there, as far as anybody knows.
    pub(crate) fn leads_to_path(&self, path: &Path) -> bool {
        // The set is ordered by components, so what lies below a path comes right after it.
        let mut after = self.paths.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded));
        after.next().is_some_and(|next| next.starts_with(path))
    }

    /// The patterns, as written.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(IgnorePattern::text)
    }

    /// The paths of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    /// The same set and the given paths.
    #[must_use]
    pub fn with(&self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { patterns: self.patterns.clone(), ..Self::new(self.paths.iter().cloned().chain(paths)) }
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn covers_what_is_in_the_set_or_below_it(
            set in prop::collection::vec("(/[ab][ab-]?){1,3}", 0..6), path in "/|(/[ab][ab-]?){1,4}",
        ) {
            let set = Ignore::new(set.into_iter().map(PathBuf::from));
            let below_one = set.iter().any(|one| Path::new(&path).starts_with(one));
            prop_assert_eq!(set.covers(Path::new(&path)), below_one);
        }
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
    fn patterns_count_beside_paths_and_stay_when_paths_are_added() {
        let set = ignore(&["/etc/hosts"]).with_patterns(["/var/cache/*"]).unwrap().with(["/x".into()]);
        assert!(set.covers(Path::new("/var/cache/apt/x")) && set.covers(Path::new("/etc/hosts")));
        assert!(set.covers(Path::new("/x")) && !set.covers(Path::new("/var/cache")));
        assert!(set.leads_to(Path::new("/var")) && !set.leads_to(Path::new("/usr")));
        assert_eq!(set.patterns().collect::<Vec<_>>(), ["/var/cache/*"]);
    }

    #[test]
    fn a_path_below_another_adds_nothing_and_the_root_cannot_be_ignored() {
        let set = ignore(&["/dev/shm", "/dev", "/", "/a/../b"]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Path::new("/dev")]);
        assert!(!set.covers(Path::new("/")));
    }
}
