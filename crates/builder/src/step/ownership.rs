//! The users and groups of the image that is being built.

use std::path::Path;

use zuwai_snapshot::RootFs;

use super::StepError;
use crate::passwd::Accounts;

/// No list of users is longer than this many bytes.
const LONGEST: u64 = 16 << 20;

/// What /etc/passwd and /etc/group of the root say now; a file that is not there says nothing.
pub(super) fn accounts(root: &RootFs) -> Result<Accounts, StepError> {
    let read = |path: &str| root.read_file(Path::new(path), LONGEST).map(Option::unwrap_or_default);
    Ok(Accounts::parse(&read("/etc/passwd")?, &read("/etc/group")?))
}
