//! Further names of files.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::folder::Place;
use super::{Applier, Made, Obstacle, inside, refused};
use crate::archive::Entry;
use crate::beneath::stat_at;
use crate::journal::What;

impl Applier<'_> {
    pub(super) fn hard_link(&mut self, entry: &Entry, place: &Place, name: &[u8], real: &Path) -> Made {
        let target =
            inside(&entry.link).map_err(|_| refused(entry, "it is a hard link to something outside the root"))?;
        let Some(target_name) = target.file_name() else {
            return Err(refused(entry, "it is a hard link to a folder"));
        };
        let target_name = target_name.as_bytes();
        // Links on the way are followed inside the root, the last name is not: a link may have names, too.
        let above = self.into.join(target.parent().unwrap_or(Path::new("")));
        let missing = |source: Errno| {
            let reason = std::io::Error::new(
                std::io::Error::from(source).kind(),
                format!("hard link to {:?}: {source}", String::from_utf8_lossy(&entry.link)),
            );
            Obstacle::Failed(reason)
        };
        let folder = self.root.beneath().folder(&above).map_err(missing)?;
        let target_real = folder.real.join(OsStr::from_bytes(target_name));
        if self.root.ignore().covers(&target_real) {
            return Ok(());
        }
        let target = stat_at(folder.fd.as_fd(), target_name).map_err(missing)?;
        if target.is_dir() {
            return Err(refused(entry, "it is a hard link to a folder"));
        }
        if target_real == real {
            return Ok(());
        }
        let link = || rustix::fs::linkat(&folder.fd, target_name, &place.fd, name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                let stat = stat_at(place.fd.as_fd(), name)?;
                if (stat.dev, stat.ino) == (target.dev, target.ino) {
                    return Ok(());
                }
                if !self.make_way(place, name, real, &stat)? {
                    return Ok(());
                }
                link().map_err(missing)?;
            }
            done => done.map_err(missing)?,
        }
        // It may be without content yet; how it looks in the end is asked then, as for every name of it.
        let stat = self.root.beneath().seen(stat_at(place.fd.as_fd(), name)?);
        self.applied.journal.note(&place.real, name, What::Linked(target_real, stat));
        let names = self.linked.entry((stat.dev, stat.ino)).or_default();
        if names.is_empty() {
            names.push((folder.real, target_name.to_vec()));
        }
        names.push((place.real.clone(), name.to_vec()));
        Ok(())
    }
}
