//! All entries of a tree, compactly: one cache line an entry, its name in an arena, and a table to find it by its folder
//! and name. Folders do not list what is in them: an entry knows its folder, and that is enough for most questions asked. Who
//! asks the other one of many folders has all lists made at once ([`Index::children`]).

mod arena;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::metadata::Stat;

pub(crate) use arena::Arena;

/// Which entry. A folder's number is lower than those of the entries in it.
pub(crate) type Id = u32;

/// The root folder's number.
pub(crate) const ROOT: Id = 0;
/// The folder of an entry that is no more.
const DEAD: Id = u32::MAX;
/// The shape of an entry of which nothing but the name is known.
pub(crate) const UNKNOWN: u32 = u32::MAX;
/// No hash was computed.
pub(crate) const NO_HASH: [u8; 16] = [0; 16];

/// In place of a folder's hash: when its card was taken, or later, it was listed, or all that is in it was put there by who tells
/// so, and the index knows all that was in it.
pub(crate) const LISTED: [u8; 16] = [0xff; 16];

const NODES: usize = 4096;

/// What is the same for many entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) dev: u64,
    pub(crate) rdev: (u32, u32),
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    /// What of the modification time does not fit into 64 bits of nanoseconds.
    era: i32,
}

/// One entry's identity card, and what was computed of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) ino: u64,
    /// Nanoseconds, the lower 64 bits; the rest is in the shape.
    pub(crate) mtime: i64,
    /// Nanoseconds, the lower 64 bits.
    pub(crate) ctime: i64,
    pub(crate) size: u64,
    /// Of a file's content or a link's target; [`NO_HASH`] where it is not known. Of a folder, [`LISTED`] or nothing.
    pub(crate) hash: [u8; 16],
    pub(crate) parent: Id,
    /// Where in the arena its name begins.
    pub(crate) name: u32,
    pub(crate) shape: u32,
    /// Which set of extended attributes, see [`Interned`]. [`UNKNOWN`] where it is not known.
    pub(crate) attributes: u32,
}

const EMPTY: Node = Node {
    ino: 0,
    mtime: 0,
    ctime: 0,
    size: 0,
    hash: NO_HASH,
    parent: DEAD,
    name: 0,
    shape: UNKNOWN,
    attributes: UNKNOWN,
};

impl Shape {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.dev,
            rdev: stat.rdev,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            nlink: stat.nlink,
            #[allow(clippy::cast_possible_truncation, reason = "seconds have 64 bits, so nanoseconds have 94")]
            era: (stat.mtime >> 64) as i32,
        }
    }

    pub(crate) fn same_era(&self, other: &Self) -> bool {
        self.era == other.era
    }
}

/// The lower 64 bits of a time.
#[allow(clippy::cast_possible_truncation, reason = "the lower 64 bits are meant")]
pub(crate) fn low(time: i128) -> i64 {
    time as i64
}

impl Node {
    /// The card of an entry of which nothing is hashed yet.
    pub(crate) fn new(parent: Id, stat: &Stat, shape: u32) -> Self {
        let mut node = Self { parent, ..EMPTY };
        node.set(stat, shape);
        node
    }

    /// The card of an entry of which nothing is known but that there is one.
    pub(crate) fn unknown(parent: Id) -> Self {
        Self { parent, ..EMPTY }
    }

    pub(crate) fn set(&mut self, stat: &Stat, shape: u32) {
        self.ino = stat.ino;
        self.mtime = low(stat.mtime);
        self.ctime = low(stat.ctime);
        self.size = stat.size;
        self.shape = shape;
    }
}

/// Values that many entries share, by number.
#[derive(Debug, Clone)]
pub(crate) struct Interned<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T: Copy + Eq + std::hash::Hash> Interned<T> {
    fn new(first: Option<T>) -> Self {
        let mut interned = Self { values: Vec::new(), numbers: HashMap::new() };
        if let Some(first) = first {
            interned.number(first);
        }
        interned
    }

    pub(crate) fn number(&mut self, value: T) -> u32 {
        *self.numbers.entry(value).or_insert_with(|| {
            self.values.push(value);
            u32::try_from(self.values.len() - 1).expect("fewer distinct values than entries")
        })
    }

