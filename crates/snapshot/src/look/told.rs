//! A look at what the kernel told of: folders in which nothing happened are left out.

use std::collections::HashSet;

use tracing::info_span;

use super::conclude::conclude;
use super::folder::Folder;
use super::looker::Looker;
use super::{Found, Look, Report, Rules, Seen, lock};
use crate::index::{Id, Index, Node, ROOT, Shape};
use crate::watch::{Marks, Watch};
use crate::{Kind, Result, RootFs, walk};

/// What has to be asked for, by what the kernel told.
pub(crate) struct Audit {
    /// Folders in which something happened, or that nobody watches.
    restless: Marks,
    /// Files with several names, whose folders need not know what was done to them by another name.
    linked: Vec<Id>,
    /// The index knew the numbers below this one.
    old_len: Id,
}

impl Audit {
    /// What a watch tells of a tree; it has to be of this index ([`Watch::holds`]), and to have listened.
    pub(crate) fn new(index: &Index, watch: &Watch) -> Self {
        let mut audit = Self { restless: Marks::default(), linked: Vec::new(), old_len: index.len() };
        if !watch.watches(ROOT) {
            audit.restless.set(ROOT);
        }
        let mut doubtful = Vec::new();
        for id in (1..index.len()).filter(|&id| index.is_alive(id)) {
            let node = index.node(id);
            match index.shape(node) {
                // Its folder has to say what it is.
                None => doubtful.push(node.parent),
                Some(shape) if is_dir(shape) && !watch.watches(id) && !is_hidden(index, watch, id) => {
                    audit.restless.set(id);
                }
                Some(shape) if !is_dir(shape) && shape.nlink > 1 => audit.linked.push(id),
                Some(_) => {}
            }
        }
        for id in doubtful.into_iter().filter(|&id| !is_hidden(index, watch, id)) {
            audit.restless.set(id);
        }
        audit
    }

    /// Whether the kernel told that something happened to an entry, or need not have. The entry's folder is the one that it
    /// was known in.
    pub(super) fn was_told(&self, index: &Index, id: Id) -> bool {
        let node = index.node(id);
        let is_linked = || index.shape(node).is_some_and(|shape| !is_dir(shape) && shape.nlink > 1);
        node.parent >= self.old_len || self.asks_for(index, id) || self.restless.has(id) || is_linked()
    }

    /// Whether an entry that is known is looked at by name, in its folder or alone.
    fn asks_for(&self, index: &Index, id: Id) -> bool {
        self.restless.has(index.node(id).parent) || self.linked.binary_search(&id).is_ok()
    }

    /// Where a look at no more than this begins.
    fn beginnings(&self, index: &Index, root: &RootFs) -> Vec<Folder> {
        let mut folders: Vec<Folder> = Vec::new();
        if self.restless.has(ROOT) {
            folders.push(Folder::root(true));
        }
        // One below a restless folder is come to from there.
        let begins = |&id: &Id| self.restless.has(id) && !self.restless.has(index.node(id).parent);
        folders.extend((1..index.len()).filter(begins).map(|id| {
            let path = index.path(id);
            Folder::beginning(&path, id, root.ignore().leads_to(&path))
        }));
        let linked = self.linked.iter().copied().filter(|&id| !self.restless.has(index.node(id).parent));
        folders.extend(parts(index, linked.collect()));
        folders
    }
}

/// Whether a mount or the ignore list hides a folder.
fn is_hidden(index: &Index, watch: &Watch, folder: Id) -> bool {
    let mut at = folder;
    while !watch.covered.is_empty() && at != ROOT {
        if watch.covered.contains(&at) {
            return true;
        }
        at = index.node(at).parent;
    }
    false
}

fn is_dir(shape: &Shape) -> bool {
    Kind::of_mode(shape.mode) == Some(Kind::Dir)
}

/// Entries, by their folders.
fn parts(index: &Index, mut ids: Vec<Id>) -> Vec<Folder> {
    let folder = |id: &Id| index.node(*id).parent;
    ids.sort_unstable_by_key(|id| (folder(id), *id));
    let parts = ids.chunk_by(|one, next| folder(one) == folder(next));
    parts.map(|part| Folder::part(&index.path(folder(&part[0])), folder(&part[0]), part.to_vec())).collect()
}

/// Looks at what the kernel told of and brings the index up to date. `None`, and nothing done, where that is not enough: a
/// folder is not the one that was known by its name.
pub(crate) fn told(
    index: &mut Index,
    root: &RootFs,
    rules: Rules,
    watch: &mut Watch,
    audit: &Audit,
) -> Result<Option<Seen>> {
    let _span = info_span!(target: "zuwai", "look").entered();
    let mut look = Look::new(index, root, rules);
    look.watch = Some(watch);
    look.restless = Some(&audit.restless);
    // What is in a folder where nothing happened is there still, as far as that folder is.
    for id in (1..index.len()).filter(|&id| index.is_alive(id) && !audit.asks_for(index, id)) {
        *look.seen[id as usize / 64].get_mut() |= 1 << (id % 64);
    }
    let mut lookers = walk::walk(audit.beginnings(index, root), || Looker::new(&look))?;
    let others = other_names(&look, audit, &lookers);
    lookers.extend(walk::walk(others, || Looker::new(&look))?);
    if look.is_lost() {
        return Ok(None);
    }
    let mut found: Vec<Found> = lookers.into_iter().map(|looker| looker.found).collect();
    let parts = look.into_parts();
    take_watched(watch, &mut found);
    Ok(Some(conclude(index, parts, found, root.ignore(), Report::Everything, None)))
}

/// Takes up what was watched in a look.
pub(super) fn take_watched(watch: &mut Watch, found: &mut [Found]) {
    for found in found {
        if !found.vanished.is_empty() {
            // Somebody is at work while nobody should be.
            watch.doubt();
        }
        watch.enter(found.watched.drain(..));
        watch.covered.extend(&found.covered);
        // A folder that only leads to something ignored is not in the index: the one above it has to be asked each time.
        for scaffold in found.added.iter().filter(|added| added.scaffold) {
            watch.leave(scaffold.node.parent);
        }
    }
}

/// Names that the index knows of files that have other names now, new or changed ones, and that nobody asked for yet.
fn other_names(look: &Look<'_>, audit: &Audit, lookers: &[Looker<'_, '_>]) -> Vec<Folder> {
    let shapes = lock(&look.shapes);
    let file = |node: &Node| shapes.value(node.shape).filter(|shape| !is_dir(shape)).map(|shape| (shape.dev, node.ino));
    let found = lookers.iter().flat_map(|looker| {
        let added = looker.found.added.iter().map(|added| &added.node);
        added.chain(looker.found.touched.iter().map(|touched| &touched.node))
    });
    let has_several = |node: &&Node| shapes.value(node.shape).is_some_and(|shape| !is_dir(shape) && shape.nlink > 1);
    let files: HashSet<(u64, u64)> = found.filter(has_several).filter_map(file).collect();
    if files.is_empty() {
        return Vec::new();
    }
    let index = look.index;
    let names = (1..index.len()).filter(|&id| index.is_alive(id) && !audit.asks_for(index, id));
    parts(index, names.filter(|&id| file(index.node(id)).is_some_and(|file| files.contains(&file))).collect())
}
