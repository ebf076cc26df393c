//! Regular files: content as it comes out of the archive, hashed on the way.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::filling::{Empty, Finish, SMALL};
use super::folder::Place;
use super::{Applier, Made};
use crate::archive::{Archive, Entry};
use crate::attributes;
use crate::beneath::{stat_at, stat_of};
use crate::index::NO_HASH;
use crate::journal::{Card, What};
use crate::place::{self, write_all};
use crate::{Owners, content};

/// Files with holes are read to be hashed, since their pieces may lie upon each other: so many bytes of an archive, holes
/// counted, for a few bytes of it can say that there are many. What the rest of them is like is found out when something
/// touches it, which then counts as a change.
pub(super) const MOST_READ_AGAIN: u64 = 256 << 20;

impl Applier<'_> {
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<'_>,
        place: &Place,
        name: &[u8],
        real: &Path,
    ) -> Made {
        let dress = self.dress(entry);
        let owners = self.root.beneath().owners();
        let other_owner = (dress.uid, dress.gid) != (0, 0) || place.setgid || !self.is_root;
        // Mostly the mode can be given at once; what is not, and what the umask took of it, is set when it is written.
        let has_mode = self.is_plain(&dress, place);
        let finish = Finish {
            owner: other_owner.then_some((dress.uid, dress.gid)),
            mode: dress.mode,
            has_mode,
            mtime: entry.mtime,
        };
        let first = Mode::from(if has_mode { dress.mode } else { 0o600 });
        let access = if entry.sparse.is_some() { OFlags::RDWR } else { OFlags::WRONLY };
        let Some(file) = self.create(place, name, real, access, first)? else { return Ok(()) };
        let is_simple = owners.is_none() && !place.default_acl && entry.sparse.is_none() && dress.attributes.is_empty();
        if is_simple && entry.size <= SMALL {
            let line = self.applied.journal.note(&place.real, name, What::Made);
            self.filling.add(Empty { file, finish, line, name: entry.name.clone() });
            loop {
                let piece = archive.content()?;
                if piece.is_empty() {
                    break;
                }
                self.filling.more(piece);
            }
            return Ok(self.filling.hand_on_if_full(&mut self.applied.journal)?);
        }
        self.filling.hand_on(&mut self.applied.journal)?;
        let hash = match &entry.sparse {
            None => write_content(archive, file.as_fd(), self.options.hashes)?,
            Some(map) => {
                for piece in map {
                    write_piece(archive, file.as_fd(), piece.offset, piece.length)?;
                }
                rustix::fs::ftruncate(&file, entry.size)?;
                match self.may_read_again.checked_sub(entry.size).filter(|_| self.options.hashes) {
                    None => NO_HASH,
                    Some(left) => {
                        self.may_read_again = left;
                        content::of_open(file.as_fd(), &mut Vec::new())?
                    }
                }
            }
        };
        if place.default_acl {
            attributes::remove(place.fd.as_fd(), name, b"system.posix_acl_access")?;
        }
        if let Some(owners) = owners {
            rustix::fs::fchmod(&file, Mode::from(Owners::mode_for(dress.mode, false)))?;
            owners.mean(&stat_of(file.as_fd())?, dress.uid, dress.gid, Some(dress.mode));
        } else {
            finish.own(file.as_fd())?;
        }
        let set = place::set_attributes(file.as_fd(), &dress.attributes, real, &mut self.shortfalls)?;
        let stat = self.root.beneath().seen(finish.end(file.as_fd())?);
        let card = Card { stat, hash, attributes: Some(attributes::digest(&set)) };
        self.applied.journal.note(&place.real, name, What::Put(card));
        Ok(())
    }

    /// A new file, in place of what was there. `None`: what was there cannot go.
    fn create(&mut self, place: &Place, name: &[u8], real: &Path, access: OFlags, mode: Mode) -> Made<Option<OwnedFd>> {
        let create = || place::create(place.fd.as_fd(), name, access, mode);
        let mut settled = false;
        loop {
            match create() {
                Err(Errno::EXIST) => {
                    let stat = stat_at(place.fd.as_fd(), name)?;
                    if !self.make_way(place, name, real, &stat)? {
                        return Ok(None);
                    }
                    return Ok(Some(create()?));
                }
                Err(Errno::MFILE | Errno::NFILE) if !settled => {
                    self.let_go()?;
                    settled = true;
                }
                file => return Ok(Some(file?)),
            }
        }
    }
}

fn write_content(archive: &mut Archive<'_>, file: BorrowedFd<'_>, hashes: bool) -> Made<[u8; 16]> {
    let mut hasher = content::Hasher::new();
    let mut empty = true;
    loop {
        let piece = archive.content()?;
        if piece.is_empty() {
            return Ok(if empty || !hashes { NO_HASH } else { hasher.finish() });
        }
        empty = false;
        if hashes {
            hasher.update(piece);
        }
        write_all(piece, |rest| rustix::io::write(file, rest))?;
    }
}

/// Writes so much of the content to its place in a file with holes.
fn write_piece(archive: &mut Archive<'_>, file: BorrowedFd<'_>, offset: u64, length: u64) -> Made {
    let (mut at, mut left) = (offset, length);
    while left > 0 {
        let piece = archive.content_up_to(left)?;
        write_all(piece, |rest| {
            let written = rustix::io::pwrite(file, rest, at)?;
            at += written as u64;
            Ok(written)
        })?;
        left -= piece.len() as u64;
    }
    Ok(())
}
