//! One thread of a look: it lists folders and hands each entry on to be judged (`judge`).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::RawDir;
use rustix::io::Errno;

use super::folder::Folder;
use super::{Added, Found, Look};
use crate::index::{Id, LISTED, Node, ROOT, Shape};
use crate::metadata::Stat;
use crate::walk::Worker;
use crate::{Kind, Result, SnapshotError, beneath};

/// One thread's part of a look.
pub(super) struct Looker<'a, 'b> {
    pub(super) look: &'a Look<'b>,
    pub(super) found: Found,
    pub(super) shape: Option<(Shape, u32)>,
    pub(super) shapes: HashMap<Shape, u32>,
    listing: Vec<MaybeUninit<u8>>,
    pub(super) bytes: Vec<u8>,
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

impl Worker for Looker<'_, '_> {
    type Task = Folder;

    fn work(&mut self, folder: Folder, more: &mut Vec<Folder>) -> Result<()> {
        match self.visit(&folder, more) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if folder.begins => {
                self.look.lose();
                Ok(())
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if folder.id != ROOT => {
                self.found.vanished.push(folder.id);
                Ok(())
            }
            Err(error) => Err(SnapshotError::path("look into", folder.trail.path(), error)),
        }
    }
}

impl<'a, 'b> Looker<'a, 'b> {
    pub(super) fn new(look: &'a Look<'b>) -> Self {
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
        if self.look.is_lost() {
            return Ok(());
        }
        if let Some(part) = &folder.part {
            let fd = self.look.beneath.exact_folder(&folder.trail.path())?;
            return self.ask(folder, &Arc::new(fd), part, more);
        }
        if let Some(children) = self.children(folder) {
            let fd = match &folder.above {
                Some(above) => beneath::open_folder(above.as_fd(), OsStr::from_bytes(&folder.trail.name))?,
                None => self.look.beneath.exact_folder(&folder.trail.path())?,
            };
            self.watch(folder, fd.as_fd());
            return self.ask(folder, &Arc::new(fd), children, more);
        }
        let fd = if let Some(above) = &folder.above {
            beneath::open_listing(above.as_fd(), &folder.trail.name)?
        } else {
            let path = self.look.beneath.exact_folder(&folder.trail.path())?;
            beneath::open_listing(path.as_fd(), b".")?
        };
        if folder.begins {
            let stat = self.look.beneath.seen(beneath::stat_at(fd.as_fd(), ".")?);
            self.known(folder.id, &stat, fd.as_fd(), b".")?;
            self.is_entered(folder.id, &stat);
        }
        self.watch(folder, fd.as_fd());
        let fd = Arc::new(fd);
        let mut listing = std::mem::take(&mut self.listing);
        listing.resize(32 * 1024, MaybeUninit::uninit());
        let listed = self.list(folder, &fd, &mut listing, more);
        self.listing = listing;
        let is_whole = listed?;
        if is_whole && folder.leads.is_none() && self.look.rules.cards_prove() {
            self.found.listed.push(folder.id);
        }
        self.adopt_new(folder, &fd, more);
        Ok(())
    }

    /// Watches a folder that is looked into, where folders are watched.
    fn watch(&mut self, folder: &Folder, fd: BorrowedFd<'_>) {
        if let Some(number) = self.look.watch.and_then(|watch| watch.add(fd)) {
            self.found.watched.push((folder.id, number));
        }
    }

    /// Whether a known entry that is a folder now is looked into: not one that is watched, and in which nothing happened.
    fn is_entered(&self, id: Id, stat: &Stat) -> bool {
        let Some(restless) = &self.look.restless else { return true };
        let old = self.look.index.node(id);
        match self.look.index.shape(old) {
            Some(shape) if Kind::of_mode(shape.mode) == Some(Kind::Dir) => {
                // Another folder of that name came from somewhere else, with all that is in it.
                if (old.ino, shape.dev) != (stat.ino, stat.dev) {
                    self.look.lose();
                }
                restless.has(id)
            }
            _ => true,
        }
    }

    /// What is in the folder, where the index knows all of it and the folder's card proves that it is so still.
    fn children(&self, folder: &Folder) -> Option<&'a [Id]> {
        let knows = folder.unchanged && folder.leads.is_none() && self.look.index.node(folder.id).hash == LISTED;
        self.look.children.as_ref().filter(|_| knows).map(|children| children.of(folder.id))
    }

    /// Asks for the entries of a folder one by one, without listing it.
    fn ask(
        &mut self,
        folder: &Folder,
        fd: &Arc<OwnedFd>,
        children: &[Id],
        more: &mut Vec<Folder>,
    ) -> rustix::io::Result<()> {
        for &id in children {
            let name = self.look.index.name(id);
            let stat = match beneath::stat_at(fd.as_fd(), name) {
                Err(Errno::NOENT) => continue,
                stat => self.look.beneath.seen(stat?),
            };
            if stat.mount {
                self.found.covered.push(id);
                continue;
            }
            match self.known(id, &stat, fd.as_fd(), name) {
                Ok(unchanged) if stat.is_dir() && self.is_entered(id, &stat) => {
                    more.push(folder.known_below(fd, name, id, unchanged, None));
                }
                Ok(_) => {}
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.found.vanished.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lists a folder and looks at each entry. False where one was passed over, so that the index does not know all.
    fn list(
        &mut self,
        folder: &Folder,
        fd: &Arc<OwnedFd>,
        buffer: &mut [MaybeUninit<u8>],
        more: &mut Vec<Folder>,
    ) -> rustix::io::Result<bool> {
        self.new.clear();
        self.new_names.clear();
        let mut is_whole = true;
        let mut guess = folder.id + 1;
        let mut entries = RawDir::new(fd.as_fd(), buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let stat = match beneath::stat_at(fd.as_fd(), entry.file_name()) {
                Err(Errno::NOENT) => {
                    is_whole = false;
                    continue;
                }
                stat => self.look.beneath.seen(stat?),
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
                // What it covers is perhaps something that the index does not know.
                is_whole = false;
                self.found.covered.extend(known);
                continue;
            }
            let looked = match known {
                Some(id) => self.known(id, &stat, fd.as_fd(), name).map(|unchanged| {
                    if stat.is_dir() && self.is_entered(id, &stat) {
                        more.push(folder.known_below(fd, name, id, unchanged, leads));
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
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    is_whole = false;
                    self.found.vanished.extend(known);
                }
                looked => looked?,
            }
        }
        Ok(is_whole)
    }

    /// Gives numbers to the new entries of a folder, one after the other.
    fn adopt_new(&mut self, folder: &Folder, fd: &Arc<OwnedFd>, more: &mut Vec<Folder>) {
        let count = u32::try_from(self.new.len()).expect("a folder has less than 2^32 entries");
        let first = self.look.next.fetch_add(count, Ordering::Relaxed);
        let names = std::mem::take(&mut self.new_names);
        for (id, new) in (first..).zip(self.new.drain(..)) {
            let name = &names[new.name];
            let scaffold = new.leads.as_ref().is_some_and(|path| !self.look.scaffold.has_taken(path));
            if new.is_dir {
                more.push(folder.below(fd, name, id, new.leads));
            }
            let node = Node { parent: folder.id, name: self.found.names.push(name), ..new.node };
            self.found.added.push(Added { id, node, scaffold });
        }
        self.new_names = names;
    }
}
