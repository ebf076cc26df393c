//! Taking away: what is where an entry shall be, and what whiteouts name.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::folder::Place;
use super::{Applier, Made};
use crate::Kind;
use crate::beneath::{open_listing, stat_at};
use crate::journal::What;
use crate::metadata::Stat;
use crate::place::{self, Removed};

impl Applier<'_> {
    /// Removes what is where an entry shall be. False: it cannot go, since something that is not the image's lies in it.
    pub(super) fn make_way(&mut self, place: &Place, name: &[u8], real: &Path, stat: &Stat) -> Made<bool> {
        let removed = match place::remove(place.fd.as_fd(), name, real, self.root.ignore()) {
            Err(Errno::BUSY) => Removed::ButWhatLeads,
            removed => removed?,
        };
        self.forget(place, name, real, stat);
        if removed == Removed::ButWhatLeads {
            self.shortfalls.kept(real.to_path_buf());
        }
        Ok(removed == Removed::Wholly)
    }

    /// Something was removed: what was known of it, and through it, is known no more.
    pub(super) fn forget(&mut self, place: &Place, name: &[u8], real: &Path, stat: &Stat) {
        if stat.is_dir() || stat.kind() == Kind::Symlink {
            self.places.clear();
        }
        if stat.is_dir() {
            self.pending.retain(|path, _| !path.starts_with(real));
            self.root.scaffold().give_back(real);
        }
        self.applied.journal.note(&place.real, name, What::Removed);
    }

    /// A whiteout. Where its folder is missing there is nothing to delete.
    pub(super) fn delete(&mut self, above: &Path, name: &[u8]) -> Made {
        match self.root.beneath().folder(&self.into.join(above)) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            folder => drop(folder?),
        }
        let Some(place) = self.place(above)? else { return Ok(()) };
        let real = place.real.join(OsStr::from_bytes(name));
        match stat_at(place.fd.as_fd(), name) {
            Err(Errno::NOENT) => Ok(()),
            // What is ignored, or only leads there, was never the image's: no warning.
            Ok(stat) => match place::remove(place.fd.as_fd(), name, &real, self.root.ignore()) {
                Ok(_) | Err(Errno::BUSY) => {
                    self.forget(&place, name, &real, &stat);
                    Ok(())
                }
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// An opaque whiteout: removes everything in the folder that this archive did not put there.
    pub(super) fn empty(&mut self, above: &Path) -> Made {
        let Some(place) = self.place(above)? else { return Ok(()) };
        let mut ours: BTreeSet<PathBuf> = self
            .applied
            .journal
            .lines()
            .filter(|(folder, _, what)| folder.starts_with(&place.real) && !matches!(what, What::Removed))
            .map(|(folder, name, _)| folder.join(OsStr::from_bytes(name)))
            .collect();
        let told = self
            .pending
            .iter()
            .filter(|(path, pending)| (pending.told || pending.mtime.is_none()) && path.starts_with(&place.real));
        ours.extend(told.map(|(path, _)| path.clone()));
        let mut folders = vec![(crate::beneath::duplicate(place.fd.as_fd())?, place.real.clone())];
        while let Some((fd, real)) = folders.pop() {
            let listing = open_listing(fd.as_fd(), b".")?;
            for name in place::list(listing.as_fd())? {
                let path = real.join(OsStr::from_bytes(&name));
                let stat = stat_at(fd.as_fd(), &*name)?;
                let kept = ours.range(path.clone()..).next().is_some_and(|next| next.starts_with(&path));
                if !kept {
                    self.keep_time(fd.as_fd(), &real)?;
                    match place::remove(fd.as_fd(), &name, &path, self.root.ignore()) {
                        Ok(_) | Err(Errno::BUSY) => {}
                        Err(error) => return Err(error.into()),
                    }
                    let here = Place {
                        fd: crate::beneath::duplicate(fd.as_fd())?,
                        real: real.clone(),
                        setgid: false,
                        default_acl: false,
                    };
                    self.forget(&here, &name, &path, &stat);
                } else if stat.is_dir() {
                    folders.push((crate::beneath::open_folder(fd.as_fd(), OsStr::from_bytes(&name))?, path));
                }
            }
        }
        Ok(())
    }
}
