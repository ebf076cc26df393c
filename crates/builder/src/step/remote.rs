//! Sources of ADD that are not files of the build: what a web address answers, and what a git repository holds. They are
//! put down in the scratch folder; from there on they are files like any other.

use std::fs;
use std::path::{Path, PathBuf};

use zuwai_registry::Digest;
use zuwai_snapshot::{Ignore, RootFs};

use super::{Ground, StepError};
use crate::context::{Checkout, remove_git, repository};
use crate::event::Event;
use crate::instruction::CopyAction;
use crate::web;

/// A file that was fetched.
pub(super) struct Download {
    /// Where it lies, alone.
    pub(super) root: RootFs,
    /// Its name: the last part of the address's path.
    pub(super) name: String,
}

/// A repository's files.
pub(super) struct Tree {
    /// Where they lie.
    pub(super) root: RootFs,
    /// The folder of it that was asked for.
    pub(super) path: PathBuf,
}

/// Fetches what an address answers: 0600, with the time the server gives, or 1970 where it gives none.
pub(super) fn download(address: &str, checksum: Option<&str>, ground: &Ground<'_>) -> Result<Download, StepError> {
    const WHAT: &str = "put the download down";
    let folder = empty_folder(ground, WHAT)?;
    ground.observer.event(&Event::ContextFetching { location: &web::shown(address) });
    let name = web::name(address);
    let fetched = web::fetch(address, &folder.join(&name), ground.transport, ground.cancel.flag())?;
    if let Some(told) = ground.told {
        told.compare(address, fetched.etag.as_deref());
    }
    if let Some(wanted) = checksum {
        // It was read when the instruction took effect.
        let wanted: Digest = wanted.parse().map_err(|_| StepError::Checksum {
            address: web::shown(address),
            wanted: wanted.to_owned(),
            found: "nothing that can be compared".to_owned(),
        })?;
        let found = fetched.digest(wanted.algorithm());
        if found != wanted {
            return Err(StepError::Checksum {
                address: web::shown(address),
                wanted: wanted.to_string(),
                found: found.to_string(),
            });
        }
    }
    Ok(Download { root: RootFs::open(&folder, Ignore::default())?, name })
}

/// Clones a repository, one commit deep, with its submodules; `.git` stays only where that was asked for.
pub(super) fn check_out(address: &str, action: &CopyAction, ground: &Ground<'_>) -> Result<Tree, StepError> {
    const WHAT: &str = "put the repository down";
    let folder = empty_folder(ground, WHAT)?;
    let wanted = repository(address)?;
    ground.observer.event(&Event::ContextFetching { location: &wanted.shown() });
    let Checkout { commit, .. } = wanted.check_out(ground.git, ground.transport, &folder, ground.cancel.flag())?;
    if let Some(told) = ground.told {
        told.compare(address, Some(&commit));
    }
    let checksum = action.checksum.as_deref().or(wanted.checksum.as_deref());
    if let Some(checksum) = checksum
        && !commit.starts_with(&checksum.to_ascii_lowercase())
    {
        return Err(StepError::Checksum {
            address: wanted.shown(),
            wanted: checksum.to_owned(),
            found: format!("commit {commit}"),
        });
    }
    if action.keep_git_dir.or(wanted.keep_git_dir) != Some(true) {
        ground.put_down(WHAT, remove_git(&folder))?;
    }
    let root = RootFs::open(&folder, Ignore::default())?;
    let path = root.resolve(&Path::new("/").join(wanted.folder.as_deref().unwrap_or_default()))?;
    if path.kind.is_none() {
        return Err(StepError::NoFolderInRepository {
            address: wanted.shown(),
            folder: wanted.folder.clone().unwrap_or_default(),
        });
    }
    Ok(Tree { root, path: path.real })
}

/// A folder with nothing in it, below the scratch folder.
fn empty_folder(ground: &Ground<'_>, what: &'static str) -> Result<PathBuf, StepError> {
    let folder = ground.scratch.join("remote");
    if folder.exists() {
        ground.put_down(what, fs::remove_dir_all(&folder))?;
    }
    ground.put_down(what, fs::create_dir_all(&folder))?;
    Ok(folder)
}
