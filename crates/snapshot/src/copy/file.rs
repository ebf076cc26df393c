//! Regular files: each side is opened once, and what is open is written and dressed.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Copier, make_room};
use crate::attributes;
use crate::error::During as _;
use crate::metadata::Stat;
use crate::place::{self, write_all};
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
        let create = || place::create(into, new_name, OFlags::WRONLY, Mode::from(dress.mode & 0o777));
        let file = match create() {
            Err(Errno::EXIST) => {
                make_room(into, new_name, Kind::File, to)?;
                create()
            }
            file => file,
        };
        let file = File::from(file.during("write", to)?);
        self.content(&source, stat.size, &file).during("write", to)?;
        place::dress_open(file.as_fd(), &dress, to, &mut self.shortfalls)
            .during("set owner and mode of", to)
            .map_err(|error| ids::explain(error, dress.uid, dress.gid))
    }

    /// The content of a file that was so long when it was looked at.
    fn content(&mut self, source: &File, size: u64, file: &File) -> rustix::io::Result<()> {
        if size <= SMALL as u64 {
            // A byte more, so that all of a small file is known to be all of it.
            self.buffer.resize(SMALL + 1, 0);
            let length = loop {
                match rustix::io::read(source, &mut self.buffer[..]) {
                    Err(Errno::INTR) => {}
                    length => break length?,
                }
            };
            write_all(&self.buffer[..length], |rest| rustix::io::write(file, rest))?;
            if length == 0 || length as u64 == size {
                return Ok(());
            }
            // It is longer than it said, or comes in pieces.
        }
        place::copy_content(source, file, &|| self.go_on())
    }
}
