//! A layer, or another tar archive, to files in a root.
//!
//! Names are resolved by the kernel inside the root, links of the image followed on the way as a container would follow
//! them; an entry's own name is never followed. Nothing ignored is written or removed, wherever a link leads. Times of
//! folders are set last, and a folder that is not in the layer keeps the time it had, as on overlayfs.
//!
//! The order of one entry's making: content, owner, mode, attributes, time (see [`crate::place::dress`]). Small files are made
//! in the archive's order and get the rest of it on other threads (see [`filling`]).

mod file;
mod filling;
mod folder;
mod hard_link;
mod removal;
mod special;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tracing::info_span;

use crate::archive::{Archive, Entry, Type};
use crate::beneath::stat_at;
use crate::journal::{Journal, What};
use crate::place::{Dress, Shortfalls};
use crate::read_ahead::read_ahead;
use crate::whiteout::{self, Meaning};
use crate::{Result, RootFs, SnapshotError, ids};

use filling::Filling;
use folder::{Pending, Place, Places};

/// How an archive is applied.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// The folder of the root that the archive's names are relative to: an image path, which exists. `/` for a layer.
    pub into: PathBuf,
    /// Everything belongs to this owner and group, whatever the archive says (ADD `--chown`).
    pub owner: Option<(u32, u32)>,
    /// Whether names beginning with `.wh.` delete: true for a layer, false for an archive that ADD unpacks.
    pub whiteouts: bool,
    /// Whether contents are hashed, so that a snapshotter that is handed what was done need not read a file again. What is not
    /// hashed counts as changed once something touches it.
    pub hashes: bool,
    /// The most bytes of content, all files together and holes counted: 256 GiB unless said otherwise. What stops a
    /// small blob from filling the disk.
    pub max_bytes: u64,
    /// The most entries: 16,777,216 unless said otherwise.
    pub max_entries: u64,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            into: PathBuf::from("/"),
            owner: None,
            whiteouts: true,
            hashes: true,
            max_bytes: 1 << 38,
            max_entries: 1 << 24,
        }
    }
}

/// What applying an archive did. Handed to [`Snapshotter::adopt`](crate::Snapshotter::adopt), it saves a look.
#[derive(Debug, Default)]
pub struct Applied {
    /// How many entries were read, whiteouts and what was left out among them.
    pub entries: usize,
    /// What a user should know, one sentence each.
    pub warnings: Vec<String>,
    journal: Journal,
}

impl Applied {
    /// The image paths that were created, changed or removed, and folders of which only the time was put back; without
    /// links, in order, each once.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.journal.paths()
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }
}

/// Applies a tar archive (not compressed) to a root, and reads `tar` to its end, on a thread of its own.
///
/// Entries below something ignored are passed over. What cannot be done without privileges (device files, some extended
/// attributes) is left out, with one warning for each sort.
///
/// # Errors
/// Names the entry. What was written before stays written.
pub fn apply_tar(tar: &mut (dyn Read + Send), root: &RootFs, options: &ApplyOptions) -> Result<Applied> {
    let _span = info_span!(target: "zuwai", "unpack").entered();
    let mut applier = Applier::new(root, options)?;
    read_ahead(tar, |ahead| {
        let mut archive = Archive::new(ahead);
        match applier.entries(&mut archive) {
            Ok(()) => applier.finish(),
            // What went wrong with an entry before is told first.
            Err(error) => Err(applier.filling.settle(&mut applier.applied.journal).err().unwrap_or(error)),
        }
    })
}

struct Applier<'a> {
    root: &'a RootFs,
    options: &'a ApplyOptions,
    /// The image path that names are relative to, without links.
    into: PathBuf,
    /// Whether what this process makes is root's.
    is_root: bool,
    applied: Applied,
    shortfalls: Shortfalls,
    places: Places,
    pending: HashMap<PathBuf, Pending>,
    filling: Filling,
    /// Hard links made, by device and inode: the names whose cards moved.
    linked: HashMap<(u64, u64), Vec<Named>>,
    bytes: u64,
    /// How much may still be read again to be hashed.
    may_read_again: u64,
}

/// Threads that fill small files; one that makes them keeps no more busy.
const MOST_FILLING: usize = 3;

/// A name in a folder.
type Named = (PathBuf, Vec<u8>);

/// Why an entry was not made.
enum Obstacle {
    /// The system's answer.
    Failed(std::io::Error),
    /// An error of its own.
    Told(SnapshotError),
}

impl From<Errno> for Obstacle {
    fn from(error: Errno) -> Self {
        Self::Failed(error.into())
    }
}

impl From<SnapshotError> for Obstacle {
    fn from(error: SnapshotError) -> Self {
        Self::Told(error)
    }
}

type Made<T = ()> = std::result::Result<T, Obstacle>;

