//! Whether one entry is as the index knows it.

use std::os::fd::BorrowedFd;

use super::looker::Looker;
use super::{Touched, lock};
use crate::index::{Id, NO_HASH, Node, ROOT, Shape, UNKNOWN, low};
use crate::metadata::Stat;
use crate::{Kind, SnapshotMode, attributes, content};

impl Looker<'_, '_> {
    /// An entry that the index knows. Whether its card alone proves that it is unchanged.
    pub(super) fn known(&mut self, id: Id, stat: &Stat, at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<bool> {
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
            return Ok(true);
        }
        let mut node = *old;
        node.set(stat, shape);
        if stat.is_dir() {
            // What is in it was perhaps other things when it was listed.
            node.hash = NO_HASH;
        }
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
        Ok(false)
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
    pub(super) fn unknown(&mut self, stat: &Stat, at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Node> {
        self.found.newest = self.found.newest.max(stat.ctime);
        let mut node = Node::new(ROOT, stat, self.shape(stat));
        if self.look.rules.mode == SnapshotMode::Full {
            self.compute(&mut node, stat, at, name)?;
        }
        Ok(node)
    }

    /// What the next look compares by. Of a file whose content will be learned when it is packed the attributes will be as well.
    fn compute(&mut self, node: &mut Node, stat: &Stat, at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
        let (kind, rules) = (stat.kind(), self.look.rules);
        let has_content = kind == Kind::File && stat.size > 0;
        if has_content && rules.trusted && low(stat.ctime) < rules.hash_from {
            (node.attributes, node.hash) = (UNKNOWN, NO_HASH);
            return Ok(());
        }
        let attributes = attributes::digest(&attributes::read(at, name, kind)?);
        node.attributes = lock(&self.look.attributes).number(attributes);
        node.hash = match kind {
            Kind::File if has_content => content::of_file(at, name, &mut self.bytes)?,
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
