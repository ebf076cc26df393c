//! A layer, or another tar archive, to files in a root.
//!
//! Names are resolved by the kernel inside the root, links of the image followed on the way as a container would follow
//! them; an entry's own name is never followed. Nothing ignored is written or removed, wherever a link leads. Times of
//! folders are set last, and a folder that is not in the layer keeps the time it had, as on overlayfs.
//!
//! The order of one entry's making: content, owner, mode, attributes, time (see [`crate::place::dress`]).

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::archive::{Archive, Entry, Type};
use crate::attributes::{self, Attributes};
use crate::beneath::{open_listing, stat_at, stat_of};
use crate::index::NO_HASH;
use crate::journal::{Card, Journal, What};
use crate::metadata::Stat;
use crate::place::{self, Dress, Removed, Shortfalls};
use crate::whiteout::{self, Meaning};
use crate::{Kind, Ownership, Result, RootFs, SnapshotError, content};

/// How an archive is applied.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// The folder of the root that the archive's names are relative to: an image path, which exists. `/` for a layer.
    pub into: PathBuf,
    /// Everything belongs to this owner and group, whatever the archive says (ADD `--chown`).
    pub owner: Option<(u32, u32)>,
    /// Whether names beginning with `.wh.` delete: true for a layer, false for an archive that ADD unpacks.
    pub whiteouts: bool,
    /// The most bytes of content, all files together and holes counted: 256 GiB unless said otherwise. What stops a
    /// small blob from filling the disk.
    pub max_bytes: u64,
    /// The most entries: 16,777,216 unless said otherwise.
    pub max_entries: u64,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self { into: PathBuf::from("/"), owner: None, whiteouts: true, max_bytes: 1 << 38, max_entries: 1 << 24 }
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

/// Applies a tar archive (not compressed) to a root, and reads `tar` to its end.
///
/// Entries below something ignored are passed over. What cannot be done without privileges (device files, some extended
/// attributes) is left out, with one warning for each sort.
///
/// # Errors
/// Names the entry. What was written before stays written.
pub fn apply_tar(tar: &mut dyn Read, root: &RootFs, options: &ApplyOptions) -> Result<Applied> {
    let mut applier = Applier::new(root, options)?;
    let mut archive = Archive::new(tar);
    while let Some(entry) = archive.next()? {
        applier.count(&entry)?;
        applier.entry(&entry, &mut archive)?;
    }
    applier.finish()
}

/// A folder that entries are put into.
struct Place {
    fd: OwnedFd,
    real: PathBuf,
    /// New entries take its group.
    setgid: bool,
    /// New entries take an ACL from it.
    default_acl: bool,
}

/// A folder whose card is put in order at the end.
struct Pending {
    /// The time it shall have; `None` leaves it as it comes.
    mtime: Option<i128>,
    /// Whether an entry of this archive said so.
    told: bool,
}

/// As many folders are kept open.
const OPEN_PLACES: usize = 64;

