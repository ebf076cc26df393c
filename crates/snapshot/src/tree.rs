//! A tree as text, for golden files.
use std::io::Read;

use crate::{Result, RootFs};

/// The tree as text.
pub fn render(_: &RootFs) -> Result<String> {
    todo!()
}

/// The entries of a layer as text.
pub fn render_tar(_: &mut dyn Read) -> Result<String> {
    todo!()
}
