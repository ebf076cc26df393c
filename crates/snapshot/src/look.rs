//! One look at a tree: which entries are as the index knows them, which are not, which are new, which are gone.
//!
//! The index is only read while threads look; what they find is put into it afterwards ([`conclude`]).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::RawDir;
use rustix::io::Errno;

use crate::beneath::{self, Beneath};
use crate::error::During as _;
use crate::index::{Arena, Id, Index, Interned, NO_HASH, Node, ROOT, Shape, low};
use crate::metadata::Stat;
use crate::walk::{self, Worker};
use crate::{Change, ChangeKind, Ignore, Kind, Result, SnapshotError, SnapshotMode, attributes, content};

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

/// A folder whose descriptor would be one too many is opened from the root again when its turn comes.
const DEEPEST_OPEN: u32 = 96;

/// A look that goes on, shared by its threads.
struct Look<'a> {
    index: &'a Index,
    beneath: &'a Beneath,
    ignore: &'a Ignore,
    rules: Rules,
    shapes: Mutex<Interned<Shape>>,
    attributes: Mutex<Interned<[u8; 16]>>,
    next: AtomicU32,
    seen: Vec<AtomicU64>,
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

/// The names from the root to a folder, without holding any of them open.
struct Trail {
    up: Option<Arc<Trail>>,
    name: Box<[u8]>,
}

