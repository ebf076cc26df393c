//! Archive.
use crate::client::RegistryError;
use crate::image::{Image, Reference};
use std::path::Path;
/// Writes.
pub fn write(image: &Image, references: &[Reference], path: &Path) -> Result<(), RegistryError> {
    let _ = (image, references, path);
    todo!()
}
