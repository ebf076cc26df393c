//! Folders: those that entries are put into, and those that are entries themselves. Their time is set at the end, when
//! nothing is put into them any more.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::{Applier, Made, Obstacle};
use crate::archive::Entry;
use crate::attributes::{self, Attributes};
use crate::beneath::{Folder, open_folder, stat_at, stat_of};
use crate::index::{LISTED, NO_HASH};
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

/// Folders that are open, by their names relative to where names are relative to.
#[derive(Default)]
pub(super) struct Places {
    all: HashMap<PathBuf, Rc<Place>>,
    /// Most entries lie in the folder of the entry before.
    last: Option<(PathBuf, Rc<Place>)>,
}

impl Places {
    fn get(&mut self, above: &Path) -> Option<Rc<Place>> {
        if let Some((known, place)) = &self.last
            && known.as_os_str() == above.as_os_str()
        {
            return Some(Rc::clone(place));
        }
        let place = Rc::clone(self.all.get(above)?);
        self.last = Some((above.to_path_buf(), Rc::clone(&place)));
        Some(place)
    }

    fn insert(&mut self, above: &Path, place: &Rc<Place>) {
        if self.all.len() >= OPEN_PLACES {
            self.clear();
        }
        self.all.insert(above.to_path_buf(), Rc::clone(place));
        self.last = Some((above.to_path_buf(), Rc::clone(place)));
    }

    /// Closes all of them.
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.last = None;
    }

    /// Closes whatever is this folder of the image.
    fn forget(&mut self, real: &Path) {
        self.all.retain(|_, known| known.real != real);
        self.last = None;
    }
}

/// A folder whose card is put in order at the end.
pub(super) struct Pending {
    /// The time it shall have; `None` leaves it as it comes.
    pub(super) mtime: Option<i128>,
    /// Whether an entry of this archive said so.
    pub(super) told: bool,
    /// Whether it was made here without extended attributes, so that nobody needs to ask for them.
    pub(super) bare: bool,
    /// The mode it was made with, of which the umask may have taken something.
    pub(super) mode: Option<u32>,
    /// Whether it was made here, so that the journal has all that is in it.
    pub(super) whole: bool,
}

impl Pending {
    /// Of a folder that no entry told of so far.
    fn untold(mtime: Option<i128>) -> Self {
        Self { mtime, told: false, bare: false, mode: None, whole: false }
    }
}

/// As many folders are kept open.
const OPEN_PLACES: usize = 64;

impl Applier<'_> {
    /// The folder of that name relative to where names are relative to, made if it is missing. `None`: it is ignored.
    pub(super) fn place(&mut self, above: &Path) -> Made<Option<Rc<Place>>> {
        if let Some(place) = self.places.get(above) {
            return Ok(Some(place));
        }
        let path = self.into.join(above);
        let mut folder = self.below_known(above).map_or_else(|| self.root.beneath().folder(&path), Ok);
        if let Err(Errno::MFILE | Errno::NFILE) = folder {
            self.let_go()?;
            folder = self.root.beneath().folder(&path);
        }
        let folder = match folder {
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
        self.places.insert(above, &place);
        Ok(Some(place))
    }

    /// A folder in one that is open, if it is no link: nothing has to be resolved for it.
    fn below_known(&self, above: &Path) -> Option<Folder> {
        let place = self.places.all.get(above.parent()?)?;
        let name = above.file_name()?;
        let fd = open_folder(place.fd.as_fd(), name).ok()?;
        Some(Folder { fd, real: place.real.join(name) })
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
    pub(super) fn make_above(&mut self, path: &Path) -> Made<Option<Folder>> {
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
        let pending = Pending { mtime: Some(entry.mtime), told: true, bare: false, mode: None, whole: false };
        self.pending.insert(folder.real, pending);
        // What is known of it as a place may be another now.
        self.places.clear();
        Ok(())
    }

    pub(super) fn dir(&mut self, entry: &Entry, place: &Place, name: &[u8], real: PathBuf) -> Made {
        let dress = self.dress(entry);
        let plain = self.is_plain(&dress, place) && dress.mode & 0o700 == 0o700;
        let first = Mode::from(if plain { dress.mode } else { 0o700 });
        let was_there = match rustix::fs::mkdirat(&place.fd, name, first) {
            Ok(()) => false,
            Err(Errno::EXIST) => {
                let stat = stat_at(place.fd.as_fd(), name)?;
                if stat.is_dir() {
                    true
                } else {
                    if !self.make_way(place, name, &real, &stat)? {
                        return Ok(());
                    }
                    rustix::fs::mkdirat(&place.fd, name, first)?;
                    false
                }
            }
            Err(error) => return Err(error.into()),
        };
        let plain = plain && !was_there;
        if !plain {
            self.dress_dir(entry, place.fd.as_fd(), name, &real, was_there || place.default_acl)?;
        }
        if was_there {
            // What is known of it as a place may be another now.
            self.places.forget(&real);
        }
        let bare = !was_there && !place.default_acl && entry.attributes.is_empty();
        let mode = plain.then_some(dress.mode);
        let whole = !was_there || self.pending.get(&real).is_some_and(|pending| pending.whole);
        self.pending.insert(real, Pending { mtime: Some(entry.mtime), told: true, bare, mode, whole });
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

    /// Gives a folder its time, and the mode that it should have been made with. The folder above, once it is open, is kept
    /// for the next one.
    pub(super) fn finish_dir(
        &mut self,
        path: &Path,
        pending: &Pending,
        open: &mut Option<(PathBuf, OwnedFd)>,
    ) -> rustix::io::Result<()> {
        let above = path.parent().unwrap_or(Path::new("/"));
        let at = match open {
            Some((known, fd)) if known.as_os_str() == above.as_os_str() => fd,
            _ => &mut open.insert((above.to_path_buf(), self.root.beneath().exact_folder(above)?)).1,
        };
        let (at, name) = (at.as_fd(), path.file_name().map_or(&b"."[..], OsStrExt::as_bytes));
        let mut stat = stat_at(at, name)?;
        if !stat.is_dir() {
            return Err(Errno::NOTDIR);
        }
        let (mode, mtime) = (pending.mode.unwrap_or(stat.permissions()), pending.mtime.unwrap_or(stat.mtime));
        if (stat.permissions(), stat.mtime) != (mode, mtime) {
            if stat.permissions() != mode {
                rustix::fs::chmodat(at, name, Mode::from(mode), AtFlags::empty())?;
            }
            place::set_mtime(at, name, mtime)?;
            stat = stat_at(at, name)?;
        }
        if path.file_name().is_some() {
            let attributes = if pending.bare { Attributes::new() } else { attributes::read(at, name, Kind::Dir)? };
            let card = Card {
                stat: self.root.beneath().seen(stat),
                hash: if pending.whole { LISTED } else { NO_HASH },
                attributes: Some(attributes::digest(&attributes)),
            };
            self.applied.journal.note(above, name, What::Put(card));
        }
        Ok(())
    }
}
