//! Changes to a layer: the tar archive that `BuildKit` writes for the same changes, byte for byte.
//!
//! The rules, each seen in containerd's `archive` package (which `BuildKit` packs with) and in what it writes:
//!
//! * entries are ordered by path, component by component; a whiteout stands where the name that it deletes stands, with
//!   mode 0, no owner and the time 0; whiteouts are single, never opaque;
//! * folders have a slash behind their name; the folders above an entry are in the layer, changed or not
//!   ([`Parents::Always`]), except the root itself;
//! * times are whole seconds, rounded down; owners are numbers alone; ustar where it fits, PAX where it must;
//! * of a file with several names in the layer the first that is new or changed is the file, and the others are hard links to
//!   it; those that are as they were and sort before it stand right behind it.
//!
//! Different on purpose: extended attributes other than `security.capability` are kept; a hard link to an unchanged
//! file stays a hard link (overlayfs breaks it); a folder of which nothing but the time changed is a change, and so is a file of
//! which containerd looks at size and time alone; a name beginning with `.wh.` is an error.
//!
//! One thread reads files and makes headers, the caller's writes them out: files are read while the layer is compressed.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tracing::info_span;

use crate::attributes::{self, Attributes};
use crate::beneath::{stat_at, stat_of};
use crate::error::During as _;
use crate::header::{BLOCK, Header, padding};
use crate::index::{NO_HASH, low};
use crate::metadata::Stat;
use crate::{Change, ChangeKind, Kind, Result, RootFs, SnapshotError, content, whiteout};

/// How a layer is written.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// No modification time later than this many seconds since 1970 is written (`SOURCE_DATE_EPOCH`); whiteouts bear the
    /// time 0 in any case, as containerd has it since version 2.
    pub latest_mtime: Option<i64>,
    /// Whether folders above a change are in the layer.
    pub parents: Parents,
}

/// Which folders above a change are in the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parents {
    /// All of them but the root, as `BuildKit` and Docker do: the layer can be read without those below it.
    #[default]
    Always,
    /// Those that changed themselves.
    Changed,
}

/// What writing a layer did.
#[derive(Debug, Default)]
pub struct Written {
    /// How many entries the layer has, whiteouts among them.
    pub entries: usize,
    /// What a user should know, one sentence each.
    pub warnings: Vec<String>,
    learned: Vec<Learned>,
}

/// What packing found out of one entry that the snapshotter need not find out again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Learned {
    /// Which of the changes.
    pub(crate) change: u32,
    pub(crate) ino: u64,
    pub(crate) ctime: i64,
    pub(crate) hash: [u8; 16],
    pub(crate) attributes: [u8; 16],
}

impl Written {
    pub(crate) fn learned(&self) -> &[Learned] {
        &self.learned
    }
}

