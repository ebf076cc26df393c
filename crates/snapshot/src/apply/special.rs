//! Links, pipes and devices.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::folder::Place;
use super::{Applier, Made, refused};
use crate::archive::{Entry, Type};
use crate::attributes;
use crate::beneath::stat_at;
use crate::index::NO_HASH;
use crate::journal::{Card, What};
use crate::{Kind, content, place};

impl Applier<'_> {
    pub(super) fn special(&mut self, entry: &Entry, place: &Place, name: &[u8], real: &Path) -> Made {
        if entry.kind == Type::Symlink && entry.link.is_empty() {
            return Err(refused(entry, "it is a link to nothing"));
        }
        if entry.link.contains(&0) {
            return Err(refused(entry, "the target of the link has a NUL in it"));
        }
        let (kind, made) = match Self::make_special(entry, place, name) {
            (_, Err(Errno::EXIST)) => {
                let stat = stat_at(place.fd.as_fd(), name)?;
                if !self.make_way(place, name, real, &stat)? {
                    return Ok(());
                }
                Self::make_special(entry, place, name)
            }
            made => made,
        };
        match made {
            Err(Errno::PERM) if matches!(kind, Kind::CharDevice | Kind::BlockDevice) => {
                self.shortfalls.device(real.to_path_buf());
                self.applied.journal.note(&place.real, name, What::Removed);
                return Ok(());
            }
            made => made?,
        }
        if place.default_acl && kind != Kind::Symlink {
            attributes::remove(place.fd.as_fd(), name, b"system.posix_acl_access")?;
        }
        let owners = self.root.beneath().owners();
        place::dress(place.fd.as_fd(), name, kind, &self.dress(entry), owners, real, &mut self.shortfalls)?;
        let hash = if kind == Kind::Symlink { content::of_bytes(&entry.link) } else { NO_HASH };
        self.note(place, name, kind, hash)
    }

    pub(super) fn make_special(entry: &Entry, place: &Place, name: &[u8]) -> (Kind, rustix::io::Result<()>) {
        let node = |kind| {
            let device = rustix::fs::makedev(entry.device.0, entry.device.1);
            rustix::fs::mknodat(&place.fd, name, kind, Mode::from(0o600), device)
        };
        match entry.kind {
            Type::CharDevice => (Kind::CharDevice, node(FileType::CharacterDevice)),
            Type::BlockDevice => (Kind::BlockDevice, node(FileType::BlockDevice)),
            Type::Fifo => {
                let made = rustix::fs::mknodat(&place.fd, name, FileType::Fifo, Mode::from(0o600), 0);
                (Kind::Fifo, made)
            }
            _ => (Kind::Symlink, rustix::fs::symlinkat(&*entry.link, &place.fd, name)),
        }
    }

    pub(super) fn note(&mut self, place: &Place, name: &[u8], kind: Kind, hash: [u8; 16]) -> Made {
        let stat = self.root.beneath().seen(stat_at(place.fd.as_fd(), name)?);
        let attributes = attributes::read(place.fd.as_fd(), name, kind)?;
        let card = Card { stat, hash, attributes: Some(attributes::digest(&attributes)) };
        self.applied.journal.note(&place.real, name, What::Put(card));
        Ok(())
    }
}
