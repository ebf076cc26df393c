//! The folder that a build works in: where it lies, that nobody else works in it, and that nothing stays of those before.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::Access;

use crate::environment::Environment;
use crate::error::Failure;

/// A work folder that is this build's alone, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct WorkPlace {
    path: PathBuf,
    /// Locked, and removed at the end.
    lock: (PathBuf, File),
}

const PREFIX: &str = "build-";
const LOCK: &str = ".lock";

impl WorkPlace {
    /// The one work folder of a container, in whose root only one build can go on.
    pub(crate) fn shared(own_folder: &Path) -> Result<Self, Failure> {
        let lock = own_folder.join("work.lock");
        let path = own_folder.join("work");
        fs::create_dir_all(own_folder).map_err(|error| failed(own_folder, &error))?;
        let file = loop {
            let file = File::create(&lock).map_err(|error| failed(&lock, &error))?;
            if let Err(TryLockError::WouldBlock) = file.try_lock() {
                let hint = "wait for it to end: both would build in the same root filesystem".to_owned();
                let text = format!("error building image: another build goes on in {}", path.display());
                return Err(Failure::new(text, Some(hint)));
            }
            // A file system that knows no locks keeps nobody from building. Who ended just now took the file away.
            if is_at(&file, &lock) {
                break file;
            }
        };
        Ok(Self { path, lock: (lock, file) })
    }

    /// A folder of its own beside those of other builds. What builds that were killed left is removed.
    pub(crate) fn private(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        sweep(folder);
        let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{PREFIX}{}-{moment}", std::process::id());
        let lock = folder.join(format!("{name}{LOCK}"));
        let file = File::create_new(&lock).map_err(|error| failed(&lock, &error))?;
        // Nobody else knows the name yet; without locks nobody sweeps either.
        let _ = file.try_lock();
        Ok(Self { path: folder.join(name), lock: (lock, file) })
    }

    /// The work folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkPlace {
    fn drop(&mut self) {
        if is_at(&self.lock.1, &self.lock.0) {
            let _ = fs::remove_file(&self.lock.0);
        }
    }
}

/// Whether an open file is still the one that lies there.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |facts: fs::Metadata| (facts.dev(), facts.ino());
    file.metadata()
        .map(identity)
        .ok()
        .is_some_and(|own| fs::metadata(path).map(identity).is_ok_and(|there| there == own))
}

/// Removes work folders whose builds are no more: nobody holds their lock.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(LOCK)) else { continue };
        if !name.starts_with(PREFIX) {
            continue;
        }
        if File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(folder.join(name));
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Where private work folders lie: in the folder that was asked for, in Kaniko's where this is its image, else in the
/// user's cache.
pub(crate) fn folder(own_folder: &Path, asked: bool, environment: &Environment) -> PathBuf {
    if asked || rustix::fs::access(own_folder, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        return own_folder.to_owned();
    }
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let usable = cache.filter(|folder| fs::create_dir_all(folder.join("zuwai")).is_ok());
    if let Some(cache) = usable {
        return cache.join("zuwai");
    }
    let temporary = absolute("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    temporary.join(format!("zuwai-{}", rustix::process::geteuid().as_raw()))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let hint = "name a folder that can be written to with --kaniko-dir".to_owned();
    Failure::of(&format!("error building image: make the work folder {}", path.display()), error, Some(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_builds_never_share_a_folder() {
        let tmp = tempfile::tempdir().unwrap();
        let first = WorkPlace::shared(tmp.path()).unwrap();
        let refused = WorkPlace::shared(tmp.path()).unwrap_err().text();
        assert!(refused.contains("another build goes on"), "{refused}");
        drop(first);
        WorkPlace::shared(tmp.path()).unwrap();
        let (one, two) = (WorkPlace::private(tmp.path()).unwrap(), WorkPlace::private(tmp.path()).unwrap());
        assert_ne!(one.path(), two.path());
    }

    #[test]
    fn what_a_killed_build_left_is_swept_and_what_goes_on_is_not() {
        let tmp = tempfile::tempdir().unwrap();
        let alive = WorkPlace::private(tmp.path()).unwrap();
        fs::create_dir(alive.path()).unwrap();
        let dead = tmp.path().join("build-1-1");
        fs::create_dir_all(dead.join("stages/0")).unwrap();
        fs::write(tmp.path().join("build-1-1.lock"), "").unwrap();
        fs::create_dir(tmp.path().join("other")).unwrap();
        let another = WorkPlace::private(tmp.path()).unwrap();
        assert!(!dead.exists() && !tmp.path().join("build-1-1.lock").exists());
        assert!(alive.path().exists() && tmp.path().join("other").exists());
        drop((alive, another));
    }

    #[test]
    fn the_folder_is_the_one_asked_for_or_the_users_cache() {
        let tmp = tempfile::tempdir().unwrap();
        let environment = Environment::of(&[("HOME", tmp.path().to_str().unwrap())]);
        let missing = Path::new("/nonexistent/kaniko");
        assert_eq!(folder(missing, true, &environment), missing);
        assert_eq!(folder(missing, false, &environment), tmp.path().join(".cache/zuwai"));
        assert_eq!(folder(tmp.path(), false, &environment), tmp.path());
    }
}
