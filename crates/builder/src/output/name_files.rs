//! `--image-name-with-digest-file` and `--image-name-tag-with-digest-file`: one line for each destination.

use std::fmt::Write;
use std::path::Path;

use super::digest_file::write_small;
use super::{Finished, OutputError};

/// `registry/repository@sha256:…`, a line for each name.
pub(super) fn write_names(finished: &Finished<'_>, path: &Path) -> Result<(), OutputError> {
    let mut text = String::new();
    for name in finished.names {
        let _ = writeln!(text, "{}/{}@{}", name.registry(), name.repository(), finished.digest);
    }
    write_small(path, text.as_bytes())
}

/// `registry/repository:tag@sha256:…`, a line for each name.
pub(super) fn write_names_and_tags(finished: &Finished<'_>, path: &Path) -> Result<(), OutputError> {
    let mut text = String::new();
    for name in finished.names {
        let (registry, repository) = (name.registry(), name.repository());
        let _ = writeln!(text, "{registry}/{repository}:{}@{}", name.tag_or_latest(), finished.digest);
    }
    write_small(path, text.as_bytes())
}
