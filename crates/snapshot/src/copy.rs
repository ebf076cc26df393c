//! COPY, and ADD of what is no archive: files from one root into another.
//!
//! The rules (Docker's, as `BuildKit` carries them out):
//!
//! * a folder's contents are merged into the destination; the destination itself, and folders above it that are missing,
//!   are made with the ownership the caller says; folders that are there keep theirs;
//! * a file replaces a file or a link; a folder never replaces something else, nor something else a folder;
//! * links in the destination's own path are followed inside the target, the last one included; links met inside a copied
//!   folder are copied as links;
//! * modification times, setuid and extended attributes are kept; hard links are kept within one source;
//! * pipes and devices are copied, sockets are left out.

mod file;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::AtFlags;
use rustix::io::Errno;
use tracing::info_span;

use crate::attributes::{self, Attributes};
use crate::beneath::{open_folder, open_listing, stat_at, stat_of};
use crate::error::During as _;
use crate::metadata::Stat;
use crate::place::{self, Dress, Shortfalls};
use crate::{Kind, ModeChange, Ownership, Result, RootFs, SnapshotError, ids};

/// Whether something below the source is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// It is copied; what is below it is asked for on its own.
    Yes,
    /// Neither it nor anything below it.
    No,
    /// Not it, but something below it may be: a folder is made only if something in it is copied.
    Below,
}

/// One source, and where it goes.
pub struct CopyRequest<'a> {
    /// Where the source lies.
    pub source: &'a RootFs,
    /// Its path inside the source; a link here is followed inside the source.
    pub from: PathBuf,
    /// The exact path it gets, already decided by the caller. Links in it are followed inside the target.
    pub to: PathBuf,
    /// Who everything belongs to; `None` keeps the source's owners.
    pub owner: Option<(u32, u32)>,
    /// What is done to the modes (not of links, and not of folders that were there).
    pub mode: Option<ModeChange>,
    /// What folders above `to`, and `to` itself where a folder is copied to a new name, are made with.
    pub parents: Ownership,
    /// Asked for each entry below a copied folder, with its path relative to `from`.
    pub include: &'a dyn Fn(&Path) -> Include,
    /// Asks for an end, which is an error: looked at before each entry, and while a large file is copied.
    pub cancelled: Option<&'a AtomicBool>,
}

impl fmt::Debug for CopyRequest<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = formatter.debug_struct("CopyRequest");
        out.field("source", &self.source.path()).field("from", &self.from).field("to", &self.to);
        out.field("owner", &self.owner).field("mode", &self.mode).field("parents", &self.parents);
        out.finish_non_exhaustive()
    }
}

/// What copying did.
#[derive(Debug, Default)]
pub struct Copied {
    /// Every image path created or changed, without links, in order, each once.
    pub paths: Vec<PathBuf>,
    /// What a user should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Copies a file or the contents of a folder.
///
/// # Errors
/// Names the path: the source is missing, a folder is in the way of a file or the other way round, the destination is
/// not part of the image, or the disk is full. What was copied before stays.
pub fn copy(request: &CopyRequest<'_>, target: &RootFs) -> Result<Copied> {
    let _span = info_span!(target: "zuwai", "copy").entered();
    let mut copier = Copier {
        request,
        target,
        copied: Vec::new(),
        shortfalls: Shortfalls::default(),
        skipped: Vec::new(),
        links: HashMap::new(),
        levels: Vec::new(),
        buffer: Vec::new(),
    };
    copier.run()?;
    let mut warnings = copier.shortfalls.warnings();
    if let Some(first) = copier.skipped.first() {
        let more = match copier.skipped.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let what = "not copied, since the path is not part of the image here (a mount point, or the builder's own)";
        warnings.push(format!("{what}: {}{more}", first.display()));
    }
    let mut paths = copier.copied;
    paths.sort();
    paths.dedup();
    Ok(Copied { paths, warnings })
}

struct Copier<'a> {
    request: &'a CopyRequest<'a>,
    target: &'a RootFs,
    /// Image paths that were made or changed, some more than once.
    copied: Vec<PathBuf>,
    shortfalls: Shortfalls,
    skipped: Vec<PathBuf>,
    /// Files of the source with several names: where the copy is.
    links: HashMap<(u64, u64), PathBuf>,
    levels: Vec<Level>,
    /// Where small files are on their way.
    buffer: Vec<u8>,
}

/// A folder that is being copied.
struct Level {
    source: OwnedFd,
    /// Its path inside the source.
    from: PathBuf,
    /// Its path relative to what is copied.
    relative: PathBuf,
    stat: Stat,
    names: std::vec::IntoIter<Vec<u8>>,
    /// The folder that it goes to, once there is reason to make it.
    target: Option<OwnedFd>,
    /// The image path of that folder.
    to: PathBuf,
    made: bool,
}

/// Deeper trees than this are not gone down into: every level holds two folders open.
const DEEPEST: usize = 4096;

