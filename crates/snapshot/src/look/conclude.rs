//! What was found, put into the index and told as changes.

use std::cmp;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Audit, Found, Parts, Report, Seen, Touched};
use crate::index::{Id, Index, LISTED, Node, ROOT, Shape};
use crate::{Change, ChangeKind, Ignore, Kind, content};

/// Brings the index up to date with what was found, and says what changed.
pub(super) fn conclude(
    index: &mut Index,
    (shapes, attributes, seen): Parts,
    mut found: Vec<Found>,
    ignore: &Ignore,
    report: Report,
    audit: Option<&Audit>,
) -> Seen {
    index.shapes = shapes;
    index.attributes = attributes;
    let old_len = index.len();
    let newest = found.iter().map(|found| found.newest).max().unwrap_or(i128::MIN);
    let sight = Sight {
        seen,
        vanished: found.iter_mut().flat_map(|found| found.vanished.drain(..)).collect(),
        covered: found.iter_mut().flat_map(|found| found.covered.drain(..)).collect(),
        everywhere: report != Report::Paths,
        old_len,
    };
    let gone = sight.gone(index);
    let touched = found.iter_mut().flat_map(|found| std::mem::take(&mut found.touched));
    let touched: Vec<Touched> = touched.filter(|touched| !sight.vanished.contains(&touched.id)).collect();
    let mut told = Told::default();
    for touched in touched {
        told.touched(index, &touched);
    }
    for &id in &gone {
        told.gone(index, id);
    }
    let listed: Vec<Id> = found.iter_mut().flat_map(|found| std::mem::take(&mut found.listed)).collect();
    let new = take_added(index, found, &sight.vanished);
    for id in listed {
        if id < index.len() && index.is_alive(id) && !sight.vanished.contains(&id) {
            index.node_mut(id).hash = LISTED;
        }
    }
    if report == Report::Nothing {
        return Seen { newest, ..Seen::default() };
    }
    for id in new {
        told.added(index, id);
    }
    told.other_names(index, &sight);
    let changes = told.changes(index, ignore);
    let missed = audit.map_or_else(Vec::new, |audit| told.missed(index, audit, ignore));
    told.forget(index, gone, old_len);
    Seen { changes, newest, missed }
}

/// What of the entries that were known is still in sight.
struct Sight {
    seen: Vec<AtomicU64>,
    vanished: HashSet<Id>,
    covered: HashSet<Id>,
    everywhere: bool,
    /// The index knew the numbers below this one.
    old_len: u32,
}

impl Sight {
    fn is_seen(&self, id: Id) -> bool {
        let is_marked = || self.seen[id as usize / 64].load(Ordering::Relaxed) >> (id % 64) & 1 == 1;
        id == ROOT || (is_marked() && !self.vanished.contains(&id))
    }

    /// What is gone. Entries below a gone one are implied.
    fn gone(&self, index: &Index) -> Vec<Id> {
        if self.everywhere { self.gone_of_all(index) } else { self.gone_of_some(index) }
    }

    fn gone_of_all(&self, index: &Index) -> Vec<Id> {
        let mut gone = Vec::new();
        // Below what is covered now nothing was looked at; it stays as it was known.
        let mut hidden = vec![false; if self.covered.is_empty() { 0 } else { self.old_len as usize }];
        for id in 1..self.old_len {
            if !index.is_alive(id) || self.is_seen(id) {
                continue;
            }
            let parent = index.node(id).parent;
            if !self.covered.is_empty() {
                hidden[id as usize] = self.covered.contains(&id) || hidden[parent as usize];
                if hidden[id as usize] {
                    continue;
                }
            }
            if self.is_seen(parent) {
                gone.push(id);
            }
        }
        gone
    }

    fn gone_of_some(&self, index: &Index) -> Vec<Id> {
        let mut gone: Vec<Id> = self.vanished.iter().copied().filter(|&id| id < self.old_len).collect();
        let all: HashSet<Id> = gone.iter().copied().collect();
        gone.retain(|&id| {
            let mut above = index.node(id).parent;
            while above != ROOT && !all.contains(&above) {
                above = index.node(above).parent;
            }
            above == ROOT
        });
        gone
    }
}

/// What will be told.
#[derive(Default)]
struct Told {
    changed: Vec<(Id, ChangeKind)>,
    /// Folders that are none any more.
    no_folders: HashSet<Id>,
    /// Folders that are other ones now, come from elsewhere with all that is in them.
    replaced: HashSet<Id>,
    /// Devices and inodes of new and changed files that have several names.
    relinked: HashSet<(u64, u64)>,
}

impl Told {
    /// A known entry has another card.
    fn touched(&mut self, index: &mut Index, touched: &Touched) {
        let (before, now) = (kind(index, index.node(touched.id)), kind(index, &touched.node));
        if before == Some(Kind::Dir) && now != Some(Kind::Dir) {
            self.no_folders.insert(touched.id);
        }
        if now == Some(Kind::Dir) && file(index, index.node(touched.id)) != file(index, &touched.node) {
            self.replaced.insert(touched.id);
        }
        *index.node_mut(touched.id) = touched.node;
        if touched.changed {
            match (before == Some(Kind::Socket), now == Some(Kind::Socket)) {
                (_, false) => self.changed.push((touched.id, ChangeKind::Modify)),
                (false, true) => self.changed.push((touched.id, ChangeKind::Delete)),
                (true, true) => {}
            }
            self.note_link(index, &touched.node);
        }
    }

