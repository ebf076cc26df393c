//! `--tar-path`: an archive as `docker save` writes it.

use std::path::Path;

use super::{Finished, OutputError};

pub(super) fn write(finished: &Finished<'_>, path: &Path) -> Result<(), OutputError> {
    Ok(zuwai_registry::archive::write(finished.image, finished.names(), path)?)
}
