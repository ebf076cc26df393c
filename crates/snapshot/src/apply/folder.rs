//! Folders: those that entries are put into, and those that are entries themselves. Their time is set at the end, when
//! nothing is put into them any more.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::{Applier, Made, Obstacle};
use crate::archive::Entry;
use crate::attributes::{self, Attributes};
use crate::beneath::{stat_at, stat_of};
use crate::index::NO_HASH;
use crate::journal::{Card, What};
use crate::place::{self, Dress};
use crate::{Kind, Ownership, SnapshotError};

/// A folder that entries are put into.
pub(super) struct Place {
    pub(super) fd: OwnedFd,
    pub(super) real: PathBuf,
    /// New entries take its group.
    pub(super) setgid: bool,
    /// New entries take an ACL from it.
    pub(super) default_acl: bool,
}

/// A folder whose card is put in order at the end.
pub(super) struct Pending {
    /// The time it shall have; `None` leaves it as it comes.
    pub(super) mtime: Option<i128>,
    /// Whether an entry of this archive said so.
    pub(super) told: bool,
    /// Whether it was made here without extended attributes, so that nobody needs to ask for them.
    pub(super) bare: bool,
}

impl Pending {
    /// Of a folder that no entry told of so far.
    fn untold(mtime: Option<i128>) -> Self {
        Self { mtime, told: false, bare: false }
    }
}

/// As many folders are kept open.
const OPEN_PLACES: usize = 64;

impl Applier<'_> {
    /// The folder of that name relative to where names are relative to, made if it is missing. `None`: it is ignored.
    pub(super) fn place(&mut self, above: &Path) -> Made<Option<Rc<Place>>> {
        if let Some(place) = self.places.get(above) {
            return Ok(Some(Rc::clone(place)));
        }
        let path = self.into.join(above);
        let folder = match self.root.beneath().folder(&path) {
            Err(Errno::NOENT) => match self.make_above(&path)? {
                None => return Ok(None),
                Some(folder) => folder,
            },
            folder => folder?,
        };
        if self.root.ignore().covers(&folder.real) {
            return Ok(None);
        }
        let stat = stat_of(folder.fd.as_fd())?;
        let pending = self.pending.entry(folder.real.clone()).or_insert(Pending::untold(Some(stat.mtime)));
        let default_acl = !pending.bare
            && attributes::read(folder.fd.as_fd(), b".", Kind::Dir)?
                .iter()
                .any(|(name, _)| name == b"system.posix_acl_default");
        let setgid = stat.permissions() & 0o2000 != 0;
        let place = Rc::new(Place { fd: folder.fd, real: folder.real, setgid, default_acl });
        if self.places.len() >= OPEN_PLACES {
            self.places.clear();
        }
        self.places.insert(above.to_path_buf(), Rc::clone(&place));
        Ok(Some(place))
    }

    /// Something in the folder is about to change: at the end it shall have the time that it has now, unless an entry tells
    /// another.
    pub(super) fn keep_time(&mut self, folder: BorrowedFd<'_>, real: &Path) -> Made {
        if !self.pending.contains_key(real) {
            let stat = stat_of(folder)?;
            self.pending.insert(real.to_path_buf(), Pending::untold(Some(stat.mtime)));
        }
        Ok(())
    }

    /// Makes folders that entries lie in and that no entry told of.
    pub(super) fn make_above(&mut self, path: &Path) -> Made<Option<crate::beneath::Folder>> {
        let (uid, gid) = self.options.owner.unwrap_or((0, 0));
        // The folder that the first new one is made in changes as well.
        let end = self.root.beneath().walk(path, true)?;
        if self.root.ignore().covers(&end.real()) {
            return Ok(None);
        }
        self.keep_time(end.folder.fd.as_fd(), &end.folder.real)?;
        match self.root.make_dirs(path, &Ownership { uid, gid, mode: 0o755 }) {
            Ok(made) => {
                for path in made {
                    self.pending.insert(path, Pending::untold(None));
                }
            }
            Err(SnapshotError::Ignored { .. }) => return Ok(None),
            Err(SnapshotError::Path { source, .. }) => return Err(Obstacle::Failed(source)),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(self.root.beneath().folder(path)?))
    }

    /// The entry that names the folder everything is relative to.
    pub(super) fn dress_root(&mut self, entry: &Entry) -> Made {
        let folder = self.root.beneath().folder(&self.into)?;
        self.dress_dir(entry, folder.fd.as_fd(), b".", &folder.real, true)?;
        self.pending.insert(folder.real, Pending { mtime: Some(entry.mtime), told: true, bare: false });
        // What is known of it as a place may be another now.
        self.places.clear();
        Ok(())
    }

    pub(super) fn dir(&mut self, entry: &Entry, place: &Place, name: &[u8], real: PathBuf) -> Made {
        let was_there = match rustix::fs::mkdirat(&place.fd, name, Mode::from(0o700)) {
            Ok(()) => false,
            Err(Errno::EXIST) => {
                let stat = stat_at(place.fd.as_fd(), name)?;
                if stat.is_dir() {
                    true
                } else {
                    if !self.make_way(place, name, &real, &stat)? {
                        return Ok(());
                    }
                    rustix::fs::mkdirat(&place.fd, name, Mode::from(0o700))?;
                    false
                }
            }
            Err(error) => return Err(error.into()),
        };
        self.dress_dir(entry, place.fd.as_fd(), name, &real, was_there || place.default_acl)?;
        if was_there {
            // What is known of it as a place may be another now.
            self.places.retain(|_, known| known.real != real);
        }
        let bare = !was_there && !place.default_acl && entry.attributes.is_empty();
        self.pending.insert(real, Pending { mtime: Some(entry.mtime), told: true, bare });
        Ok(())
    }

    /// Owner, mode and attributes of a folder; those that an older folder has and the entry has not are taken away.
    pub(super) fn dress_dir(
        &mut self,
        entry: &Entry,
        at: BorrowedFd<'_>,
        name: &[u8],
        real: &Path,
        clean: bool,
    ) -> Made {
        if clean {
            for (old, _) in attributes::read(at, name, Kind::Dir)? {
                if !entry.attributes.iter().any(|(new, _)| *new == old) {
                    attributes::remove(at, name, &old)?;
                }
            }
        }
        let dress = Dress { mtime: None, ..self.dress(entry) };
        place::dress(at, name, Kind::Dir, &dress, self.root.beneath().owners(), real, &mut self.shortfalls)?;
        Ok(())
    }

    pub(super) fn finish_dir(&mut self, path: &Path, pending: &Pending) -> rustix::io::Result<()> {
        let fd = self.root.beneath().exact_folder(path)?;
        let mut stat = stat_of(fd.as_fd())?;
        if let Some(mtime) = pending.mtime
            && stat.mtime != mtime
        {
            place::set_mtime(fd.as_fd(), b".", mtime)?;
            stat = stat_of(fd.as_fd())?;
        }
        if let Some(name) = path.file_name() {
            let attributes =
                if pending.bare { Attributes::new() } else { attributes::read(fd.as_fd(), b".", Kind::Dir)? };
            let card = Card {
                stat: self.root.beneath().seen(stat),
                hash: NO_HASH,
                attributes: Some(attributes::digest(&attributes)),
            };
            let above = path.parent().unwrap_or(Path::new("/"));
            self.applied.journal.note(above, name.as_bytes(), What::Put(card));
        }
        Ok(())
    }
}
