//! `--digest-file`: the digest of the manifest, without a newline, because Tekton and Skaffold take the file verbatim.

use super::Finished;

pub(super) fn text(finished: &Finished<'_>) -> String {
    finished.digest.to_string()
}