impl<'a> Applier<'a> {
    fn new(root: &'a RootFs, options: &'a ApplyOptions) -> Result<Self> {
        let into = root.resolve(&options.into)?.real;
        if root.ignore().covers(&into) {
            return Err(SnapshotError::Ignored { path: into });
        }
        Ok(Self {
            root,
            options,
            into,
            is_root: rustix::process::geteuid().is_root() && rustix::process::getegid().is_root(),
            applied: Applied::default(),
            shortfalls: Shortfalls::default(),
            places: Places::default(),
            pending: HashMap::new(),
            // One core makes the files.
            filling: Filling::new(
                std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1).min(MOST_FILLING),
                options.hashes,
            ),
            linked: HashMap::new(),
            bytes: 0,
            may_read_again: file::MOST_READ_AGAIN,
        })
    }

    fn entries(&mut self, archive: &mut Archive<'_>) -> Result<()> {
        while let Some(entry) = archive.next()? {
            self.count(&entry)?;
            self.entry(&entry, archive)?;
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.applied.entries += 1;
        self.bytes = self.bytes.saturating_add(entry.size);
        let limit = |what, limit| Err(SnapshotError::Limit { entry: entry.text(), what, limit });
        if self.applied.entries as u64 > self.options.max_entries {
            return limit("entries", self.options.max_entries);
        }
        if self.bytes > self.options.max_bytes {
            return limit("bytes", self.options.max_bytes);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, archive: &mut Archive<'_>) -> Result<()> {
        self.make(entry, archive).map_err(|obstacle| match obstacle {
            Obstacle::Failed(source) => {
                let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
                ids::explain(SnapshotError::Unpack { entry: entry.text(), source }, uid, gid)
            }
            Obstacle::Told(error) => error,
        })
    }

    fn make(&mut self, entry: &Entry, archive: &mut Archive<'_>) -> Made {
        let path = inside(&entry.name).map_err(|reason| refused(entry, reason))?;
        let Some(name) = path.file_name() else {
            return if entry.kind == Type::Dir {
                self.dress_root(entry)
            } else {
                Err(refused(entry, "it names no file"))
            };
        };
        let name = name.as_bytes();
        let above = path.parent().unwrap_or(Path::new(""));
        if self.options.whiteouts {
            match whiteout::meaning(name) {
                Meaning::Entry => {}
                Meaning::Nothing => return Ok(()),
                Meaning::Emptied => return self.empty(above),
                Meaning::Gone(gone) if gone.is_empty() || gone == b"." || gone == b".." => {
                    return Err(refused(entry, "it is a whiteout of no name"));
                }
                Meaning::Gone(gone) => return self.delete(above, gone),
            }
        }
        let Some(place) = self.place(above)? else {
            self.leave_out(self.into.join(&path));
            return Ok(());
        };
        let real = place.real.join(OsStr::from_bytes(name));
        if self.root.ignore().covers(&real) {
            self.leave_out(real);
            return Ok(());
        }
        match entry.kind {
            Type::Dir => self.dir(entry, &place, name, real),
            Type::File => self.file(entry, archive, &place, name, &real),
            Type::HardLink => self.hard_link(entry, &place, name, &real),
            Type::Symlink | Type::Fifo | Type::CharDevice | Type::BlockDevice => {
                self.special(entry, &place, name, &real)
            }
        }
    }

    /// Closes what is only open so as to be fast, when no more can be opened.
    fn let_go(&mut self) -> Result<()> {
        self.places.clear();
        self.filling.settle(&mut self.applied.journal)
    }

    /// What goes into a mount is no part of the image. A layer has been told so when it was made; who adds an archive
    /// meant every file of it.
    fn leave_out(&mut self, real: PathBuf) {
        if !self.options.whiteouts {
            self.shortfalls.ignored(real);
        }
    }

    fn dress(&self, entry: &Entry) -> Dress {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        let attributes = entry.attributes.clone();
        Dress { uid, gid, mode: entry.mode, mtime: Some(entry.mtime), attributes }
    }

    /// Whether an entry that is made in that folder with its mode needs no more than a time to look like that, but for what
    /// the umask takes of the mode.
    fn is_plain(&self, dress: &Dress, place: &Place) -> bool {
        self.is_root
            && self.root.beneath().owners().is_none()
            && (dress.uid, dress.gid) == (0, 0)
            && !place.setgid
            && !place.default_acl
            && dress.mode & !0o777 == 0
            && dress.attributes.is_empty()
    }

    /// Puts folders in order, the deepest first, and notes every card that moved after it was noted.
    fn finish(mut self) -> Result<Applied> {
        self.filling.settle(&mut self.applied.journal)?;
        self.places.clear();
        for names in std::mem::take(&mut self.linked).into_values() {
            for (folder, name) in names {
                let stat = self.root.beneath().exact_folder(&folder).and_then(|fd| stat_at(fd.as_fd(), &*name));
                if let Ok(stat) = stat.map(|stat| self.root.beneath().seen(stat)) {
                    self.applied.journal.note(&folder, &name, What::Touched(stat));
                }
            }
        }
        let mut pending: Vec<(PathBuf, Pending)> = std::mem::take(&mut self.pending).into_iter().collect();
        pending.sort_unstable_by(|(left, _), (right, _)| right.cmp(left));
        let mut open = None;
        for (path, pending) in pending {
            self.root.scaffold().take(&path);
            match self.finish_dir(&path, &pending, &mut open) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => {
                    return Err(SnapshotError::path("set the time of", path, error));
                }
            }
        }
        self.applied.warnings = self.shortfalls.warnings();
        Ok(self.applied)
    }
}

fn refused(entry: &Entry, reason: &'static str) -> Obstacle {
    SnapshotError::RefusedEntry { entry: entry.text(), reason }.into()
}

/// A name of an archive as a relative path without `.` and `..`; empty for the folder itself.
fn inside(name: &[u8]) -> std::result::Result<PathBuf, &'static str> {
    if name.contains(&0) {
        return Err("its name has a NUL in it");
    }
    let mut path = PathBuf::with_capacity(name.len());
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if !path.pop() {
                    return Err("its name leads out of the root");
                }
            }
            component => path.push(OsStr::from_bytes(component)),
        }
    }
    Ok(path)
}