    fn gone(&mut self, index: &Index, id: Id) {
        let node = index.node(id);
        if kind(index, node) != Some(Kind::Socket) && !self.no_folders.contains(&node.parent) {
            self.changed.push((id, ChangeKind::Delete));
        }
    }

    fn added(&mut self, index: &Index, id: Id) {
        self.changed.push((id, ChangeKind::Add));
        self.note_link(index, index.node(id));
    }

    fn note_link(&mut self, index: &Index, node: &Node) {
        if let Some(shape) = index.shape(node)
            && is_linked(shape)
        {
            self.relinked.insert((shape.dev, node.ino));
        }
    }

    /// All names of a file that has a new or changed name are in the layer, so that they are one file there as well.
    fn other_names(&mut self, index: &Index, sight: &Sight) {
        if self.relinked.is_empty() {
            return;
        }
        let told: HashSet<Id> = self.changed.iter().map(|&(id, _)| id).collect();
        let in_sight = |id: Id| !sight.everywhere || id >= sight.old_len || sight.is_seen(id);
        let linked = (1..index.len()).filter(|&id| {
            index.is_alive(id) && !told.contains(&id) && in_sight(id) && {
                let node = index.node(id);
                let shape = index.shape(node);
                shape.is_some_and(|shape| is_linked(shape) && self.relinked.contains(&(shape.dev, node.ino)))
            }
        });
        self.changed.extend(linked.map(|id| (id, ChangeKind::Linked)));
    }

    fn changes(&self, index: &Index, ignore: &Ignore) -> Vec<Change> {
        let mut changes: Vec<Change> =
            self.changed.iter().map(|&(id, kind)| Change::new(kind, index.path(id))).collect();
        changes.retain(|change| !ignore.covers(&change.path));
        changes.sort_unstable_by(|left, right| by_component(content::bytes(&left.path), content::bytes(&right.path)));
        changes
    }

    /// Paths of what the kernel should have told of.
    fn missed(&self, index: &Index, audit: &Audit, ignore: &Ignore) -> Vec<PathBuf> {
        let told = |id| {
            // What came with a folder was told where the folder was put.
            let mut at = id;
            while !audit.was_told(index, at) && self.replaced.contains(&index.node(at).parent) {
                at = index.node(at).parent;
            }
            audit.was_told(index, at)
        };
        let untold = self.changed.iter().filter(|&&(id, kind)| kind != ChangeKind::Linked && !told(id));
        untold.map(|&(id, _)| index.path(id)).filter(|path| !ignore.covers(path)).collect()
    }

    fn forget(self, index: &mut Index, gone: Vec<Id>, old_len: u32) {
        for id in gone {
            index.forget(id);
        }
        // A folder that became something else holds nothing any more.
        if !self.no_folders.is_empty() {
            for id in 1..old_len {
                if index.is_alive(id) && self.no_folders.contains(&index.node(id).parent) {
                    index.forget(id);
                }
            }
        }
        index.sweep();
    }
}

/// The order of [`Change`]s, whose paths here have no component but names: a separator comes before all that names are made of.
fn by_component(left: &[u8], right: &[u8]) -> cmp::Ordering {
    let same = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    let next = |path: &[u8]| path.get(same).map(|&byte| (byte != b'/', byte));
    next(left).cmp(&next(right))
}

/// Which file a node is of, by device and inode.
fn file(index: &Index, node: &Node) -> Option<(u64, u64)> {
    index.shape(node).map(|shape| (shape.dev, node.ino))
}

fn kind(index: &Index, node: &Node) -> Option<Kind> {
    index.shape(node).and_then(|shape| Kind::of_mode(shape.mode))
}

/// Whether it is a file, or anything else but a folder, with several names.
fn is_linked(shape: &Shape) -> bool {
    shape.nlink > 1 && Kind::of_mode(shape.mode) != Some(Kind::Dir)
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
    let needed = needed(index, &new, &scaffolds);
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

/// The scaffolds that something lies in which is no scaffold.
fn needed(index: &Index, new: &[Id], scaffolds: &HashSet<Id>) -> HashSet<Id> {
    let mut needed = HashSet::new();
    if scaffolds.is_empty() {
        return needed;
    }
    // A folder comes before what is in it, so from the end: what lies in a scaffold keeps it.
    for &id in new.iter().rev() {
        if !scaffolds.contains(&id) || needed.contains(&id) {
            let parent = index.node(id).parent;
            if scaffolds.contains(&parent) {
                needed.insert(parent);
            }
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn paths_have_the_order_of_their_components(
            left in prop::collection::vec("[!./0a]{1,3}", 1..5), right in prop::collection::vec("[!./0a]{1,3}", 1..5),
        ) {
            // Names that begin alike, and bytes on both sides of the separator.
            let path = |names: Vec<String>| {
                let names = names.join("/");
                let names = names.split('/').filter(|name| !["", ".", ".."].contains(name));
                names.fold(PathBuf::from("/"), |path, name| path.join(name))
            };
            let (left, right) = (path(left), path(right));
            let order = by_component(content::bytes(&left), content::bytes(&right));
            prop_assert_eq!(order, Path::cmp(&left, &right), "{} and {}", left.display(), right.display());
        }
    }
}
