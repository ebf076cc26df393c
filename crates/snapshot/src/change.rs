//! What a look found, and where it looked.

use std::path::PathBuf;

/// One difference between two looks.
///
/// A list of changes is ordered by path, component by component, as a walk with sorted folders meets them. A removed
/// folder is one change; what it held is implied. A folder that became something else is one `Modify`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// The image path, absolute, without links in its folders.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It was not there before.
    Add,
    /// It is there still, with another type, content, owner, mode, time, attribute or link.
    Modify,
    /// It is gone, with everything below it.
    Delete,
    /// It is as it was, and so is what it names, but another name of that file is new or changed: it is in the layer as a
    /// hard link, so that the two stay one file.
    Linked,
}

/// Where a look looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The whole root filesystem: every entry is asked for.
    Everywhere,
    /// The whole root filesystem, of which the kernel may say where anything happened at all (inotify(7)): what else is there is
    /// not asked for. Only of use from the second such look on, and only promised what it is where a look [`Everywhere`] comes
    /// after the last of them: that one finds what was not told, if there is such a thing ([`Snapshotter::missed`]).
    ///
    /// [`Everywhere`]: Scope::Everywhere
    /// [`Snapshotter::missed`]: crate::Snapshotter::missed
    Watched,
    /// These image paths and the folders above them, and nothing below them. The paths name what is meant without links,
    /// as [`copy()`](crate::copy()) and [`RootFs::make_dirs`](crate::RootFs::make_dirs) return them.
    Paths(Vec<PathBuf>),
}

impl Change {
    /// A change of the given kind at the given image path.
    pub fn new(kind: ChangeKind, path: impl Into<PathBuf>) -> Self {
        Self { kind, path: path.into() }
    }
}
