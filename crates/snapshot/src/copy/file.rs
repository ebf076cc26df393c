//! Regular files: each side is opened once, and what is open is written and dressed.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Copier, make_room};
use crate::attributes;
use crate::beneath::stat_of;
use crate::error::During as _;
use crate::metadata::Stat;
use crate::place::{self, Dress, write_all};
use crate::{Kind, Result, ids};

/// Files with more bytes are left to the kernel, which may share them between both or keep their holes.
const SMALL: usize = 64 * 1024;

impl Copier<'_> {
    /// A file with a single name, or the first of its names, over whatever but a folder is there.
    pub(super) fn file(
        &mut self,
        from: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        into: BorrowedFd<'_>,
        new_name: &[u8],
        to: &Path,
    ) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = File::from(rustix::fs::openat(from, name, flags, Mode::empty()).during("write", to)?);
        let attributes = attributes::read_open(source.as_fd()).during("read the extended attributes of", to)?;
        let dress = self.dress_with(attributes, stat);
        let first = Mode::from(dress.mode & 0o777);
        let file = match create(into, new_name, first) {
            Err(Errno::EXIST) => {
                make_room(into, new_name, Kind::File, to)?;
                create(into, new_name, first)
            }
            file => file,
        };
        let file = file.during("write", to)?;
        let size = usize::try_from(stat.size).unwrap_or(usize::MAX);
        if size > SMALL {
            place::copy_content(&source, &file, &|| self.go_on()).during("write", to)?;
        } else {
            self.small(source.as_fd(), size, file.as_fd()).during("write", to)?;
        }
        self.put_on(file.as_fd(), &dress, to)
            .during("set owner and mode of", to)
            .map_err(|error| ids::explain(error, dress.uid, dress.gid))
    }

    /// Content of about so many bytes.
    fn small(&mut self, source: BorrowedFd<'_>, size: usize, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
        self.buffer.resize(SMALL + 1, 0);
        let mut copied = 0;
        loop {
            let length = match rustix::io::read(source, &mut self.buffer[..]) {
                Err(Errno::INTR) => continue,
                length => length?,
            };
            write_all(&self.buffer[..length], |rest| rustix::io::write(file, rest))?;
            copied += length;
            // Less than was asked for is the end of what was there when it was looked at; some filesystems say nothing else
            // by it.
            if length == 0 || (length < self.buffer.len() && copied >= size) {
                return Ok(());
            }
        }
    }

    /// Owner, mode, attributes and time, as far as it was not made with them, in the order of [`place::dress`].
    fn put_on(&mut self, file: BorrowedFd<'_>, dress: &Dress, path: &Path) -> rustix::io::Result<()> {
        let mut made = stat_of(file)?;
        if (made.uid, made.gid) != (dress.uid, dress.gid) {
            rustix::fs::fchown(file, Some(Uid::from_raw(dress.uid)), Some(Gid::from_raw(dress.gid)))?;
            made = stat_of(file)?;
        }
        if made.permissions() != dress.mode {
            rustix::fs::fchmod(file, Mode::from(dress.mode))?;
        }
        for (attribute, value) in &dress.attributes {
            match rustix::fs::fsetxattr(file, &**attribute, value, XattrFlags::empty()) {
                Err(Errno::PERM | Errno::OPNOTSUPP) => self.shortfalls.attribute(attribute, path.to_path_buf()),
                done => done?,
            }
        }
        dress.mtime.map_or(Ok(()), |mtime| rustix::fs::futimens(file, &place::times(mtime)))
    }
}

fn create(into: BorrowedFd<'_>, name: &[u8], mode: Mode) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(into, name, flags, mode).map(File::from)
}
