//! WORKDIR: the folder is made if it is not there. "If the WORKDIR doesn't exist, it will be created", as the current
//! USER, 0755, every level; a folder that is there is not changed.

use std::path::PathBuf;

use zuwai_snapshot::{Kind, Ownership, Scope};

use super::ownership::accounts;
use super::{Ground, StepError};
use crate::instruction::WorkdirAction;

pub(super) fn execute(action: &WorkdirAction, ground: &Ground<'_>) -> Result<Scope, StepError> {
    let path = PathBuf::from(&action.path);
    let located = ground.root.resolve(&path)?;
    match located.kind {
        Some(Kind::Dir) if ground.root.has_folder(&located.real) => return Ok(Scope::Paths(Vec::new())),
        Some(Kind::Dir) | None => {}
        Some(_) => return Err(StepError::NotAFolder { path }),
    }
    // BuildKit reads USER here as it reads --chown: a lone number is the group, too.
    let (uid, gid) = if action.user.is_empty() { (0, 0) } else { accounts(ground.root)?.owner(&action.user)? };
    let created = ground.root.make_dirs(&path, &Ownership { uid, gid, mode: 0o755 })?;
    Ok(Scope::Paths(created))
}
