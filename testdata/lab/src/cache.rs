//! What is made once and kept between runs, in the folder that [`crate::places::cache`] names. Tests run in processes of
//! their own, several at a time: locks see to it that one makes what others wait for, and that nothing in use is removed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::places::{cache, remove};

/// Held by one process (and one thread of it) at a time; let go on drop.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Waits for the lock of that name.
pub fn lock(name: &str) -> Result<Lock> {
    let folder = cache();
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(Lock { _file: file })
}

/// Makes a folder of the cache once: `make` fills a folder of a temporary name, which is renamed when it is whole. Other
/// processes that want the same wait. Folders of the same `name` with another `key` are of an earlier recipe, and those
/// that no process uses any more are removed; this one is in use until this process ends.
pub fn made_once(name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = cache();
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join(format!("{name}-{key}"));
    hold(&path)?;
    if path.exists() {
        return Ok(path);
    }
    let _lock = lock(name)?;
    if path.exists() {
        return Ok(path);
    }
    for older in older(&folder, name, key)? {
        remove_unused(&older)?;
    }
    let part = folder.join(format!("{name}-{key}.part"));
    remove(&part);
    fs::create_dir(&part).with_context(|| format!("make {}", part.display()))?;
    if let Err(error) = make(&part) {
        remove(&part);
        return Err(error);
    }
    fs::rename(&part, &path).with_context(|| format!("rename {} to {}", part.display(), path.display()))?;
    Ok(path)
}

/// The folders of earlier recipes of a name.
fn older(folder: &Path, name: &str, key: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let of_name =
            entry.file_name().to_str().and_then(|found| found.strip_prefix(name)?.strip_prefix('-')).map(|rest| {
                let other = rest.strip_suffix(".part").unwrap_or(rest);
                other != key && other.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
        if of_name == Some(true) && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Says of a folder of the cache that this process uses it, as long as the process lives.
fn hold(path: &Path) -> Result<()> {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    loop {
        let file = user_file(path)?;
        file.lock_shared().with_context(|| format!("lock {}", path.display()))?;
        // Whoever removed the folder removed the file too: then this is the lock of a file that is no more.
        if is_at(&file, path) {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).push(file);
            return Ok(());
        }
    }
}

/// Removes a folder of the cache unless a process uses it.
fn remove_unused(path: &Path) -> Result<()> {
    let file = user_file(path)?;
    if file.try_lock().is_ok() && is_at(&file, path) {
        remove(path);
        let _ = fs::remove_file(path.with_extension("used"));
    }
    Ok(())
}

/// The file that everyone who uses a folder of the cache holds a lock on.
fn user_file(path: &Path) -> Result<File> {
    let path = path.with_extension("used");
    File::create(&path).with_context(|| format!("make {}", path.display()))
}

fn is_at(file: &File, path: &Path) -> bool {
    let there = fs::metadata(path.with_extension("used")).map(|metadata| metadata.ino());
    let here = file.metadata().map(|metadata| metadata.ino());
    matches!((there, here), (Ok(there), Ok(here)) if there == here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_folder_is_made_once_and_only_whole() {
        let name = format!("self-test-{}x", std::process::id());
        let failed = made_once(&name, "aa", |_| anyhow::bail!("no"));
        assert!(failed.is_err());
        assert!(!cache().join(format!("{name}-aa")).exists());
        let made = made_once(&name, "aa", |part| Ok(fs::write(part.join("file"), "1")?)).unwrap();
        let again = made_once(&name, "aa", |_| anyhow::bail!("made twice")).unwrap();
        assert_eq!(made, again);
        for entry in fs::read_dir(cache()).unwrap().flatten() {
            if entry.file_name().to_str().is_some_and(|found| found.starts_with(&name)) {
                remove(&entry.path());
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    #[test]
    fn a_folder_of_an_earlier_recipe_is_removed_when_nobody_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("name-aa");
        fs::create_dir(&path).unwrap();
        let user = user_file(&path).unwrap();
        user.lock_shared().unwrap();
        assert_eq!(older(folder.path(), "name", "bb").unwrap(), std::slice::from_ref(&path));
        assert!(older(folder.path(), "name", "aa").unwrap().is_empty());
        remove_unused(&path).unwrap();
        assert!(path.exists(), "it was in use");
        drop(user);
        remove_unused(&path).unwrap();
        assert!(!path.exists());
    }
}