    pub(crate) fn value(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)
    }
}

/// All entries of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    nodes: Vec<Box<[Node]>>,
    /// How many numbers were given out, the dead among them.
    len: u32,
    dead: u32,
    /// How often all numbers were given out anew.
    numbering: u32,
    names: Arena,
    tags: Vec<u8>,
    slots: Vec<u32>,
    /// Slots in use, the abandoned among them.
    used: usize,
    pub(crate) shapes: Interned<Shape>,
    /// Digests of sets of extended attributes; number 0 is the empty set.
    pub(crate) attributes: Interned<[u8; 16]>,
    hasher: RandomState,
}

/// The entries of all folders, those of each in the order of their numbers.
pub(crate) struct Children {
    all: Vec<Id>,
    /// Where those of the folder with this number end.
    ends: Vec<u32>,
}

impl Children {
    pub(crate) fn of(&self, folder: Id) -> &[Id] {
        let begin = if folder == ROOT { 0 } else { self.ends[folder as usize - 1] };
        &self.all[begin as usize..self.ends[folder as usize] as usize]
    }
}

const FREE: u8 = 0;
const ABANDONED: u8 = 1;

impl Index {
    /// A tree of one folder, the root, of which nothing is known.
    pub(crate) fn new() -> Self {
        let mut index = Self {
            nodes: Vec::new(),
            len: 0,
            dead: 0,
            numbering: 0,
            names: Arena::default(),
            tags: vec![FREE; 64],
            slots: vec![0; 64],
            used: 0,
            shapes: Interned::new(None),
            attributes: Interned::new(Some([0; 16])),
            hasher: RandomState::new(),
        };
        let name = index.names.push(b"");
        index.place(ROOT, Node { parent: ROOT, name, ..EMPTY });
        index
    }

    /// What is in each folder; `None` where no folder is known to have been listed, so that nobody would use it.
    pub(crate) fn children(&self) -> Option<Children> {
        let alive = || (1..self.len).map(|id| (id, self.node(id))).filter(|(_, node)| node.parent != DEAD);
        if !alive().any(|(_, node)| node.hash == LISTED) {
            return None;
        }
        let mut ends = vec![0_u32; self.len as usize + 1];
        for (_, node) in alive() {
            ends[node.parent as usize + 1] += 1;
        }
        for place in 1..ends.len() {
            ends[place] += ends[place - 1];
        }
        // Each folder's beginning, which filling it moves to its end.
        let mut all = vec![0; ends[ends.len() - 1] as usize];
        for (id, node) in alive() {
            let place = &mut ends[node.parent as usize];
            all[*place as usize] = id;
            *place += 1;
        }
        Some(Children { all, ends })
    }

    /// How often entries were given other numbers.
    pub(crate) fn numbering(&self) -> u32 {
        self.numbering
    }

