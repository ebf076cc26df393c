//! A folder that is to be looked into, and how to get there again.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::index::{Id, ROOT};

/// A folder whose descriptor would be one too many is opened from the root again when its turn comes.
const DEEPEST_OPEN: u32 = 96;

/// The names from the root to a folder, without holding any of them open.
pub(super) struct Trail {
    up: Option<Arc<Trail>>,
    /// A component, or where nothing is above the path from the root.
    pub(super) name: Box<[u8]>,
}

impl Trail {
    pub(super) fn path(&self) -> PathBuf {
        let mut names = Vec::new();
        let mut trail = Some(self);
        while let Some(here) = trail {
            names.push(OsStr::from_bytes(&here.name));
            trail = here.up.as_deref();
        }
        let mut path = PathBuf::from("/");
        path.extend(names.into_iter().rev());
        path
    }
}

impl Drop for Trail {
    /// Step by step: a chain as deep as a hostile tree would end the stack.
    fn drop(&mut self) {
        let mut up = self.up.take();
        while let Some(mut trail) = up.and_then(Arc::into_inner) {
            up = trail.up.take();
        }
    }
}

/// A folder that is to be looked into.
pub(super) struct Folder {
    /// The folder above, while it is open.
    pub(super) above: Option<Arc<OwnedFd>>,
    pub(super) trail: Arc<Trail>,
    pub(super) id: Id,
    /// Whether the index may know something in it.
    pub(super) known: bool,
    /// Whether its card proves that nothing was put into it or taken out of it since the index got the card.
    pub(super) unchanged: bool,
    /// Its image path, if something ignored lies below it.
    pub(super) leads: Option<PathBuf>,
    /// Where a look begins at it: nobody else looks at the folder itself.
    pub(super) begins: bool,
    /// The entries to be asked for, where it is not all.
    pub(super) part: Option<Box<[Id]>>,
    depth: u32,
}

impl Folder {
    /// The root of the tree.
    pub(super) fn root(known: bool) -> Self {
        Self {
            above: None,
            trail: Arc::new(Trail { up: None, name: Box::default() }),
            id: ROOT,
            known,
            unchanged: false,
            leads: Some(PathBuf::from("/")),
            begins: false,
            part: None,
            depth: 0,
        }
    }

    /// A known folder at which a look begins.
    pub(super) fn beginning(path: &Path, id: Id, leads: bool) -> Self {
        let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().into();
        Self {
            trail: Arc::new(Trail { up: None, name }),
            id,
            leads: leads.then(|| path.to_owned()),
            begins: id != ROOT,
            ..Self::root(true)
        }
    }

    /// Some entries of a known folder.
    pub(super) fn part(path: &Path, id: Id, part: Vec<Id>) -> Self {
        Self { part: Some(part.into()), ..Self::beginning(path, id, false) }
    }

    /// An entry of this folder that is one itself, and new to the index.
    pub(super) fn below(&self, fd: &Arc<OwnedFd>, name: &[u8], id: Id, leads: Option<PathBuf>) -> Self {
        let depth = self.depth + 1;
        Self {
            above: (depth < DEEPEST_OPEN).then(|| Arc::clone(fd)),
            trail: Arc::new(Trail { up: Some(Arc::clone(&self.trail)), name: name.into() }),
            id,
            known: false,
            unchanged: false,
            leads,
            begins: false,
            part: None,
            depth,
        }
    }

    /// The same of one that the index knows; whether its card proves it unchanged.
    pub(super) fn known_below(
        &self,
        fd: &Arc<OwnedFd>,
        name: &[u8],
        id: Id,
        unchanged: bool,
        leads: Option<PathBuf>,
    ) -> Self {
        Self { known: true, unchanged, ..self.below(fd, name, id, leads) }
    }
}
