//! One look at a tree: which entries are as the index knows them, which are not, which are new, which are gone.
//!
//! The index is only read while threads look; what they find is put into it afterwards ([`conclude()`]).

mod conclude;
mod folder;
mod judge;
mod looker;
mod told;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use tracing::info_span;

use crate::beneath::{self, Beneath};
use crate::error::During as _;
use crate::index::{Arena, Children, Id, Index, Interned, Node, ROOT, Shape};
use crate::scaffold::Scaffold;
use crate::walk;
use crate::watch::{Marks, Watch};
use crate::{Change, Ignore, Result, RootFs, SnapshotError, SnapshotMode};

use conclude::conclude;
use folder::Folder;
use looker::Looker;
pub(crate) use told::{Audit, told};

/// What decides whether an entry is unchanged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) mode: SnapshotMode,
    /// Whether an unchanged card proves an unchanged entry: false hashes every entry.
    pub(crate) trusted: bool,
    /// An entry with a ctime from here on may have been changed later within the same tick, and is hashed.
    pub(crate) safe_before: i64,
    /// The content of new and changed files with a ctime from here on is hashed at once, since the next look will not
    /// believe their cards. Older ones are hashed when they are packed.
    pub(crate) hash_from: i64,
}

impl Rules {
    /// Whether an unchanged card proves that an entry is unchanged, a folder's that nothing was put into it or taken out of it.
    pub(crate) fn cards_prove(&self) -> bool {
        self.mode == SnapshotMode::Full && self.trusted
    }
}

/// A look that goes on, shared by its threads.
struct Look<'a> {
    index: &'a Index,
    beneath: &'a Beneath,
    ignore: &'a Ignore,
    scaffold: &'a Scaffold,
    rules: Rules,
    shapes: Mutex<Interned<Shape>>,
    attributes: Mutex<Interned<[u8; 16]>>,
    next: AtomicU32,
    seen: Vec<AtomicU64>,
    /// What is in folders that need not be listed.
    children: Option<Children>,
    /// Who watches the folders that are looked into.
    watch: Option<&'a Watch>,
    /// The folders in which something may have happened, where the look is at those alone.
    restless: Option<&'a Marks>,
    /// Folders changed places: what is known of them by number is not what is there by name.
    lost: AtomicBool,
}

/// What one thread found.
#[derive(Default)]
struct Found {
    names: Arena,
    added: Vec<Added>,
    touched: Vec<Touched>,
    /// Known entries that something covers now: a mount, or the ignore list.
    covered: Vec<Id>,
    /// Folders that went away between being seen and being opened.
    vanished: Vec<Id>,
    /// Folders in which nothing is that the index does not know then.
    listed: Vec<Id>,
    /// Folders that are watched now, with the kernel's numbers.
    watched: Vec<(Id, i32)>,
    newest: i128,
}

/// An entry that the index does not know.
struct Added {
    id: Id,
    node: Node,
    /// It is a folder that leads to something ignored: no change unless something lies in it.
    scaffold: bool,
}

/// A known entry whose card is another.
struct Touched {
    id: Id,
    node: Node,
    changed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a look gives.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) changes: Vec<Change>,
    /// The latest ctime of all, in nanoseconds.
    pub(crate) newest: i128,
    /// Paths of those changes that the kernel should have told before and did not.
    pub(crate) missed: Vec<PathBuf>,
}

/// Takes the whole tree into an index that knows of nothing yet.
pub(crate) fn first(index: &mut Index, root: &RootFs, rules: Rules) -> Result<Seen> {
    look_everywhere(index, root, rules, Report::Nothing, None, None)
}

/// Looks at the whole tree and brings the index up to date. What the kernel did not tell of it is said where somebody had
/// listened before.
pub(crate) fn everywhere(index: &mut Index, root: &RootFs, rules: Rules, audit: Option<&Audit>) -> Result<Seen> {
    look_everywhere(index, root, rules, Report::Everything, None, audit)
}

/// The same, from which on folders are watched.
pub(crate) fn watching(
    index: &mut Index,
    root: &RootFs,
    rules: Rules,
    watch: &mut Watch,
    audit: Option<&Audit>,
) -> Result<Seen> {
    look_everywhere(index, root, rules, Report::Everything, Some(watch), audit)
}

/// What of a look is concluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Report {
    /// Nobody asks what changed.
    Nothing,
    /// The whole tree was looked at.
    Everything,
    /// Some paths were.
    Paths,
}