    /// How many numbers were given out.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize / NODES][id as usize % NODES]
    }

    pub(crate) fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize / NODES][id as usize % NODES]
    }

    pub(crate) fn is_alive(&self, id: Id) -> bool {
        self.node(id).parent != DEAD
    }

    pub(crate) fn shape(&self, node: &Node) -> Option<&Shape> {
        self.shapes.value(node.shape)
    }

    pub(crate) fn name(&self, id: Id) -> &[u8] {
        self.names.get(self.node(id).name)
    }

    /// The entry of that name in that folder.
    pub(crate) fn find(&self, parent: Id, name: &[u8]) -> Option<Id> {
        let hash = self.hash(parent, name);
        let (mut slot, tag) = (self.home(hash), tag(hash));
        loop {
            match self.tags[slot] {
                FREE => return None,
                found if found == tag => {
                    let id = self.slots[slot];
                    if self.is(id, parent, name) {
                        return Some(id);
                    }
                }
                _ => {}
            }
            slot = self.behind(slot);
        }
    }

    /// Whether the entry is the one of that name in that folder. False for a number that was not given out.
    pub(crate) fn is(&self, id: Id, parent: Id, name: &[u8]) -> bool {
        id < self.len && id != ROOT && {
            let node = self.node(id);
            node.parent == parent && self.names.get(node.name) == name
        }
    }

    /// The entry at an image path.
    pub(crate) fn at(&self, path: &Path) -> Option<Id> {
        path.components().try_fold(ROOT, |id, component| match component {
            Component::Normal(name) => self.find(id, name.as_bytes()),
            _ => Some(id),
        })
    }

    /// The image path of an entry.
    pub(crate) fn path(&self, id: Id) -> PathBuf {
        let mut ids = Vec::new();
        let mut id = id;
        while id != ROOT && id != DEAD {
            ids.push(id);
            id = self.node(id).parent;
        }
        let mut path = PathBuf::from("/");
        path.extend(ids.into_iter().rev().map(|id| OsStr::from_bytes(self.name(id))));
        path
    }

    /// Adds an entry under the next number.
    pub(crate) fn add(&mut self, name: &[u8], node: Node) -> Id {
        let id = self.len;
        let name = self.names.push(name);
        self.place(id, Node { name, ..node });
        self.enter(id);
        id
    }

    /// Takes over names that were collected elsewhere; see [`Arena::append`].
    pub(crate) fn take_names(&mut self, names: Arena) -> u32 {
        self.names.append(names)
    }

    /// Puts an entry under a number that was given out by [`Index::len`] and above, in any order; its name is in the
    /// arena. Numbers that stay empty are dead. It is found only after [`Index::enter`].
    pub(crate) fn place(&mut self, id: Id, node: Node) {
        while self.nodes.len() <= id as usize / NODES {
            self.nodes.push(vec![EMPTY; NODES].into_boxed_slice());
        }
        self.len = self.len.max(id + 1);
        *self.node_mut(id) = node;
    }

    /// Takes a placed entry back that was never entered.
    pub(crate) fn unplace(&mut self, id: Id) {
        self.node_mut(id).parent = DEAD;
        self.dead += 1;
    }

    /// Makes a placed entry one that is found.
    pub(crate) fn enter(&mut self, id: Id) {
        if (self.used + 1) * 8 > self.tags.len() * 7 {
            self.grow();
        }
        let hash = self.hash(self.node(id).parent, self.name(id));
        self.insert(hash, id);
    }

    fn insert(&mut self, hash: u64, id: Id) {
        let mut slot = self.home(hash);
        while self.tags[slot] > ABANDONED {
            slot = self.behind(slot);
        }
        self.used += usize::from(self.tags[slot] == FREE);
        self.tags[slot] = tag(hash);
        self.slots[slot] = id;
    }

    fn grow(&mut self) {
        let alive = (self.len - self.dead) as usize + 1;
        // Two thirds full. A power of two would be easier to reckon with and twice as large as needed on a bad day.
        let size = (alive + alive / 2).max(64);
        (self.tags, self.slots, self.used) = (vec![FREE; size], vec![0; size], 0);
        for id in 1..self.len {
            if self.is_alive(id) {
                let hash = self.hash(self.node(id).parent, self.name(id));
                self.insert(hash, id);
            }
        }
    }

    /// Forgets one entry. What is below it is found no more, and is forgotten by the next [`Index::sweep`].
    pub(crate) fn forget(&mut self, id: Id) {
        let hash = self.hash(self.node(id).parent, self.name(id));
        let mut slot = self.home(hash);
        while self.tags[slot] != FREE {
            if self.tags[slot] > ABANDONED && self.slots[slot] == id {
                self.tags[slot] = ABANDONED;
                break;
            }
            slot = self.behind(slot);
        }
        self.node_mut(id).parent = DEAD;
        self.dead += 1;
    }

    /// Forgets what lies below forgotten entries, and packs the index anew if much of it is dead. Numbers change.
    pub(crate) fn sweep(&mut self) {
        for id in 1..self.len {
            let parent = self.node(id).parent;
            if parent != DEAD && !self.is_alive(parent) {
                self.forget(id);
            }
        }
        if self.dead > 1024 && self.dead > self.len / 3 {
            self.pack();
        }
    }

    fn pack(&mut self) {
        let mut packed = Self { hasher: self.hasher.clone(), numbering: self.numbering + 1, ..Self::new() };
        packed.shapes = self.shapes.clone();
        packed.attributes = self.attributes.clone();
        let mut moved = vec![DEAD; self.len as usize];
        moved[0] = ROOT;
        *packed.node_mut(ROOT) = Node { name: packed.node(ROOT).name, ..*self.node(ROOT) };
        for id in 1..self.len {
            if self.is_alive(id) {
                let node = Node { parent: moved[self.node(id).parent as usize], ..*self.node(id) };
                moved[id as usize] = packed.add(self.name(id), node);
            }
        }
        *self = packed;
    }

    fn hash(&self, parent: Id, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    /// Where in the table the search for a hash begins: as far from its start as the hash is from zero.
    #[allow(clippy::cast_possible_truncation, reason = "the upper half of the product is less than the table's size")]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.tags.len() as u128) >> 64) as usize
    }

    fn behind(&self, slot: usize) -> usize {
        if slot + 1 == self.tags.len() { 0 } else { slot + 1 }
    }
}