struct Applier<'a> {
    root: &'a RootFs,
    options: &'a ApplyOptions,
    /// The image path that names are relative to, without links.
    into: PathBuf,
    applied: Applied,
    shortfalls: Shortfalls,
    places: HashMap<PathBuf, Rc<Place>>,
    pending: HashMap<PathBuf, Pending>,
    /// Hard links made, by device and inode: the names whose cards moved.
    linked: HashMap<(u64, u64), Vec<Named>>,
    bytes: u64,
}

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
            applied: Applied::default(),
            shortfalls: Shortfalls::default(),
            places: HashMap::new(),
            pending: HashMap::new(),
            linked: HashMap::new(),
            bytes: 0,
        })
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
            Obstacle::Failed(source) => SnapshotError::Unpack { entry: entry.text(), source },
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

    /// What goes into a mount is no part of the image. A layer has been told so when it was made; who adds an archive
    /// meant every file of it.
    fn leave_out(&mut self, real: PathBuf) {
        if !self.options.whiteouts {
            self.shortfalls.ignored(real);
        }
    }

    /// The folder of that name relative to where names are relative to, made if it is missing. `None`: it is ignored.
    fn place(&mut self, above: &Path) -> Made<Option<Rc<Place>>> {
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
        self.pending.entry(folder.real.clone()).or_insert(Pending { mtime: Some(stat.mtime), told: false });
        let acl = c"system.posix_acl_default";
        let default_acl = attributes::read(folder.fd.as_fd(), b".", Kind::Dir)?
            .iter()
            .any(|(name, _)| name.as_slice() == acl.to_bytes());
        let setgid = stat.permissions() & 0o2000 != 0;
        let place = Rc::new(Place { fd: folder.fd, real: folder.real, setgid, default_acl });
        if self.places.len() >= OPEN_PLACES {
            self.places.clear();
        }
        self.places.insert(above.to_path_buf(), Rc::clone(&place));
        Ok(Some(place))
    }

    /// Makes folders that entries lie in and that no entry told of.
    fn make_above(&mut self, path: &Path) -> Made<Option<crate::beneath::Folder>> {
        let (uid, gid) = self.options.owner.unwrap_or((0, 0));
        // The folder that the first new one is made in changes as well.
        let end = self.root.beneath().walk(path, true)?;
        if self.root.ignore().covers(&end.real()) {
            return Ok(None);
        }
        let stat = stat_of(end.folder.fd.as_fd())?;
        self.pending.entry(end.folder.real.clone()).or_insert(Pending { mtime: Some(stat.mtime), told: false });
        match self.root.make_dirs(path, &Ownership { uid, gid, mode: 0o755 }) {
            Ok(made) => {
                for path in made {
                    self.pending.insert(path, Pending { mtime: None, told: false });
                }
            }
            Err(SnapshotError::Ignored { .. }) => return Ok(None),
            Err(SnapshotError::Path { source, .. }) => return Err(Obstacle::Failed(source)),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(self.root.beneath().folder(path)?))
    }

    /// The entry that names the folder everything is relative to.
    fn dress_root(&mut self, entry: &Entry) -> Made {
        let folder = self.root.beneath().folder(&self.into)?;
        self.dress_dir(entry, folder.fd.as_fd(), b".", &folder.real, true)?;
        self.pending.insert(folder.real, Pending { mtime: Some(entry.mtime), told: true });
        // What is known of it as a place may be another now.
        self.places.clear();
        Ok(())
    }

    fn dir(&mut self, entry: &Entry, place: &Place, name: &[u8], real: PathBuf) -> Made {
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
        self.pending.insert(real, Pending { mtime: Some(entry.mtime), told: true });
        Ok(())
    }

    /// Owner, mode and attributes of a folder; those that an older folder has and the entry has not are taken away.
    fn dress_dir(&mut self, entry: &Entry, at: BorrowedFd<'_>, name: &[u8], real: &Path, clean: bool) -> Made {
        if clean {
            for (old, _) in attributes::read(at, name, Kind::Dir)? {
                if !entry.attributes.iter().any(|(new, _)| *new == old) {
                    attributes::remove(at, name, &old)?;
                }
            }
        }
        let dress = Dress { mtime: None, ..self.dress(entry) };
        place::dress(at, name, Kind::Dir, &dress, real, &mut self.shortfalls)?;
        Ok(())
    }

    fn file(&mut self, entry: &Entry, archive: &mut Archive<'_>, place: &Place, name: &[u8], real: &Path) -> Made {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let private = Mode::from(0o600);
        let file = match rustix::fs::openat(&place.fd, name, flags, private) {
            Err(Errno::EXIST) => {
                let stat = stat_at(place.fd.as_fd(), name)?;
                if !self.make_way(place, name, real, &stat)? {
                    return Ok(());
                }
                rustix::fs::openat(&place.fd, name, flags, private)?
            }
            file => file?,
        };
        let hash = match &entry.sparse {
            None => write_content(archive, file.as_fd())?,
            Some(map) => {
                for piece in map {
                    write_piece(archive, file.as_fd(), piece.offset, piece.length)?;
                }
                rustix::fs::ftruncate(&file, entry.size)?;
                NO_HASH
            }
        };
        let dress = self.dress(entry);
        if (dress.uid, dress.gid) != (0, 0) || place.setgid || !rustix::process::geteuid().is_root() {
            rustix::fs::fchown(&file, Some(Uid::from_raw(dress.uid)), Some(Gid::from_raw(dress.gid)))?;
        }
        if place.default_acl {
            attributes::remove(place.fd.as_fd(), name, b"system.posix_acl_access")?;
        }
        if dress.mode != 0o600 || place.default_acl {
            rustix::fs::fchmod(&file, Mode::from(dress.mode))?;
        }
        let mut set = Attributes::new();
        for (attribute, value) in dress.attributes {
            match rustix::fs::fsetxattr(&file, &*attribute, &value, XattrFlags::empty()) {
                Ok(()) => set.push((attribute, value)),
                Err(Errno::PERM | Errno::OPNOTSUPP) => self.shortfalls.attribute(&attribute, real.to_path_buf()),
                Err(error) => return Err(error.into()),
            }
        }
        rustix::fs::futimens(&file, &place::times(entry.mtime))?;
        let stat = stat_of(file.as_fd())?;
        let card = Card { stat, hash, attributes: Some(attributes::digest(&set)) };
        self.applied.journal.note(&place.real, name, What::Put(card));
        Ok(())
    }

    fn special(&mut self, entry: &Entry, place: &Place, name: &[u8], real: &Path) -> Made {
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
        place::dress(place.fd.as_fd(), name, kind, &self.dress(entry), real, &mut self.shortfalls)?;
        let hash = if kind == Kind::Symlink { content::of_bytes(&entry.link) } else { NO_HASH };
        self.note(place, name, kind, hash)
    }

    fn make_special(entry: &Entry, place: &Place, name: &[u8]) -> (Kind, rustix::io::Result<()>) {
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

    fn hard_link(&mut self, entry: &Entry, place: &Place, name: &[u8], real: &Path) -> Made {
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
        let stat = stat_at(place.fd.as_fd(), name)?;
        self.applied.journal.note(&place.real, name, What::Linked(target_real, stat));
        let names = self.linked.entry((stat.dev, stat.ino)).or_default();
        if names.is_empty() {
            names.push((folder.real, target_name.to_vec()));
        }
        names.push((place.real.clone(), name.to_vec()));
        Ok(())
    }

    /// Removes what is where an entry shall be. False: it cannot go, since something that is not the image's lies in it.
    fn make_way(&mut self, place: &Place, name: &[u8], real: &Path, stat: &Stat) -> Made<bool> {
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
    fn forget(&mut self, place: &Place, name: &[u8], real: &Path, stat: &Stat) {
        if stat.is_dir() || stat.kind() == Kind::Symlink {
            self.places.clear();
        }
        if stat.is_dir() {
            self.pending.retain(|path, _| !path.starts_with(real));
        }
        self.applied.journal.note(&place.real, name, What::Removed);
    }

    /// A whiteout. Where its folder is missing there is nothing to delete.
    fn delete(&mut self, above: &Path, name: &[u8]) -> Made {
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
    fn empty(&mut self, above: &Path) -> Made {
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

    fn dress(&self, entry: &Entry) -> Dress {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        let attributes = entry.attributes.clone();
        Dress { uid, gid, mode: entry.mode, mtime: Some(entry.mtime), attributes }
    }

    fn note(&mut self, place: &Place, name: &[u8], kind: Kind, hash: [u8; 16]) -> Made {
        let stat = stat_at(place.fd.as_fd(), name)?;
        let attributes = attributes::read(place.fd.as_fd(), name, kind)?;
        let card = Card { stat, hash, attributes: Some(attributes::digest(&attributes)) };
        self.applied.journal.note(&place.real, name, What::Put(card));
        Ok(())
    }

    /// Puts folders in order, the deepest first, and notes every card that moved after it was noted.
    fn finish(mut self) -> Result<Applied> {
        self.places.clear();
        for names in std::mem::take(&mut self.linked).into_values() {
            for (folder, name) in names {
                let stat = self.root.beneath().exact_folder(&folder).and_then(|fd| stat_at(fd.as_fd(), &*name));
                if let Ok(stat) = stat {
                    self.applied.journal.note(&folder, &name, What::Touched(stat));
                }
            }
        }
        let mut pending: Vec<(PathBuf, Pending)> = std::mem::take(&mut self.pending).into_iter().collect();
        pending.sort_unstable_by(|(left, _), (right, _)| right.cmp(left));
        for (path, pending) in pending {
            match self.finish_dir(&path, &pending) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => {
                    return Err(SnapshotError::path("set the time of", path, error));
                }
            }
        }
        self.applied.warnings = self.shortfalls.warnings();
        Ok(self.applied)
    }

    fn finish_dir(&mut self, path: &Path, pending: &Pending) -> rustix::io::Result<()> {
        let fd = self.root.beneath().exact_folder(path)?;
        let mut stat = stat_of(fd.as_fd())?;
        if let Some(mtime) = pending.mtime
            && stat.mtime != mtime
        {
            place::set_mtime(fd.as_fd(), b".", mtime)?;
            stat = stat_of(fd.as_fd())?;
        }
        if let Some(name) = path.file_name() {
            let attributes = attributes::read(fd.as_fd(), b".", Kind::Dir)?;
            let card = Card { stat, hash: NO_HASH, attributes: Some(attributes::digest(&attributes)) };
            let above = path.parent().unwrap_or(Path::new("/"));
            self.applied.journal.note(above, name.as_bytes(), What::Put(card));
        }
        Ok(())
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
    let mut path = PathBuf::new();
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

fn write_content(archive: &mut Archive<'_>, file: BorrowedFd<'_>) -> Made<[u8; 16]> {
    let mut hasher = blake3::Hasher::new();
    let mut empty = true;
    loop {
        let piece = archive.content()?;
        if piece.is_empty() {
            return Ok(if empty { NO_HASH } else { content::short(&hasher) });
        }
        empty = false;
        hasher.update(piece);
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

fn write_all(mut bytes: &[u8], mut write: impl FnMut(&[u8]) -> rustix::io::Result<usize>) -> Made {
    while !bytes.is_empty() {
        match write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
