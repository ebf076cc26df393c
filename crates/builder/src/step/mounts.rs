//! The sources of a RUN's mounts: which files, which folder, which secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use zuwai_registry::Digest;
use zuwai_snapshot::{CopyRequest, Ignore, Include, Ownership, RootFs, copy};

use super::{Ground, StepError};
use crate::context::files;
use crate::instruction::{self, MountKind, Sharing};
use crate::isolation::IsolationError;
use crate::isolation::mount::{Mount, MountSource};

/// What is laid for one command.
pub(super) struct Found<'a> {
    /// In the order of the flags; what was not given and is not required is left out.
    pub(super) mounts: Vec<Mount<'a>>,
    /// Variables that the command gets besides its own.
    pub(super) environment: Vec<String>,
    /// Held while the command runs: nobody else uses its caches.
    pub(super) locks: Vec<File>,
}

/// Where agents' sockets lie unless the mount says.
const SOCKETS: &str = "/run/buildkit/ssh_agent";

/// What of the origin of each bind mount may be seen, by the place of the mount among the flags.
pub(super) type Visible<'a> = Box<dyn Fn(&Path) -> Include + 'a>;

/// See [`Visible`].
pub(super) fn visible<'a>(mounts: &'a [instruction::Mount], ground: &'a Ground<'_>) -> Vec<Visible<'a>> {
    let of = |mount: &'a instruction::Mount| -> Visible<'a> {
        let MountKind::Bind { from, .. } = &mount.kind else { return Box::new(|_| Include::Yes) };
        match ground.tree(from.as_deref()) {
            (_, Some(ignore)) => Box::new(|path| ignore.include(path)),
            (_, None) => Box::new(|_| Include::Yes),
        }
    };
    mounts.iter().map(of).collect()
}

/// Finds the source of every mount.
pub(super) fn find<'a>(
    mounts: &'a [instruction::Mount],
    ground: &'a Ground<'_>,
    visible: &'a [Visible<'a>],
) -> Result<Found<'a>, StepError> {
    let mut found = Found { mounts: Vec::new(), environment: Vec::new(), locks: Vec::new() };
    let mut sockets = 0;
    let mut shared = lock_shared(mounts, ground)?;
    for (mount, visible) in mounts.iter().zip(visible) {
        let target = PathBuf::from(&mount.target);
        match &mount.kind {
            MountKind::Bind { from, source, writable } => {
                let source = tree(ground, from.as_deref(), source, *writable, visible)?;
                found.mounts.push(Mount { target, source });
            }
            MountKind::Cache { writable, .. } => {
                let (folder, lock) = cache(&mount.kind, &mut shared, ground)?;
                let source = if *writable { MountSource::Folder(folder) } else { MountSource::ReadOnlyFolder(folder) };
                found.locks.push(lock);
                found.mounts.push(Mount { target, source });
            }
            MountKind::Tmpfs { size } => {
                found.mounts.push(Mount { target, source: MountSource::Empty { size: *size } });
            }
            MountKind::Secret { id, env, required, ownership } => {
                let Some(value) = ground.secrets.value(id) else {
                    if *required {
                        return Err(StepError::NoSecret { id: id.clone() });
                    }
                    continue;
                };
                if let Some(env) = env {
                    let text = std::str::from_utf8(value).ok().filter(|text| !text.contains('\0'));
                    let text = text.ok_or_else(|| StepError::SecretNotText { id: id.clone(), env: env.clone() })?;
                    found.environment.push(format!("{env}={text}"));
                }
                if !mount.target.is_empty() {
                    found.mounts.push(Mount { target, source: MountSource::File(value, *ownership) });
                }
            }
            MountKind::Ssh { id, required, ownership } => {
                let number = sockets;
                sockets += 1;
                let Some(agent) = ground.secrets.agent(id) else {
                    if *required {
                        return Err(StepError::NoAgent { id: id.clone() });
                    }
                    continue;
                };
                let target =
                    if mount.target.is_empty() { PathBuf::from(format!("{SOCKETS}.{number}")) } else { target };
                if !found.environment.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK=")) {
                    found.environment.push(format!("SSH_AUTH_SOCK={}", target.display()));
                }
                found.mounts.push(Mount { target, source: MountSource::Socket(agent, *ownership) });
            }
            MountKind::Script { name, content } => {
                let source = MountSource::Script(content.as_bytes(), (0, 0, 0o755));
                found.mounts.push(Mount { target: target.join(name), source });
            }
        }
    }
    Ok(found)
}

/// Files of a stage, an image or a context.
fn tree<'a>(
    ground: &'a Ground<'_>,
    from: Option<&str>,
    source: &str,
    writable: bool,
    visible: &'a dyn Fn(&Path) -> Include,
) -> Result<MountSource<'a>, StepError> {
    let (root, ignore) = ground.tree(from);
    let named = files::one(root, source, ignore).map_err(|error| ground.worded(from, error))?;
    let owner = ignore.map(|_| (0, 0));
    Ok(MountSource::Tree { root, path: named.real, owner, include: visible, writable })
}

