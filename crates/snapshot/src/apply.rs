//! A layer to files.
use std::io::Read;
use std::path::PathBuf;

use crate::{Result, RootFs};

/// How an archive is applied.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// The folder of the root that the archive's names are relative to. It exists.
    pub into: PathBuf,
    /// Everything belongs to this owner and group, whatever the archive says (ADD `--chown`).
    pub owner: Option<(u32, u32)>,
    /// Whether names beginning with `.wh.` delete: true for a layer, false for an archive that ADD unpacks.
    pub whiteouts: bool,
    /// The most bytes of content that are written, all files together.
    pub max_bytes: u64,
    /// The most entries that are read.
    pub max_entries: u64,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self { into: PathBuf::from("/"), owner: None, whiteouts: true, max_bytes: 1 << 40, max_entries: 1 << 25 }
    }
}

/// What applying an archive did.
#[derive(Debug, Default)]
pub struct Applied {
    /// How many entries were applied.
    pub entries: usize,
    /// What a user should know, one sentence each.
    pub warnings: Vec<String>,
}

impl Applied {
    /// The image paths that were created, changed or removed, without links, in order, each once.
    pub fn paths(&self) -> Vec<PathBuf> {
        todo!()
    }
}

/// Applies a tar archive to a root.
pub fn apply_tar(_: &mut dyn Read, _: &RootFs, _: &ApplyOptions) -> Result<Applied> {
    todo!()
}
