//! COPY.
use std::path::{Path, PathBuf};

use crate::{ModeChange, Ownership, Result, RootFs};

/// Whether something below the source is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// It is copied.
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
    /// What is done to the modes (not of links).
    pub mode: Option<ModeChange>,
    /// What folders above `to`, and `to` itself where a folder is copied to a new name, are made with.
    pub parents: Ownership,
    /// Asked for each entry below a copied folder, with its path relative to `from`.
    pub include: &'a dyn Fn(&Path) -> Include,
}

/// What copying did.
#[derive(Debug, Default)]
pub struct Copied {
    /// Every image path created or changed, without links, in order, each once.
    pub paths: Vec<PathBuf>,
    /// What a user should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Copies.
pub fn copy(_: &CopyRequest<'_>, _: &RootFs) -> Result<Copied> {
    todo!()
}