impl Copier<'_> {
    fn run(&mut self) -> Result<()> {
        let from = &self.request.from;
        let located = self.request.source.resolve(from)?;
        if self.request.source.ignore().covers(&located.real) {
            return Err(SnapshotError::Ignored { path: located.real });
        }
        let to = self.target.resolve(&self.request.to)?;
        if self.target.ignore().covers(&to.real) {
            return Err(SnapshotError::Ignored { path: to.real });
        }
        match located.kind {
            None => Err(SnapshotError::path("copy", from, Errno::NOENT)),
            Some(Kind::Dir) => {
                if to.kind.is_some_and(|kind| kind != Kind::Dir) {
                    return Err(in_the_way(&to.real, Kind::Dir));
                }
                self.copied.extend(self.target.make_dirs(&to.real, &self.request.parents)?);
                self.tree(&located.real, &to.real)
            }
            Some(_) => self.single(&located.real, &to.real),
        }
    }

    /// One entry that is no folder.
    fn single(&mut self, from: &Path, to: &Path) -> Result<()> {
        let (Some(name), Some(new_name)) = (from.file_name(), to.file_name()) else {
            return Err(in_the_way(to, Kind::File));
        };
        let above = from.parent().unwrap_or(Path::new("/"));
        let source = self.request.source.beneath().exact_folder(above).during("open", above)?;
        let stat = stat_at(source.as_fd(), name).during("look at", from)?;
        let stat = self.request.source.beneath().seen(stat);
        let above = to.parent().unwrap_or(Path::new("/"));
        self.copied.extend(self.target.make_dirs(above, &self.request.parents)?);
        let target = self.target.beneath().exact_folder(above).during("open", above)?;
        self.entry(source.as_fd(), name.as_bytes(), &stat, target.as_fd(), new_name.as_bytes(), to)
    }

    /// What is in a folder.
    fn tree(&mut self, from: &Path, to: &Path) -> Result<()> {
        let source = self.request.source.beneath().exact_folder(from).during("open", from)?;
        let target = self.target.beneath().exact_folder(to).during("open", to)?;
        let stat = stat_of(source.as_fd()).during("look at", from)?;
        let stat = self.request.source.beneath().seen(stat);
        let level = Level::new(source, from.into(), PathBuf::new(), stat, to.into())?;
        self.levels.push(Level { target: Some(target), ..level });
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.names.next() {
                self.below(&name)?;
            } else {
                let done = self.levels.pop().expect("it was just looked at");
                self.leave(&done)?;
            }
        }
        Ok(())
    }

    fn go_on(&self) -> rustix::io::Result<()> {
        let cancelled = self.request.cancelled.is_some_and(|cancelled| cancelled.load(Ordering::Relaxed));
        if cancelled { Err(Errno::CANCELED) } else { Ok(()) }
    }

    /// An entry of the folder at hand.
    fn below(&mut self, name: &[u8]) -> Result<()> {
        let level = self.levels.last().expect("an entry lies in a folder");
        let name_text = OsStr::from_bytes(name);
        let (from, to) = (level.from.join(name_text), level.to.join(name_text));
        if self.request.source.ignore().covers(&from) {
            return Ok(());
        }
        let relative = level.relative.join(name_text);
        let include = (self.request.include)(&relative);
        if include == Include::No {
            return Ok(());
        }
        let stat = stat_at(level.source.as_fd(), name).during("look at", &from)?;
        let stat = self.request.source.beneath().seen(stat);
        if self.target.ignore().covers(&to) {
            // The folders that every container has, and other images bring along empty.
            if !stat.is_dir() {
                self.skipped.push(to);
            }
            return Ok(());
        }
        if stat.is_dir() {
            if self.levels.len() > DEEPEST {
                return Err(SnapshotError::path("copy", from, Errno::NAMETOOLONG));
            }
            let source = open_folder(level.source.as_fd(), name_text).during("open", &from)?;
            let level = Level::new(source, from, relative, stat, to)?;
            self.levels.push(level);
            if include == Include::Yes {
                self.reach()?;
            }
            return Ok(());
        }
        if include == Include::Below {
            return Ok(());
        }
        self.go_on().during("copy", &from)?;
        self.reach()?;
        let level = self.levels.pop().expect("it is the folder at hand");
        let target = level.target.as_ref().expect("it was reached");
        let done = self.entry(level.source.as_fd(), name, &stat, target.as_fd(), name, &to);
        self.levels.push(level);
        done
    }

    /// Makes the folders that lead to the one at hand, as far as they are missing.
    fn reach(&mut self) -> Result<()> {
        for depth in 1..self.levels.len() {
            if self.levels[depth].target.is_some() {
                continue;
            }
            let above = self.levels[depth - 1].target.as_ref().expect("folders are reached from the top");
            let level = &self.levels[depth];
            let name = level.to.file_name().expect("a folder below another has a name");
            let made = match rustix::fs::mkdirat(above, name, rustix::fs::Mode::from(0o700)) {
                Ok(()) => true,
                Err(Errno::EXIST) => self.target.scaffold().holds(&level.to),
                Err(error) => return Err(SnapshotError::path("make the folder", &level.to, error)),
            };
            if !made && !stat_at(above.as_fd(), name).during("look at", &level.to)?.is_dir() {
                return Err(in_the_way(&level.to, Kind::Dir));
            }
            let target = open_folder(above.as_fd(), name).during("open", &level.to)?;
            if made {
                self.target.scaffold().take(&level.to);
                self.copied.push(level.to.clone());
            }
            let level = &mut self.levels[depth];
            (level.target, level.made) = (Some(target), made);
        }
        Ok(())
    }

    /// Dresses a folder that was made, now that nothing more is put into it.
    fn leave(&mut self, level: &Level) -> Result<()> {
        if let (true, Some(target)) = (level.made, &level.target) {
            let dress = self.dress(level.source.as_fd(), b".", &level.stat, &level.from)?;
            place::dress(
                target.as_fd(),
                b".",
                Kind::Dir,
                &dress,
                self.target.beneath().owners(),
                &level.to,
                &mut self.shortfalls,
            )
            .during("set owner and mode of", &level.to)
            .map_err(|error| ids::explain(error, dress.uid, dress.gid))?;
        }
        Ok(())
    }

    /// Copies one entry that is no folder, over whatever but a folder is there.
    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        target: BorrowedFd<'_>,
        new_name: &[u8],
        to: &Path,
    ) -> Result<()> {
        let kind = stat.kind();
        if kind == Kind::Socket {
            self.shortfalls.socket(to.to_path_buf());
            return Ok(());
        }
        let first = if stat.nlink > 1 { self.links.get(&(stat.dev, stat.ino)) } else { None };
        if let Some((folder, first)) = first.and_then(|first| first.parent().zip(first.file_name())) {
            make_room(target, new_name, kind, to)?;
            let folder = self.target.beneath().exact_folder(folder).during("open", folder)?;
            rustix::fs::linkat(&folder, first, target, new_name, AtFlags::empty()).during("make the hard link", to)?;
        } else {
            if kind == Kind::File && self.target.beneath().owners().is_none() {
                self.file(source, name, stat, target, new_name, to)?;
            } else {
                make_room(target, new_name, kind, to)?;
                match place::duplicate(source, name, stat, target, new_name, &|| self.go_on()) {
                    Err(Errno::PERM) if matches!(kind, Kind::CharDevice | Kind::BlockDevice) => {
                        self.shortfalls.device(to.to_path_buf());
                        return Ok(());
                    }
                    done => done.during("write", to)?,
                }
                let dress = self.dress(source, name, stat, to)?;
                place::dress(target, new_name, kind, &dress, self.target.beneath().owners(), to, &mut self.shortfalls)
                    .during("set owner and mode of", to)
                    .map_err(|error| ids::explain(error, dress.uid, dress.gid))?;
            }
            if stat.nlink > 1 {
                self.links.insert((stat.dev, stat.ino), to.to_path_buf());
            }
        }
        self.copied.push(to.to_path_buf());
        Ok(())
    }

    fn dress(&self, at: BorrowedFd<'_>, name: &[u8], stat: &Stat, path: &Path) -> Result<Dress> {
        let attributes = attributes::read(at, name, stat.kind()).during("read the extended attributes of", path)?;
        Ok(self.dress_with(attributes, stat))
    }

    fn dress_with(&self, attributes: Attributes, stat: &Stat) -> Dress {
        let (uid, gid) = self.request.owner.unwrap_or((stat.uid, stat.gid));
        let mode = match &self.request.mode {
            Some(change) => change.apply(stat.permissions(), stat.is_dir()),
            None => stat.permissions(),
        };
        Dress { uid, gid, mode, mtime: Some(stat.mtime), attributes }
    }
}

/// Takes away what an entry of that kind replaces.
fn make_room(target: BorrowedFd<'_>, name: &[u8], kind: Kind, to: &Path) -> Result<()> {
    match stat_at(target, name) {
        Err(Errno::NOENT) => Ok(()),
        Ok(there) if there.is_dir() => Err(in_the_way(to, kind)),
        Ok(_) => rustix::fs::unlinkat(target, name, AtFlags::empty()).during("replace", to),
        Err(error) => Err(SnapshotError::path("look at", to, error)),
    }
}

impl Level {
    fn new(source: OwnedFd, from: PathBuf, relative: PathBuf, stat: Stat, to: PathBuf) -> Result<Self> {
        let listing = open_listing(source.as_fd(), b".").during("list", &from)?;
        let names = place::list(listing.as_fd()).during("list", &from)?.into_iter();
        Ok(Self { source, from, relative, stat, names, target: None, to, made: false })
    }
}

fn in_the_way(path: &Path, of: Kind) -> SnapshotError {
    let reason = match of {
        Kind::Dir => "something that is not a folder is in the way of a folder",
        _ => "a folder is in the way of something that is not a folder",
    };
    SnapshotError::InTheWay { path: path.into(), reason }
}
