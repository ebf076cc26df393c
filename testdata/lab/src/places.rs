//! Where the lab works: the repository, the cache that outlives a run, scratch folders that do not, and locks between
//! the processes that tests run in.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context, Result};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").components().fold(PathBuf::new(), |path, part| match part {
        std::path::Component::ParentDir => path.parent().map(Path::to_owned).unwrap_or_default(),
        part => path.join(part),
    })
}

/// The folder `testdata`.
pub fn testdata() -> PathBuf {
    repository().join("testdata")
}

/// What outlives a run: `lab` in cargo's target folder. Everything in it can be made again.
pub fn cache() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    target.join("lab")
}

/// A folder that is gone, with whatever is still mounted in it, when this value is dropped. In memory where the machine
/// has enough of it, since disks of build machines are slow.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

/// What a tmpfs must have free before it is trusted to hold the roots of two maven builds.
const ENOUGH: u64 = 6 << 30;
const PREFIX: &str = "zuwai-lab.";

impl Scratch {
    /// Makes one. The first call in a process also removes what killed processes left.
    pub fn new() -> Result<Self> {
        static SWEPT: Once = Once::new();
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let parent = parent_of_scratch();
        fs::create_dir_all(&parent).with_context(|| format!("make {}", parent.display()))?;
        SWEPT.call_once(|| sweep(&parent));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}.{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("make the scratch folder {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn parent_of_scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match rustix::fs::statvfs(memory) {
        Ok(facts) if facts.f_bavail.saturating_mul(facts.f_frsize) >= ENOUGH => memory.to_owned(),
        _ => cache().join("scratch"),
    }
}

/// Removes the scratch folders of processes that are no more.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('.').next());
        if let Some(owner) = owner.filter(|owner| owner.parse::<u32>().is_ok())
            && !Path::new("/proc").join(owner).exists()
        {
            remove(&entry.path());
        }
    }
}

/// Removes a folder and detaches what is mounted below it. What cannot be removed stays: a test's result does not depend
/// on it.
fn remove(path: &Path) {
    for mount in mounts_below(path) {
        let _ = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH);
    }
    let _ = fs::remove_dir_all(path);
}

/// Mount points below a folder, deepest first.
fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let Ok(table) = fs::read("/proc/self/mountinfo") else { return Vec::new() };
    let mut found: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter(|mount| mount.starts_with(path))
        .collect();
    found.sort_by_key(|mount| std::cmp::Reverse(mount.as_os_str().as_bytes().len()));
    found
}

/// The kernel writes blanks and backslashes of a path as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(u8::is_ascii_digit));
        if let Some(digits) = digits {
            out.push(digits.iter().fold(0, |value: u8, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &tail[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

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
    fn a_scratch_folder_is_gone_when_dropped() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_process_left_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join(format!("{PREFIX}4294967295.0"));
        let alive = parent.path().join(format!("{PREFIX}{}.0", std::process::id()));
        let other = parent.path().join("something-else");
        for folder in [&dead, &alive, &other] {
            fs::create_dir(folder).unwrap();
        }
        sweep(parent.path());
        assert!(!dead.exists());
        assert!(alive.exists());
        assert!(other.exists());
    }

    #[test]
    fn mount_points_with_blanks_are_read_back() {
        assert_eq!(unescape(br"/a\040b\134c"), br"/a b\c");
        assert_eq!(unescape(br"/plain\"), br"/plain\");
    }

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
