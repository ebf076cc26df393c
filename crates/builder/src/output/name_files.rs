//! `--image-name-with-digest-file` and `--image-name-tag-with-digest-file`: one line for each destination.

use std::fmt::Write as _;

use super::Finished;

/// `registry/repository@sha256:…`, a line for each name.
pub(super) fn names(finished: &Finished<'_>) -> String {
    let mut text = String::new();
    for name in finished.names() {
        let _ = writeln!(text, "{}@{}", name.name(), finished.digest);
    }
    text
}

/// `registry/repository:tag@sha256:…`, a line for each name.
pub(super) fn names_and_tags(finished: &Finished<'_>) -> String {
    let mut text = String::new();
    for name in finished.names() {
        let _ = writeln!(text, "{}:{}@{}", name.name(), name.tag_or_latest(), finished.digest);
    }
    text
}
