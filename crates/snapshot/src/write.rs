//! Changes to a layer.
use std::io::Write;

use crate::{Change, Result, RootFs};

/// How a layer is written.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// No modification time later than this many seconds since 1970 is written (`SOURCE_DATE_EPOCH`).
    pub latest_mtime: Option<i64>,
}

/// What writing a layer did.
#[derive(Debug, Default)]
pub struct Written {
    /// How many entries the layer has.
    pub entries: usize,
    /// What a user should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Writes the layer of the changes.
pub fn write_tar(_: &[Change], _: &RootFs, _: &mut dyn Write, _: &WriteOptions) -> Result<Written> {
    todo!()
}
