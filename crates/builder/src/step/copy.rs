//! COPY and ADD: which source goes to which path. How files are copied is `snapshot`'s.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zuwai_snapshot::{CopyRequest, Ignore, Include, Kind, ModeChange, Ownership, RootFs, Scope, copy};

use super::ownership::accounts;
use super::{Ground, StepError, absolute, add, link, names_folder, remote};
use crate::context::files::{self, Pivot, both};
use crate::context::{Dockerignore, FilesError};
use crate::event::Event;
use crate::instruction::{CopyAction, InlineFile, SourceKind};

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
pub(super) struct Origin<'a> {
    pub(super) root: &'a RootFs,
    pub(super) ignore: Option<&'a Dockerignore>,
}

/// Carries out the instruction on the stage's root, or for `--link` on an empty one that is then put over it.
pub(super) fn execute(action: &CopyAction, ground: &Ground<'_>) -> Result<Scope, StepError> {
    if action.link {
        return link::over(ground, |empty| Job::new(action, ground, empty)?.run());
    }
    let mut changed = Job::new(action, ground, ground.root)?.run()?;
    changed.sort();
    changed.dedup();
    Ok(Scope::Paths(changed))
}

/// One instruction on one root.
struct Job<'a> {
    action: &'a CopyAction,
    ground: &'a Ground<'a>,
    onto: &'a RootFs,
    dress: Dress,
    target: Target,
    exclude: Dockerignore,
}

impl<'a> Job<'a> {
    fn new(action: &'a CopyAction, ground: &'a Ground<'a>, onto: &'a RootFs) -> Result<Self, StepError> {
        let dress = dress(action, ground, onto)?;
        let mut target = Target::find(action, onto)?;
        target.folder |= action.parents;
        // The patterns were checked when the instruction took effect.
        let exclude = Dockerignore::excluding(&action.exclude).unwrap_or_default();
        Ok(Job { action, ground, onto, dress, target, exclude })
    }

    fn run(&self) -> Result<Vec<PathBuf>, StepError> {
        let action = self.action;
        let mut changed = Vec::new();
        let mut matched = action.inline.len();
        let mut several = action.sources.len() + action.inline.len() > 1;
        for source in &action.sources {
            let copied = match action.kind_of(source) {
                SourceKind::Path => self.paths(source, &mut matched, &mut several)?,
                SourceKind::Web => self.web(source, &mut matched, several)?,
                SourceKind::Git => self.repository(source, &mut matched, several)?,
            };
            changed.extend(copied);
        }
        for file in &action.inline {
            self.check_several(several)?;
            changed.extend(self.inline(file)?);
        }
        if matched == 0 {
            let text =
                format!("{} {} matches nothing: nothing is copied", action.instruction, action.sources.join(" "));
            self.ground.observer.event(&Event::Warning { text: &text });
        }
        Ok(changed)
    }

    /// All but one of several files would be lost where the destination is no folder.
    fn check_several(&self, several: bool) -> Result<(), StepError> {
        if several && !self.target.folder {
            return Err(StepError::DestinationNotFolder { destination: self.action.destination.clone() });
        }
        Ok(())
    }

    /// Files and folders of the context, of a stage or of an image.
    fn paths(&self, source: &str, matched: &mut usize, several: &mut bool) -> Result<Vec<PathBuf>, StepError> {
        let (root, ignore) = self.ground.tree(self.action.from.as_deref());
        let origin = Origin { root, ignore };
        if self.action.parents {
            return self.with_parents(&origin, source, matched);
        }
        let sources = files::matching(root, std::slice::from_ref(&source.to_owned()), ignore);
        let sources = sources.map_err(|error| self.worded(error))?;
        *matched += sources.len();
        *several |= sources.len() > 1;
        self.check_several(*several)?;
        let mut changed = Vec::new();
        for source in &sources {
            let archive = self.action.unpack && source.kind == Kind::File && add::is_archive(root, &source.real)?;
            if archive {
                changed.extend(self.unpack(root, &source.path, &source.real)?);
            } else if source.kind == Kind::Dir {
                self.target.check_takes_folder(&source.path)?;
                changed.extend(self.onto.make_dirs(&self.target.path, &self.dress.parents)?);
                changed.extend(self.copy_one(&origin, &source.real, self.target.path.clone(), None)?);
            } else {
                let to = self.target.for_file(&source.path);
                changed.extend(self.copy_one(&origin, &source.real, to, None)?);
            }
        }
        Ok(changed)
    }

    fn worded(&self, error: FilesError) -> StepError {
        self.ground.worded(self.action.from.as_deref(), error).into()
    }

    /// `--parents`: what matches keeps its folders, from the context's root or from behind `/./`.
    fn with_parents(&self, origin: &Origin<'_>, source: &str, matched: &mut usize) -> Result<Vec<PathBuf>, StepError> {
        let Pivot { folder, pattern, literal, shown } = files::pivot(source)?;
        let mut changed = Vec::new();
        let folders = files::matching(origin.root, &[folder], origin.ignore).map_err(|error| self.worded(error))?;
        for folder in folders {
            if literal {
                files::one(origin.root, &format!("{}/{pattern}", folder.path.display()), origin.ignore)
                    .map_err(|error| self.worded(error))?;
            }
            if folder.kind != Kind::Dir {
                continue;
            }
            changed.extend(self.onto.make_dirs(&self.target.path, &self.dress.parents)?);
            let copied = self.copy_one(origin, &folder.real, self.target.path.clone(), shown.as_ref())?;
            *matched += copied.len();
            changed.extend(copied);
        }
        Ok(changed)
    }