fn look_everywhere(
    index: &mut Index,
    root: &RootFs,
    rules: Rules,
    report: Report,
    watch: Option<&mut Watch>,
    audit: Option<&Audit>,
) -> Result<Seen> {
    let _span = info_span!(target: "zuwai", "look").entered();
    let mut look = Look::new(index, root, rules);
    look.children = if rules.cards_prove() { index.children() } else { None };
    look.watch = watch.as_deref();
    let lookers = walk::walk(vec![Folder::root(index.len() > 1)], || Looker::new(&look))?;
    let mut found: Vec<Found> = lookers.into_iter().map(|looker| looker.found).collect();
    let parts = look.into_parts();
    if let Some(watch) = watch {
        told::take_watched(watch, &mut found);
    }
    Ok(conclude(index, parts, found, root.ignore(), report, audit))
}

/// Looks at some paths and the folders above them, and brings the index up to date with them.
pub(crate) fn at_paths(index: &mut Index, root: &RootFs, rules: Rules, paths: &[PathBuf]) -> Result<Seen> {
    let _span = info_span!(target: "zuwai", "look").entered();
    let (beneath, ignore) = (root.beneath(), root.ignore());
    let mut all: Vec<&Path> =
        paths.iter().flat_map(|path| path.ancestors()).filter(|path| path.file_name().is_some()).collect();
    all.sort_unstable();
    all.dedup();
    let named: HashSet<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let look = Look::new(index, root, rules);
    let mut looker = Looker::new(&look);
    // Entries of this look that the index does not know: numbers by path.
    let mut new: HashMap<&Path, Id> = HashMap::new();
    let mut gone: Vec<Id> = Vec::new();
    let mut open: Option<(&Path, OwnedFd)> = None;
    for path in all {
        let name = path.file_name().expect("paths without a name were left out").as_bytes();
        let above = path.parent().unwrap_or(Path::new("/"));
        if ignore.covers(path) {
            continue;
        }
        let known = index.at(path);
        if open.as_ref().is_none_or(|(at, _)| *at != above) {
            open = match beneath.exact_folder(above) {
                Ok(fd) => Some((above, fd)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                Err(error) => return Err(SnapshotError::path("open", above, error)),
            };
        }
        let stat = match open.as_ref().map(|(_, fd)| beneath::stat_at(fd.as_fd(), name)) {
            None | Some(Err(Errno::NOENT)) => {
                gone.extend(known);
                continue;
            }
            Some(stat) => beneath.seen(stat.during("look at", path)?),
        };
        let fd = open.as_ref().expect("it was open for the stat").1.as_fd();
        if stat.mount {
            continue;
        }
        let done = match known {
            Some(id) => looker.known(id, &stat, fd, name).map(|_| ()),
            None => looker.unknown(&stat, fd, name).map(|node| {
                // The folder above was taken up before: paths are in order.
                let parent = new.get(above).copied().or_else(|| index.at(above)).unwrap_or(ROOT);
                let id = look.next.fetch_add(1, Ordering::Relaxed);
                let name = looker.found.names.push(name);
                // What is named was made, or put there: it is no scaffold even if nothing is in it.
                let scaffold = stat.is_dir() && ignore.leads_to(path) && !named.contains(path);
                looker.found.added.push(Added { id, node: Node { parent, name, ..node }, scaffold });
                new.insert(path, id);
            }),
        };
        match done {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => gone.extend(known),
            done => done.during("look at", path)?,
        }
    }
    let mut found = looker.found;
    found.vanished.extend(gone);
    Ok(conclude(index, look.into_parts(), vec![found], ignore, Report::Paths, None))
}

type Parts = (Interned<Shape>, Interned<[u8; 16]>, Vec<AtomicU64>);

impl<'a> Look<'a> {
    fn new(index: &'a Index, root: &'a RootFs, rules: Rules) -> Self {
        Self {
            index,
            beneath: root.beneath(),
            ignore: root.ignore(),
            scaffold: root.scaffold(),
            rules,
            shapes: Mutex::new(index.shapes.clone()),
            attributes: Mutex::new(index.attributes.clone()),
            next: AtomicU32::new(index.len()),
            seen: (0..index.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            children: None,
            watch: None,
            restless: None,
            lost: AtomicBool::new(false),
        }
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn into_parts(self) -> Parts {
        let shapes = self.shapes.into_inner().unwrap_or_else(PoisonError::into_inner);
        (shapes, self.attributes.into_inner().unwrap_or_else(PoisonError::into_inner), self.seen)
    }

    fn see(&self, id: Id) {
        self.seen[id as usize / 64].fetch_or(1 << (id % 64), Ordering::Relaxed);
    }
}