impl Trail {
    fn path(&self) -> PathBuf {
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
pub(crate) struct Folder {
    /// The folder above, while it is open.
    above: Option<Arc<OwnedFd>>,
    trail: Arc<Trail>,
    id: Id,
    /// Whether the index may know something in it.
    known: bool,
    /// Its image path, if something ignored lies below it.
    leads: Option<PathBuf>,
    depth: u32,
}

/// One thread's part of a look.
struct Looker<'a, 'b> {
    look: &'a Look<'b>,
    found: Found,
    shape: Option<(Shape, u32)>,
    shapes: HashMap<Shape, u32>,
    listing: Vec<MaybeUninit<u8>>,
    bytes: Vec<u8>,
    /// Entries of the folder at hand that the index does not know.
    new: Vec<New>,
    /// Their names, one after the other.
    new_names: Vec<u8>,
}

struct New {
    name: std::ops::Range<usize>,
    node: Node,
    is_dir: bool,
    leads: Option<PathBuf>,
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
}

/// Takes the whole tree into an index that knows of nothing yet.
pub(crate) fn first(index: &mut Index, beneath: &Beneath, ignore: &Ignore, rules: Rules) -> Result<Seen> {
    look_everywhere(index, beneath, ignore, rules, Report::Nothing)
}

/// Looks at the whole tree and brings the index up to date.
pub(crate) fn everywhere(index: &mut Index, beneath: &Beneath, ignore: &Ignore, rules: Rules) -> Result<Seen> {
    look_everywhere(index, beneath, ignore, rules, Report::Everything)
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
    beneath: &Beneath,
    ignore: &Ignore,
    rules: Rules,
    report: Report,
) -> Result<Seen> {
    let look = Look::new(index, beneath, ignore, rules);
    let mut lookers: Vec<Looker<'_, '_>> = (0..walk::threads()).map(|_| Looker::new(&look)).collect();
    let root = Folder {
        above: None,
        trail: Arc::new(Trail { up: None, name: Box::default() }),
        id: ROOT,
        known: index.len() > 1,
        leads: Some(PathBuf::from("/")),
        depth: 0,
    };
    walk::walk(root, &mut lookers)?;
    let found = lookers.into_iter().map(|looker| looker.found).collect();
    Ok(conclude(index, look.into_parts(), found, ignore, report))
}

/// Looks at some paths and the folders above them, and brings the index up to date with them.
pub(crate) fn at_paths(
    index: &mut Index,
    beneath: &Beneath,
    ignore: &Ignore,
    rules: Rules,
    paths: &[PathBuf],
) -> Result<Seen> {
    let mut all: Vec<&Path> =
        paths.iter().flat_map(|path| path.ancestors()).filter(|path| path.file_name().is_some()).collect();
    all.sort_unstable();
    all.dedup();
    let look = Look::new(index, beneath, ignore, rules);
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
            Some(stat) => stat.during("look at", path)?,
        };
        let fd = open.as_ref().expect("it was open for the stat").1.as_fd();
        if stat.mount {
            continue;
        }
        let done = match known {
            Some(id) => looker.known(id, &stat, fd, name),
            None => looker.unknown(&stat, fd, name).map(|node| {
                // The folder above was taken up before: paths are in order.
                let parent = new.get(above).copied().or_else(|| index.at(above)).unwrap_or(ROOT);
                let id = look.next.fetch_add(1, Ordering::Relaxed);
                let name = looker.found.names.push(name);
                let scaffold = stat.is_dir() && ignore.leads_to(path);
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
    Ok(conclude(index, look.into_parts(), vec![found], ignore, Report::Paths))
}

type Parts = (Interned<Shape>, Interned<[u8; 16]>, Vec<AtomicU64>);

impl<'a> Look<'a> {
    fn new(index: &'a Index, beneath: &'a Beneath, ignore: &'a Ignore, rules: Rules) -> Self {
        Self {
            index,
            beneath,
            ignore,
            rules,
            shapes: Mutex::new(index.shapes.clone()),
            attributes: Mutex::new(index.attributes.clone()),
            next: AtomicU32::new(index.len()),
            seen: (0..index.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn into_parts(self) -> Parts {
        let shapes = self.shapes.into_inner().unwrap_or_else(PoisonError::into_inner);
        (shapes, self.attributes.into_inner().unwrap_or_else(PoisonError::into_inner), self.seen)
    }

    fn see(&self, id: Id) {
        self.seen[id as usize / 64].fetch_or(1 << (id % 64), Ordering::Relaxed);
    }
}

impl Worker for Looker<'_, '_> {
    type Task = Folder;

    fn work(&mut self, folder: Folder, more: &mut Vec<Folder>) -> Result<()> {
        match self.visit(&folder, more) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if folder.id != ROOT => {
                self.found.vanished.push(folder.id);
                Ok(())
            }
            Err(error) => Err(SnapshotError::path("look into", folder.trail.path(), error)),
        }
    }
}

impl<'a, 'b> Looker<'a, 'b> {
    fn new(look: &'a Look<'b>) -> Self {
        Self {
            look,
            found: Found { newest: i128::MIN, ..Found::default() },
            shape: None,
            shapes: HashMap::new(),
            listing: Vec::new(),
            bytes: Vec::new(),
            new: Vec::new(),
            new_names: Vec::new(),
        }
    }

    fn visit(&mut self, folder: &Folder, more: &mut Vec<Folder>) -> rustix::io::Result<()> {
        let fd = if let Some(above) = &folder.above {
            beneath::open_listing(above.as_fd(), &folder.trail.name)?
        } else {
            let path = self.look.beneath.exact_folder(&folder.trail.path())?;
            beneath::open_listing(path.as_fd(), b".")?
        };
        let fd = Arc::new(fd);
        let mut listing = std::mem::take(&mut self.listing);
        listing.resize(32 * 1024, MaybeUninit::uninit());
        let listed = self.list(folder, &fd, &mut listing, more);
        self.listing = listing;
        listed?;
        self.adopt_new(folder, &fd, more);
        Ok(())
    }

    fn list(
        &mut self,
        folder: &Folder,
        fd: &Arc<OwnedFd>,
        buffer: &mut [MaybeUninit<u8>],
        more: &mut Vec<Folder>,
    ) -> rustix::io::Result<()> {
        self.new.clear();
        self.new_names.clear();
        let mut guess = folder.id + 1;
        let mut entries = RawDir::new(fd.as_fd(), buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let stat = match beneath::stat_at(fd.as_fd(), entry.file_name()) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            // Entries stand in the index in the order in which their folder lists them, if they came in by a look: the
            // next one is mostly behind the last one, and no table is needed to find it.
            let known = match folder.known {
                false => None,
                true if self.look.index.is(guess, folder.id, name) => Some(guess),
                true => self.look.index.find(folder.id, name),
            };
            guess = known.map_or(guess, |id| id + 1);
            let mut leads = None;
            if let Some(above) = &folder.leads {
                let path = above.join(OsStr::from_bytes(name));
                if self.look.ignore.covers(&path) {
                    self.found.covered.extend(known);
                    continue;
                }
                leads = self.look.ignore.leads_to(&path).then_some(path);
            }
            if stat.mount {
                self.found.covered.extend(known);
                continue;
            }
            let looked = match known {
                Some(id) => self.known(id, &stat, fd.as_fd(), name).map(|()| {
                    if stat.is_dir() {
                        more.push(folder.below(fd, name, id, true, leads));
                    }
                }),
                None => self.unknown(&stat, fd.as_fd(), name).map(|node| {
                    let start = self.new_names.len();
                    self.new_names.extend_from_slice(name);
                    self.new.push(New { name: start..self.new_names.len(), node, is_dir: stat.is_dir(), leads });
                }),
            };
            match looked {
                // It went away, or became something else, while it was looked at: the next look will tell.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.found.vanished.extend(known),
                looked => looked?,
            }
        }
        Ok(())
    }

    /// Gives numbers to the new entries of a folder, one after the other.
    fn adopt_new(&mut self, folder: &Folder, fd: &Arc<OwnedFd>, more: &mut Vec<Folder>) {
        let count = u32::try_from(self.new.len()).expect("a folder has less than 2^32 entries");
        let first = self.look.next.fetch_add(count, Ordering::Relaxed);
        let names = std::mem::take(&mut self.new_names);
        for (id, new) in (first..).zip(self.new.drain(..)) {
            let name = &names[new.name];
            let scaffold = new.leads.is_some();
            if new.is_dir {
                more.push(folder.below(fd, name, id, false, new.leads));
            }
            let node = Node { parent: folder.id, name: self.found.names.push(name), ..new.node };
            self.found.added.push(Added { id, node, scaffold });
        }
        self.new_names = names;
    }

    /// An entry that the index knows.
    fn known(&mut self, id: Id, stat: &Stat, at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
        self.look.see(id);
        self.found.newest = self.found.newest.max(stat.ctime);
        let old = self.look.index.node(id);
        let shape = self.shape(stat);
        let rules = self.look.rules;
        let same_card = old.ctime == low(stat.ctime)
            && old.mtime == low(stat.mtime)
            && old.ino == stat.ino
            && old.size == stat.size
            && old.shape == shape;
        let proved = rules.mode != SnapshotMode::Full || (rules.trusted && old.ctime < rules.safe_before);
        if same_card && proved {
            return Ok(());
        }
        let mut node = *old;
        node.set(stat, shape);
        let changed = match self.look.index.shape(old) {
            // Nothing was known but that there is something.
            None => {
                if rules.mode == SnapshotMode::Full {
                    let attributes = attributes::digest(&attributes::read(at, name, stat.kind())?);
                    node.attributes = lock(&self.look.attributes).number(attributes);
                }
                false
            }
            Some(before) => {
                let before = *before;
                match rules.mode {
                    SnapshotMode::Time => {
                        old.mtime != node.mtime || Kind::of_mode(before.mode) != Kind::of_mode(stat.mode)
                    }
                    SnapshotMode::Redo => differs(old, &before, &node, stat) || old.size != stat.size,
                    SnapshotMode::Full => self.differs(old, &before, &mut node, stat, at, name)?,
                }
            }
        };
        if changed || node != *old {
            self.found.touched.push(Touched { id, node, changed });
        }
        Ok(())
    }

    /// Whether metadata, attributes or content are others. What is computed on the way is kept in the new card.
    fn differs(
        &mut self,
        old: &Node,
        before: &Shape,
        node: &mut Node,
        stat: &Stat,
        at: BorrowedFd<'_>,
        name: &[u8],
    ) -> rustix::io::Result<bool> {
        let kind = stat.kind();
        let moved = (old.ino, before.dev) != (stat.ino, stat.dev);
        let relinked = moved && kind != Kind::Dir && (before.nlink > 1 || stat.nlink > 1);
        if differs(old, before, node, stat) || (kind == Kind::File && old.size != stat.size) || relinked {
            self.compute(node, stat, at, name)?;
            return Ok(true);
        }
        let attributes = attributes::digest(&attributes::read(at, name, kind)?);
        node.attributes = lock(&self.look.attributes).number(attributes);
        let mut differ = node.attributes != old.attributes;
        match kind {
            Kind::File if stat.size > 0 => {
                if old.hash == NO_HASH {
                    differ = true;
                    self.compute(node, stat, at, name)?;
                } else {
                    node.hash = content::of_file(at, name, &mut self.bytes)?;
                    differ |= node.hash != old.hash;
                }
            }
            Kind::Symlink => {
                node.hash = content::of_link(at, name)?;
                differ |= node.hash != old.hash;
            }
            _ => {}
        }
        Ok(differ)
    }

    /// The card of an entry that the index does not know.
    fn unknown(&mut self, stat: &Stat, at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Node> {
        self.found.newest = self.found.newest.max(stat.ctime);
        let mut node = Node::new(ROOT, stat, self.shape(stat));
        if self.look.rules.mode == SnapshotMode::Full {
            self.compute(&mut node, stat, at, name)?;
        }
        Ok(node)
    }

    /// What the next look compares by, as far as it will not be learned when the entry is packed.
    fn compute(&mut self, node: &mut Node, stat: &Stat, at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
        let kind = stat.kind();
        let attributes = attributes::digest(&attributes::read(at, name, kind)?);
        node.attributes = lock(&self.look.attributes).number(attributes);
        let rules = self.look.rules;
        node.hash = match kind {
            Kind::File if stat.size > 0 && (!rules.trusted || low(stat.ctime) >= rules.hash_from) => {
                content::of_file(at, name, &mut self.bytes)?
            }
            Kind::Symlink => content::of_link(at, name)?,
            _ => NO_HASH,
        };
        Ok(())
    }

    fn shape(&mut self, stat: &Stat) -> u32 {
        let shape = Shape::of(stat);
        if let Some((last, number)) = self.shape
            && last == shape
        {
            return number;
        }
        let look = self.look;
        let number = *self.shapes.entry(shape).or_insert_with(|| lock(&look.shapes).number(shape));
        self.shape = Some((shape, number));
        number
    }
}

/// Whether type, mode, owner, device number or time are others.
fn differs(old: &Node, before: &Shape, node: &Node, stat: &Stat) -> bool {
    let now = Shape::of(stat);
    (before.mode, before.uid, before.gid) != (now.mode, now.uid, now.gid)
        || (before.rdev != now.rdev && matches!(stat.kind(), Kind::CharDevice | Kind::BlockDevice))
        || old.mtime != node.mtime
        || !before.same_era(&now)
}

impl Folder {
    fn below(&self, fd: &Arc<OwnedFd>, name: &[u8], id: Id, known: bool, leads: Option<PathBuf>) -> Self {
        let depth = self.depth + 1;
        Self {
            above: (depth < DEEPEST_OPEN).then(|| Arc::clone(fd)),
            trail: Arc::new(Trail { up: Some(Arc::clone(&self.trail)), name: name.into() }),
            id,
            known,
            leads,
            depth,
        }
    }
}

/// Brings the index up to date with what was found, and says what changed.
fn conclude(index: &mut Index, parts: Parts, mut found: Vec<Found>, ignore: &Ignore, report: Report) -> Seen {
    let everything = report != Report::Paths;
    let (shapes, attributes, seen) = parts;
    index.shapes = shapes;
    index.attributes = attributes;
    let old_len = index.len();
    let newest = found.iter().map(|found| found.newest).max().unwrap_or(i128::MIN);
    let vanished: HashSet<Id> = found.iter().flat_map(|found| found.vanished.iter().copied()).collect();
    let covered: HashSet<Id> = found.iter().flat_map(|found| found.covered.iter().copied()).collect();
    let is_seen = |id: Id| {
        id == ROOT || (seen[id as usize / 64].load(Ordering::Relaxed) >> (id % 64) & 1 == 1 && !vanished.contains(&id))
    };

    let mut changed: Vec<(Id, ChangeKind)> = Vec::new();
    // What is gone. Entries below a gone one are implied.
    let mut gone: Vec<Id> = Vec::new();
    if everything {
        // Below what is covered now nothing was looked at; it stays as it was known.
        let mut hidden = vec![false; if covered.is_empty() { 0 } else { old_len as usize }];
        for id in 1..old_len {
            if !index.is_alive(id) || is_seen(id) {
                continue;
            }
            let parent = index.node(id).parent;
            if !covered.is_empty() {
                hidden[id as usize] = covered.contains(&id) || hidden[parent as usize];
                if hidden[id as usize] {
                    continue;
                }
            }
            if is_seen(parent) {
                gone.push(id);
            }
        }
    } else {
        gone.extend(vanished.iter().copied().filter(|&id| id < old_len));
        let all: HashSet<Id> = gone.iter().copied().collect();
        gone.retain(|&id| {
            let mut above = index.node(id).parent;
            while above != ROOT && !all.contains(&above) {
                above = index.node(above).parent;
            }
            above == ROOT
        });
    }

    let mut relinked: HashSet<(u64, u64)> = HashSet::new();
    // Known entries that have another card.
    let mut no_folders: HashSet<Id> = HashSet::new();
    for touched in found.iter_mut().flat_map(|found| found.touched.drain(..)) {
        if vanished.contains(&touched.id) {
            continue;
        }
        let kind = |node: &Node, index: &Index| index.shape(node).and_then(|shape| Kind::of_mode(shape.mode));
        let (before, now) = (kind(index.node(touched.id), index), kind(&touched.node, index));
        if before == Some(Kind::Dir) && now != Some(Kind::Dir) {
            no_folders.insert(touched.id);
        }
        *index.node_mut(touched.id) = touched.node;
        if touched.changed {
            match (before == Some(Kind::Socket), now == Some(Kind::Socket)) {
                (_, false) => changed.push((touched.id, ChangeKind::Modify)),
                (false, true) => changed.push((touched.id, ChangeKind::Delete)),
                (true, true) => {}
            }
            note_link(&mut relinked, &touched.node, index);
        }
    }
    for id in &gone {
        let socket = index.shape(index.node(*id)).is_some_and(|shape| Kind::of_mode(shape.mode) == Some(Kind::Socket));
        if !socket && !no_folders.contains(&index.node(*id).parent) {
            changed.push((*id, ChangeKind::Delete));
        }
    }
    let new = take_added(index, found, &vanished);
    if report == Report::Nothing {
        return Seen { changes: Vec::new(), newest };
    }
    for &id in &new {
        changed.push((id, ChangeKind::Add));
        let node = *index.node(id);
        note_link(&mut relinked, &node, index);
    }

    // All names of a file that has a new or changed name are in the layer, so that they are one file there as well.
    if !relinked.is_empty() {
        let told: HashSet<Id> = changed.iter().map(|&(id, _)| id).collect();
        let linked = (1..index.len()).filter(|&id| {
            index.is_alive(id) && !told.contains(&id) && (!everything || id >= old_len || is_seen(id)) && {
                let node = index.node(id);
                index
                    .shape(node)
                    .is_some_and(|shape| shape.nlink > 1 && !is_dir(shape) && relinked.contains(&(shape.dev, node.ino)))
            }
        });
        let linked: Vec<Id> = linked.collect();
        changed.extend(linked.into_iter().map(|id| (id, ChangeKind::Modify)));
    }

    let mut changes: Vec<Change> = changed.into_iter().map(|(id, kind)| Change::new(kind, index.path(id))).collect();
    changes.retain(|change| !ignore.covers(&change.path));
    changes.sort_unstable();
    for id in gone {
        index.forget(id);
    }
    // A folder that became something else holds nothing any more.
    if !no_folders.is_empty() {
        for id in 1..old_len {
            if index.is_alive(id) && no_folders.contains(&index.node(id).parent) {
                index.forget(id);
            }
        }
    }
    index.sweep();
    Seen { changes, newest }
}

fn is_dir(shape: &Shape) -> bool {
    Kind::of_mode(shape.mode) == Some(Kind::Dir)
}

fn note_link(relinked: &mut HashSet<(u64, u64)>, node: &Node, index: &Index) {
    if let Some(shape) = index.shape(node)
        && shape.nlink > 1
        && !is_dir(shape)
    {
        relinked.insert((shape.dev, node.ino));
    }
}

/// Puts the new entries into the index, folders that only lead to something ignored left out, and says which they are.
fn take_added(index: &mut Index, found: Vec<Found>, vanished: &HashSet<Id>) -> Vec<Id> {
    let mut scaffolds: HashSet<Id> = HashSet::new();
    let mut new: Vec<Id> = Vec::new();
    for found in found {
        let moved = index.take_names(found.names);
        for added in found.added {
            if vanished.contains(&added.id) {
                continue;
            }
            index.place(added.id, Node { name: added.node.name + moved, ..added.node });
            if added.scaffold {
                scaffolds.insert(added.id);
            }
            new.push(added.id);
        }
    }
    new.sort_unstable();
    // A folder comes before what is in it, so from the end: what lies in a scaffold keeps it.
    let mut needed: HashSet<Id> = HashSet::new();
    for &id in new.iter().rev() {
        if !scaffolds.contains(&id) || needed.contains(&id) {
            let parent = index.node(id).parent;
            if scaffolds.contains(&parent) {
                needed.insert(parent);
            }
        }
    }
    let mut kept = Vec::with_capacity(new.len());
    for id in new {
        let lost = !index.is_alive(index.node(id).parent);
        if lost || (scaffolds.contains(&id) && !needed.contains(&id)) {
            index.unplace(id);
        } else {
            index.enter(id);
            kept.push(id);
        }
    }
    kept
}
