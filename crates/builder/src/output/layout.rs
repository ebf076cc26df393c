//! `--oci-layout-path`: a folder in OCI image layout.

use std::path::Path;

use super::{Finished, OutputError};

pub(super) fn write(finished: &Finished<'_>, path: &Path) -> Result<(), OutputError> {
    Ok(zuwai_registry::layout::write(finished.image, finished.names(), path)?)
}