/// The locks of the caches that are not private, by their folders' names. A folder can lie in one root at a time, so who
/// shares it takes turns; and everybody asks in the order of the names, so that no two wait for each other.
fn lock_shared(mounts: &[instruction::Mount], ground: &Ground<'_>) -> Result<BTreeMap<String, File>, StepError> {
    let shared =
        mounts.iter().filter(|mount| !matches!(mount.kind, MountKind::Cache { sharing: Sharing::Private, .. }));
    let names: BTreeSet<String> = shared.filter_map(|mount| folder_of(&mount.kind)).collect();
    let mut locks = BTreeMap::new();
    for name in names {
        loop {
            if let Some(lock) = try_lock(&name, ground)? {
                locks.insert(name, lock);
                break;
            }
            if ground.cancel.is_cancelled() {
                return Err(IsolationError::Cancelled.into());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(locks)
}

/// The lock of a cache's folder; `None`: somebody else has it.
fn try_lock(name: &str, ground: &Ground<'_>) -> Result<Option<File>, StepError> {
    let failed = |source| StepError::Scratch { what: "keep the cache in", path: ground.caches.to_owned(), source };
    fs::create_dir_all(ground.caches).map_err(failed)?;
    let lock = File::create(ground.caches.join(format!("{name}.lock"))).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The folder of a cache, made if it is not there, and the lock that is held on it.
fn cache(
    kind: &MountKind,
    shared: &mut BTreeMap<String, File>,
    ground: &Ground<'_>,
) -> Result<(PathBuf, File), StepError> {
    let MountKind::Cache { id, sharing, from, source, ownership, .. } = kind else {
        unreachable!("only caches come here")
    };
    let key = key(id, from.as_deref(), source, *ownership);
    let (name, lock) = if *sharing == Sharing::Private {
        let mut number = 0;
        loop {
            let name = if number == 0 { key.clone() } else { format!("{key}-{number}") };
            if let Some(lock) = try_lock(&name, ground)? {
                break (name, lock);
            }
            number += 1;
        }
    } else {
        let lock = shared.remove(&key).ok_or_else(|| StepError::SameCache { id: id.clone() })?;
        (key, lock)
    };
    let folder = ground.caches.join(name);
    if !folder.is_dir() {
        seed(&folder, from.as_deref(), source, ownership.unwrap_or((0, 0, 0o755)), ground)?;
    }
    Ok((folder, lock))
}

/// What the folder of a cache mount is called; `None` for other mounts.
pub(crate) fn folder_of(kind: &MountKind) -> Option<String> {
    match kind {
        MountKind::Cache { id, from, source, ownership, .. } => Some(key(id, from.as_deref(), source, *ownership)),
        _ => None,
    }
}

/// What the folder of a cache is called: Kaniko's name for it, the SHA-256 of its id. What a new one begins as makes it
/// another cache, as in `BuildKit`.
fn key(id: &str, from: Option<&str>, source: &str, ownership: Option<(u32, u32, u32)>) -> String {
    let begins = (from.is_some() || source != "/").then(|| format!("\0from {} {source}", from.unwrap_or_default()));
    let owner = ownership.map(|(uid, gid, mode)| format!("\0owner {uid}:{gid} {mode:o}"));
    let text = [Some(id.to_owned()), begins, owner].into_iter().flatten().collect::<String>();
    Digest::of(text.as_bytes()).hex().to_owned()
}

/// A new cache: empty, or a copy of what it is to begin as. It appears whole.
fn seed(
    folder: &Path,
    from: Option<&str>,
    source: &str,
    (uid, gid, mode): (u32, u32, u32),
    ground: &Ground<'_>,
) -> Result<(), StepError> {
    const WHAT: &str = "make the cache";
    let failed = |source| StepError::Scratch { what: WHAT, path: folder.to_owned(), source };
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).map_err(failed)?;
    }
    fs::create_dir(&part).map_err(failed)?;
    let root = RootFs::open(&part, Ignore::default())?;
    let ownership = Ownership { uid, gid, mode };
    root.make_dirs(Path::new("/cache"), &ownership)?;
    if from.is_some() {
        let (tree, ignore) = ground.tree(from);
        let named = files::one(tree, source, ignore).map_err(|error| ground.worded(from, error))?;
        let top = named.real.clone();
        let include = |path: &Path| ignore.map_or(Include::Yes, |ignore| ignore.include(&top.join(path)));
        let request = CopyRequest {
            source: tree,
            from: named.real,
            to: PathBuf::from("/cache"),
            owner: ignore.map(|_| (0, 0)),
            mode: None,
            parents: ownership,
            include: &include,
            cancelled: Some(ground.cancel.flag()),
        };
        copy(&request, &root)?;
    }
    fs::rename(part.join("cache"), folder).and_then(|()| fs::remove_dir(&part)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_that_begin_alike_under_one_id_are_one_cache() {
        let plain = key("/root/.m2", None, "/", None);
        assert_eq!(plain, Digest::of(b"/root/.m2").hex());
        let others = [
            key("/root/.m3", None, "/", None),
            key("/root/.m2", Some("a"), "/", None),
            key("/root/.m2", Some("a"), "/b", None),
            key("/root/.m2", None, "/", Some((0, 0, 0o755))),
            key("/root/.m2", None, "/", Some((1, 0, 0o755))),
        ];
        assert!(others.iter().all(|other| *other != plain));
    }
}