/// Writes the layer that turns the root as it was before the changes into the root as it is now. The archive is whole
/// when this returns, with the two empty blocks at its end; nothing is flushed.
///
/// Changes are put in order first. Entries are read as they are now: one that is gone by now is left out (or deleted, if
/// it was there before) with a warning; a file that becomes shorter while it is read is an error.
///
/// # Errors
/// Names the entry: one that cannot be read, whose name is that of a whiteout, or at which `out` failed.
pub fn write_tar(changes: &[Change], root: &RootFs, out: &mut dyn Write, options: &WriteOptions) -> Result<Written> {
    std::thread::scope(|scope| {
        let (blocks, ready) = sync_channel(8);
        let (back, spare) = sync_channel(8);
        let packer = scope.spawn(move || {
            let _span = info_span!(target: "zuwai", "pack").entered();
            let mut packer = Packer::new(root, options, blocks, spare);
            packer.pack(changes).map(|()| packer.written)
        });
        let copied = copy_blocks(&ready, &back, out);
        // With nobody to take its blocks, the packer ends as well.
        drop((ready, back));
        let packed = match packer.join() {
            Ok(packed) => packed,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        copied?;
        packed
    })
}

/// A piece of the archive, and the entry that its end belongs to.
struct Piece {
    bytes: Vec<u8>,
    path: PathBuf,
}

fn copy_blocks(ready: &Receiver<Piece>, back: &SyncSender<Vec<u8>>, out: &mut dyn Write) -> Result<()> {
    for Piece { mut bytes, path } in ready {
        out.write_all(&bytes).map_err(|source| SnapshotError::WriteLayer { path, source })?;
        bytes.clear();
        match back.try_send(bytes) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
    Ok(())
}

/// How large a piece is before it is handed on.
const PIECE: usize = 256 * 1024;

struct Packer<'a> {
    root: &'a RootFs,
    options: &'a WriteOptions,
    blocks: SyncSender<Piece>,
    spare: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    written: Written,
    /// The folder of the last entry.
    folder: Option<(PathBuf, OwnedFd)>,
    /// Folders that are in the layer.
    folders: HashSet<PathBuf>,
    /// The one of them that was asked for last.
    last_above: PathBuf,
    /// Files with several names: the name under which they are in the layer, and the hash of their content.
    links: HashMap<(u64, u64), (Vec<u8>, [u8; 16])>,
    /// Names that are as they were, until one that is new or changed of the same file is in the layer.
    waiting: HashMap<(u64, u64), Vec<(u32, &'a Path)>>,
    sockets: Vec<PathBuf>,
}

/// Nobody takes the blocks any more: the writer failed, and will say so.
struct Ended;

impl From<Ended> for SnapshotError {
    fn from(_: Ended) -> Self {
        let source = std::io::ErrorKind::BrokenPipe.into();
        Self::WriteLayer { path: PathBuf::new(), source }
    }
}

impl<'a> Packer<'a> {
    fn new(root: &'a RootFs, options: &'a WriteOptions, blocks: SyncSender<Piece>, spare: Receiver<Vec<u8>>) -> Self {
        Self {
            root,
            options,
            blocks,
            spare,
            piece: Vec::with_capacity(PIECE + 2 * BLOCK),
            written: Written::default(),
            folder: None,
            folders: HashSet::new(),
            last_above: PathBuf::new(),
            links: HashMap::new(),
            waiting: HashMap::new(),
            sockets: Vec::new(),
        }
    }

    fn pack(&mut self, changes: &'a [Change]) -> Result<()> {
        let mut order: Vec<u32> = (0..).take(changes.len()).collect();
        if !changes.is_sorted() {
            order.sort_by(|&left, &right| changes[left as usize].cmp(&changes[right as usize]));
        }
        for at in order {
            let change = &changes[at as usize];
            if change.path.file_name().is_none() {
                continue;
            }
            if change.kind == ChangeKind::Linked && self.waits(at, &change.path)? {
                continue;
            }
            if let Some(identity) = self.change(at, change)? {
                self.others(identity)?;
            }
        }
        if let Some(first) = self.sockets.first() {
            let others = match self.sockets.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let warning = format!("sockets are not part of an image and were left out: {}{others}", first.display());
            self.written.warnings.push(warning);
        }
        self.piece.resize(self.piece.len() + 2 * BLOCK, 0);
        self.hand_on(Path::new("/"))
    }

    /// Whether an unchanged name must wait: it is a hard link, once there is something in the layer to link to.
    fn waits(&mut self, at: u32, path: &'a Path) -> Result<bool> {
        match self.stat(path) {
            Ok(stat) if !self.links.contains_key(&identity(&stat)) => {
                self.waiting.entry(identity(&stat)).or_default().push((at, path));
                Ok(true)
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(SnapshotError::path("pack", path, error)),
        }
    }

    /// Writes the names that waited for this file. One that names something else by now is for the next look to tell.
    fn others(&mut self, file: (u64, u64)) -> Result<()> {
        if !self.links.contains_key(&file) {
            return Ok(());
        }
        for (at, path) in self.waiting.remove(&file).unwrap_or_default() {
            self.parents(path)?;
            match self.stat(path) {
                Ok(stat) if identity(&stat) == file => drop(self.entry(Some(at), path, &stat)?),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(SnapshotError::path("pack", path, error)),
            }
        }
        Ok(())
    }

    /// Whether a folder is in the layer.
    fn is_above(&mut self, folder: &Path) -> bool {
        // Most entries lie beside the one before, and comparing costs less than hashing.
        if self.last_above.as_os_str() == folder.as_os_str() {
            return true;
        }
        let is_there = self.folders.contains(folder);
        if is_there {
            folder.clone_into(&mut self.last_above);
        }
        is_there
    }

    /// Puts the folders above a path into the layer, if they are to be there and are not yet.
    fn parents(&mut self, path: &Path) -> Result<()> {
        let above = path.parent().unwrap_or(Path::new("/"));
        if self.options.parents == Parents::Changed || above.file_name().is_none() || self.is_above(above) {
            return Ok(());
        }
        self.parents(above)?;
        match self.stat(above) {
            Ok(stat) if stat.is_dir() => self.entry(None, above, &stat).map(drop),
            // It is gone, or something else, by now: so is what is in it.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(SnapshotError::path("pack", above, error)),
        }
    }

    /// Writes one change, and says which file it was.
    fn change(&mut self, at: u32, change: &Change) -> Result<Option<(u64, u64)>> {
        let path = &change.path;
        self.parents(path)?;
        let name = path.file_name().expect("changes without a name were left out").as_bytes();
        if change.kind == ChangeKind::Delete {
            return self.whiteout(path).map(|()| None);
        }
        if name.starts_with(whiteout::PREFIX) {
            return Err(SnapshotError::WhiteoutName { path: path.clone() });
        }
        let was_there = change.kind != ChangeKind::Add;
        match self.stat(path) {
            Ok(stat) if stat.kind() == Kind::Socket => self.sockets.push(path.clone()),
            Ok(stat) if self.entry(Some(at), path, &stat)? => return Ok(Some(identity(&stat))),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.written.warnings.push(format!("{} went away before it was packed", path.display()));
            }
            Err(error) => return Err(SnapshotError::path("pack", path, error)),
        }
        if was_there {
            self.whiteout(path)?;
        }
        Ok(None)
    }

    fn whiteout(&mut self, path: &Path) -> Result<()> {
        let bytes = &content::bytes(path)[1..];
        let base = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let name = [&bytes[..base], whiteout::PREFIX, &bytes[base..]].concat();
        Header::empty(&name).write(&mut self.piece)?;
        self.written.entries += 1;
        self.hand_on_if_full(path)
    }

    /// Writes one entry. False says that it went away.
    fn entry(&mut self, at: Option<u32>, path: &Path, stat: &Stat) -> Result<bool> {
        let folder = self.folder.take().expect("the folder is open since the entry was looked at");
        let written = self.entry_in(at, path, stat, folder.1.as_fd());
        self.folder = Some(folder);
        match written {
            Ok(()) => Ok(true),
            Err(SnapshotError::Path { source, .. })
                if source
                    .raw_os_error()
                    .is_some_and(|code| [Errno::NOENT, Errno::LOOP].map(Errno::raw_os_error).contains(&code)) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn entry_in(&mut self, at: Option<u32>, path: &Path, stat: &Stat, folder: BorrowedFd<'_>) -> Result<()> {
        let base = path.file_name().expect("the root is no entry").as_bytes();
        let mut name = content::bytes(path)[1..].to_vec();
        let kind = stat.kind();
        let mut hash = NO_HASH;
        let mut link = Vec::new();
        let mut typeflag = match kind {
            Kind::File => b'0',
            Kind::Symlink => b'2',
            Kind::CharDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Dir => b'5',
            Kind::Fifo => b'6',
            Kind::Socket => return Ok(()),
        };
        if kind == Kind::Dir {
            self.folders.insert(path.to_path_buf());
            name.push(b'/');
        }
        if kind == Kind::Symlink {
            link = rustix::fs::readlinkat(folder, base, Vec::new()).during("read the link", path)?.into_bytes();
            hash = content::of_bytes(&link);
        }
        if stat.nlink > 1
            && kind != Kind::Dir
            && let Some((first, known)) = self.links.get(&identity(stat))
        {
            (typeflag, link, hash) = (b'1', first.clone(), *known);
        }
        let content = match typeflag {
            b'0' => {
                // NONBLOCK: should a pipe have taken the file's place, opening it must not wait for a writer.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(folder, base, flags, Mode::empty()).during("open", path)?;
                let stat = self.root.beneath().seen(stat_of(file.as_fd()).during("look at", path)?);
                Some((file, stat))
            }
            _ => None,
        };
        let attributes = match &content {
            Some((file, _)) => attributes::read_open(file.as_fd()),
            None => attributes::read(folder, base, kind),
        };
        let attributes = attributes.during("read the extended attributes of", path)?;
        let stat = content.as_ref().map_or(stat, |(_, stat)| stat);
        self.header(&name, &link, typeflag, stat, &attributes)?;
        if let Some((file, stat)) = &content {
            hash = self.content(path, file.as_fd(), stat.size)?;
        }
        self.written.entries += 1;
        if stat.nlink > 1 && kind != Kind::Dir && typeflag != b'1' {
            self.links.insert(identity(stat), (name, hash));
        }
        if let Some(change) = at {
            let attributes = attributes::digest(&attributes);
            let (ino, ctime) = (stat.ino, low(stat.ctime));
            self.written.learned.push(Learned { change, ino, ctime, hash, attributes });
        }
        self.hand_on_if_full(path)
    }

    fn header(&mut self, name: &[u8], link: &[u8], kind: u8, stat: &Stat, attributes: &Attributes) -> Result<()> {
        let mtime = i64::try_from(stat.mtime.div_euclid(1_000_000_000)).expect("seconds have 64 bits");
        let header = Header {
            name,
            link,
            kind,
            mode: stat.permissions(),
            uid: stat.uid,
            gid: stat.gid,
            size: if kind == b'0' { stat.size } else { 0 },
            mtime: self.options.latest_mtime.map_or(mtime, |latest| mtime.min(latest)),
            // Of a hard link as well.
            device: if matches!(stat.kind(), Kind::CharDevice | Kind::BlockDevice) { stat.rdev } else { (0, 0) },
            attributes,
        };
        header.write(&mut self.piece)
    }

    fn content(&mut self, path: &Path, file: BorrowedFd<'_>, size: u64) -> Result<[u8; 16]> {
        if size == 0 {
            return Ok(NO_HASH);
        }
        let mut hasher = content::Hasher::new();
        let mut left = size;
        while left > 0 {
            self.hand_on_if_full(path)?;
            let start = self.piece.len();
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE.max(start + BLOCK) - start);
            self.piece.resize(start + room, 0);
            match rustix::io::read(file, &mut self.piece[start..]) {
                Ok(0) => return Err(SnapshotError::ChangedWhilePacked { path: path.to_path_buf() }),
                Ok(length) => {
                    self.piece.truncate(start + length);
                    hasher.update(&self.piece[start..]);
                    left -= length as u64;
                }
                Err(Errno::INTR) => self.piece.truncate(start),
                Err(error) => return Err(SnapshotError::path("read", path, error)),
            }
        }
        self.piece.resize(self.piece.len() + padding(size), 0);
        Ok(hasher.finish())
    }

    /// The entry at a path; leaves its folder open.
    fn stat(&mut self, path: &Path) -> rustix::io::Result<Stat> {
        let above = path.parent().unwrap_or(Path::new("/"));
        if self.folder.as_ref().is_none_or(|(known, _)| known.as_os_str() != above.as_os_str()) {
            self.folder = Some((above.to_path_buf(), self.root.beneath().exact_folder(above)?));
        }
        let folder = &self.folder.as_ref().expect("it was opened above").1;
        let stat = stat_at(folder.as_fd(), path.file_name().expect("the root is no entry"))?;
        Ok(self.root.beneath().seen(stat))
    }

    fn hand_on_if_full(&mut self, path: &Path) -> Result<()> {
        if self.piece.len() >= PIECE { self.hand_on(path) } else { Ok(()) }
    }

    fn hand_on(&mut self, path: &Path) -> Result<()> {
        let next = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE + 2 * BLOCK));
        let bytes = std::mem::replace(&mut self.piece, next);
        self.blocks.send(Piece { bytes, path: path.to_path_buf() }).map_err(|_| Ended.into())
    }
}

/// What names of the same file have in common.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.dev, stat.ino)
}