/// What a slot says of the hash of what is in it: never one of the two words for an empty slot. The uppermost bits, which
/// say where the slot is, would say little more.
#[allow(clippy::cast_possible_truncation, reason = "the lowest byte is meant")]
fn tag(hash: u64) -> u8 {
    hash as u8 | 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_fits_a_cache_line() {
        assert_eq!(size_of::<Node>(), 64);
    }

    #[test]
    fn entries_are_found_until_they_or_a_folder_above_are_forgotten() {
        let mut index = Index::new();
        let mut ids = Vec::new();
        for dir in 0..50 {
            let dir_id = index.add(format!("dir{dir}").as_bytes(), Node { parent: ROOT, ..EMPTY });
            for file in 0..200 {
                let id = index.add(format!("file{file}").as_bytes(), Node { parent: dir_id, size: file, ..EMPTY });
                ids.push((dir, file, id));
            }
        }
        for &(dir, file, id) in &ids {
            assert_eq!(index.at(Path::new(&format!("/dir{dir}/file{file}"))), Some(id));
            assert_eq!(index.path(id), Path::new(&format!("/dir{dir}/file{file}")));
        }
        for dir in 0..40 {
            let id = index.at(Path::new(&format!("/dir{dir}"))).unwrap();
            index.forget(id);
        }
        index.sweep();
        for &(dir, file, _) in &ids {
            let found = index.at(Path::new(&format!("/dir{dir}/file{file}")));
            assert_eq!(found.map(|id| index.node(id).size), (dir >= 40).then_some(file));
        }
        assert!(index.len() < 2100, "the dead were not packed away: {}", index.len());
    }

    #[test]
    fn every_folder_has_its_own_entries_in_their_order() {
        let mut index = Index::new();
        let node = |parent| Node { parent, ..EMPTY };
        let (one, two) = (index.add(b"one", node(ROOT)), index.add(b"two", node(ROOT)));
        assert!(index.children().is_none(), "nobody listed anything");
        index.node_mut(two).hash = LISTED;
        let (a, b, c) = (index.add(b"a", node(two)), index.add(b"b", node(one)), index.add(b"c", node(two)));
        let gone = index.add(b"gone", node(two));
        index.forget(gone);
        let children = index.children().unwrap();
        let of = |id| children.of(id).to_vec();
        assert_eq!((of(ROOT), of(one), of(two), of(a)), (vec![one, two], vec![b], vec![a, c], vec![]));
    }

    #[test]
    fn a_name_of_255_bytes_and_many_names_keep_their_bytes() {
        let mut arena = Arena::default();
        let names: Vec<Vec<u8>> = (0..2000_u32).map(|n| vec![n.to_le_bytes()[0] | 1; 1 + n as usize % 255]).collect();
        let places: Vec<u32> = names.iter().map(|name| arena.push(name)).collect();
        for (name, place) in names.iter().zip(places) {
            assert_eq!(arena.get(place), name);
        }
    }
}