    /// A file behind a web address.
    fn web(&self, address: &str, matched: &mut usize, several: bool) -> Result<Vec<PathBuf>, StepError> {
        *matched += 1;
        self.check_several(several)?;
        let download = remote::download(address, self.action.checksum.as_deref(), self.ground)?;
        let origin = Origin { root: &download.root, ignore: None };
        let path = Path::new("/").join(&download.name);
        if self.action.unpack_remote && add::is_archive(origin.root, &path)? {
            return self.unpack(origin.root, &path, &path);
        }
        let to = self.target.for_file(&path);
        self.with_owner_root().copy_one(&origin, &path, to, None)
    }

    /// The files of a git repository.
    fn repository(&self, address: &str, matched: &mut usize, several: bool) -> Result<Vec<PathBuf>, StepError> {
        *matched += 1;
        self.check_several(several)?;
        let checkout = remote::check_out(address, self.action, self.ground)?;
        self.target.check_takes_folder(Path::new(address))?;
        let origin = Origin { root: &checkout.root, ignore: None };
        let mut changed = self.onto.make_dirs(&self.target.path, &self.dress.parents)?;
        let to = self.target.path.clone();
        changed.extend(self.with_owner_root().copy_one(&origin, &checkout.path, to, None)?);
        Ok(changed)
    }

    /// The same job for files that were put down on this machine meanwhile: they are root's unless `--chown` says
    /// otherwise.
    fn with_owner_root(&self) -> Job<'a> {
        let dress = Dress { owner: self.dress.asked.or(Some((0, 0))), ..self.dress.clone() };
        let Job { action, ground, onto, .. } = *self;
        Job { action, ground, onto, dress, target: self.target.clone(), exclude: self.exclude.clone() }
    }

    fn unpack(&self, root: &RootFs, path: &Path, real: &Path) -> Result<Vec<PathBuf>, StepError> {
        self.target.check_takes_folder(path)?;
        let mut changed = self.onto.make_dirs(&self.target.path, &self.dress.parents)?;
        changed.extend(add::unpack(root, real, &self.target.path, &self.dress, self.onto, self.ground)?);
        Ok(changed)
    }

    /// A file that stands in the Dockerfile: 0644, root's unless `--chown` says otherwise.
    fn inline(&self, file: &InlineFile) -> Result<Vec<PathBuf>, StepError> {
        const WHAT: &str = "write the heredoc";
        let ground = self.ground;
        let path = ground.scratch.join("inline");
        ground.put_down(WHAT, fs::create_dir_all(&ground.scratch))?;
        ground.put_down(WHAT, fs::write(&path, &file.content))?;
        ground.put_down(WHAT, fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))?;
        let scratch = RootFs::open(&ground.scratch, Ignore::default())?;
        let origin = Origin { root: &scratch, ignore: None };
        let to = self.target.for_file(Path::new(&file.name));
        let copied = self.with_owner_root().copy_one(&origin, Path::new("/inline"), to, None)?;
        ground.put_down(WHAT, fs::remove_file(&path))?;
        Ok(copied)
    }

    /// Copies a file, or what is in a folder: what the ignore file, `--exclude` and `only` let through.
    fn copy_one(
        &self,
        origin: &Origin<'_>,
        from: &Path,
        to: PathBuf,
        only: Option<&Dockerignore>,
    ) -> Result<Vec<PathBuf>, StepError> {
        let include = |relative: &Path| {
            let seen = origin.ignore.map_or(Include::Yes, |ignore| ignore.include(&from.join(relative)));
            let kept = self.exclude.include(relative);
            let wanted = only.map_or(Include::Yes, |only| only.include(relative));
            both(both(seen, kept), wanted)
        };
        let request = CopyRequest {
            source: origin.root,
            from: from.to_owned(),
            to,
            owner: self.dress.owner,
            mode: self.dress.mode.clone(),
            parents: self.dress.parents,
            include: &include,
            cancelled: Some(self.ground.cancel.flag()),
        };
        let copied = copy(&request, self.onto)?;
        for text in &copied.warnings {
            self.ground.observer.event(&Event::Warning { text });
        }
        Ok(copied.paths)
    }
}

/// Names of users and groups are those of the root that is copied to.
fn dress(action: &CopyAction, ground: &Ground<'_>, onto: &RootFs) -> Result<Dress, StepError> {
    let asked = match &action.chown {
        Some(text) => Some(accounts(onto)?.owner(text)?),
        None => None,
    };
    let mode = match &action.chmod {
        Some(text) => Some(text.parse()?),
        None => None,
    };
    let (uid, gid) = asked.unwrap_or((0, 0));
    let parents =
        Ownership { uid, gid, mode: mode.as_ref().map_or(0o755, |mode: &ModeChange| mode.apply(0o755, true)) };
    let (_, of_context) = ground.tree(action.from.as_deref());
    let owner = if of_context.is_some() { Some((uid, gid)) } else { asked };
    Ok(Dress { owner, asked, mode, parents })
}

/// The destination, links followed.
#[derive(Clone)]
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
