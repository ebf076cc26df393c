//! COPY, and ADD as far as it is the same: which source goes to which path. How files are copied is `snapshot`'s.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zuwai_snapshot::{CopyRequest, Ignore, Include, Kind, ModeChange, Ownership, RootFs, Scope, copy};

use super::ownership::accounts;
use super::{Ground, StepError, absolute, add, names_folder};
use crate::context::{Dockerignore, files};
use crate::event::Event;
use crate::instruction::{CopyAction, InlineFile};

/// How everything that one instruction copies is owned.
#[derive(Clone)]
pub(super) struct Dress {
    /// `--chown`; without it, root for files of the context, and what they have for files of a stage or an image.
    pub(super) owner: Option<(u32, u32)>,
    /// `--chown` alone: what an archive unpacks to keeps the archive's owners without it.
    pub(super) asked: Option<(u32, u32)>,
    /// `--chmod`.
    pub(super) mode: Option<ModeChange>,
    /// Folders that must be made above the destination: they get `--chown` and `--chmod` too, and are root's, 0755,
    /// without.
    pub(super) parents: Ownership,
}

/// Where the sources lie, and what of them is not to be seen.
struct Origin<'a> {
    root: &'a RootFs,
    ignore: Option<&'a Dockerignore>,
}

pub(super) fn execute(action: &CopyAction, ground: &Ground<'_>) -> Result<Scope, StepError> {
    let (root, ignore) = ground.tree(action.from.as_deref());
    let origin = Origin { root, ignore };
    let sources = files::matching(origin.root, &action.sources, origin.ignore)?;
    if sources.is_empty() && action.inline.is_empty() {
        let text = format!("{} {} matches nothing: nothing is copied", action.instruction, action.sources.join(" "));
        ground.observer.event(&Event::Warning { text: &text });
    }
    let many = sources.len().max(action.sources.len()) + action.inline.len() > 1;
    if many && !names_folder(&action.destination) {
        return Err(StepError::DestinationNotFolder { destination: action.destination.clone() });
    }
    let dress = dress(action, ground)?;
    let target = Target::find(action, ground.root)?;
    let mut changed = Vec::new();
    for source in &sources {
        if source.kind == Kind::Dir {
            target.check_takes_folder(&source.path)?;
            changed.extend(ground.root.make_dirs(&target.path, &dress.parents)?);
            changed.extend(copy_one(&origin, &source.real, target.path.clone(), &dress, ground)?);
        } else if action.unpack && source.kind == Kind::File && add::is_archive(origin.root, &source.real)? {
            target.check_takes_folder(&source.path)?;
            changed.extend(ground.root.make_dirs(&target.path, &dress.parents)?);
            changed.extend(add::unpack(origin.root, &source.real, &target.path, &dress, ground)?);
        } else {
            let to = target.for_file(&source.path);
            changed.extend(copy_one(&origin, &source.real, to, &dress, ground)?);
        }
    }
    for file in &action.inline {
        changed.extend(write_inline(file, &target, &dress, ground)?);
    }
    changed.sort();
    changed.dedup();
    Ok(Scope::Paths(changed))
}

/// A file that stands in the Dockerfile: 0644, root's unless `--chown` says otherwise.
fn write_inline(
    file: &InlineFile,
    target: &Target,
    dress: &Dress,
    ground: &Ground<'_>,
) -> Result<Vec<PathBuf>, StepError> {
    const WHAT: &str = "write the heredoc";
    let path = ground.scratch.join("inline");
    ground.put_down(WHAT, fs::create_dir_all(&ground.scratch))?;
    ground.put_down(WHAT, fs::write(&path, &file.content))?;
    ground.put_down(WHAT, fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))?;
    let scratch = RootFs::open(&ground.scratch, Ignore::default())?;
    let origin = Origin { root: &scratch, ignore: None };
    let dress = Dress { owner: dress.asked.or(Some((0, 0))), ..dress.clone() };
    let copied = copy_one(&origin, Path::new("/inline"), target.for_file(Path::new(&file.name)), &dress, ground)?;
    ground.put_down(WHAT, fs::remove_file(&path))?;
    Ok(copied)
}

fn dress(action: &CopyAction, ground: &Ground<'_>) -> Result<Dress, StepError> {
    let asked = match &action.chown {
        Some(text) => Some(accounts(ground.root)?.owner(text)?),
        None => None,
    };
    let mode = match &action.chmod {
        Some(text) => Some(text.parse()?),
        None => None,
    };
    let (uid, gid) = asked.unwrap_or((0, 0));
    let parents =
        Ownership { uid, gid, mode: mode.as_ref().map_or(0o755, |mode: &ModeChange| mode.apply(0o755, true)) };
    let owner = if action.from.is_some() { asked } else { Some((uid, gid)) };
    Ok(Dress { owner, asked, mode, parents })
}

fn copy_one(
    origin: &Origin<'_>,
    from: &Path,
    to: PathBuf,
    dress: &Dress,
    ground: &Ground<'_>,
) -> Result<Vec<PathBuf>, StepError> {
    let include = |relative: &Path| origin.ignore.map_or(Include::Yes, |ignore| ignore.include(&from.join(relative)));
    let request = CopyRequest {
        source: origin.root,
        from: from.to_owned(),
        to,
        owner: dress.owner,
        mode: dress.mode.clone(),
        parents: dress.parents,
        include: &include,
    };
    let copied = copy(&request, ground.root)?;
    for text in &copied.warnings {
        ground.observer.event(&Event::Warning { text });
    }
    Ok(copied.paths)
}

/// The destination, links followed.
struct Target {
    path: PathBuf,
    kind: Option<Kind>,
    folder: bool,
}

impl Target {
    fn find(action: &CopyAction, root: &RootFs) -> Result<Target, StepError> {
        let written = absolute(&action.working_dir, &action.destination);
        let located = root.resolve(&written)?;
        if root.ignore().covers(&located.real) {
            return Err(StepError::Ignored { path: located.real });
        }
        let folder = names_folder(&action.destination);
        match located.kind {
            Some(kind) if folder && kind != Kind::Dir => Err(StepError::NotAFolder { path: located.real }),
            kind => Ok(Target { path: located.real, kind, folder }),
        }
    }

    /// A folder's contents can go where a folder is, or where nothing is.
    fn check_takes_folder(&self, source: &Path) -> Result<(), StepError> {
        match self.kind {
            None | Some(Kind::Dir) => Ok(()),
            Some(_) => Err(StepError::FolderOverFile {
                source_path: source.strip_prefix("/").unwrap_or(source).display().to_string(),
                destination: self.path.display().to_string(),
            }),
        }
    }

    /// A file goes into a folder under its own name, and anywhere else under the destination's.
    fn for_file(&self, source: &Path) -> PathBuf {
        if self.folder || self.kind == Some(Kind::Dir) {
            self.path.join(source.file_name().unwrap_or(OsStr::new("")))
        } else {
            self.path.clone()
        }
    }
}
