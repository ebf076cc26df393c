//! A folder that is one day an image's `/`.
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::{Ignore, Kind, Metadata, Ownership, Result};

/// A folder that is one day an image's `/`; it may be `/` itself.
#[derive(Debug)]
pub struct RootFs {
    ignore: Ignore,
}

/// Where an image path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The image path without links.
    pub real: PathBuf,
    /// What is there; `None` where the last component is missing.
    pub kind: Option<Kind>,
}

#[allow(missing_docs, unused_variables, clippy::todo)]
impl RootFs {
    pub fn open(path: &Path, ignore: Ignore) -> Result<Self> { todo!() }
    pub fn path(&self) -> &Path { todo!() }
    pub fn ignore(&self) -> &Ignore { &self.ignore }
    pub fn resolve(&self, path: &Path) -> Result<Located> { todo!() }
    pub fn metadata(&self, path: &Path) -> Result<Option<Metadata>> { todo!() }
    pub fn read_file(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> { todo!() }
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> { todo!() }
    pub fn read_dir(&self, path: &Path) -> Result<Vec<OsString>> { todo!() }
    pub fn open_file(&self, path: &Path) -> Result<File> { todo!() }
    pub fn make_dirs(&self, path: &Path, ownership: &Ownership) -> Result<Vec<PathBuf>> { todo!() }
    pub fn park(&self, into: &Path) -> Result<()> { todo!() }
    pub fn restore(&self, from: &Path) -> Result<()> { todo!() }
    pub fn clear(&self) -> Result<()> { todo!() }
}
