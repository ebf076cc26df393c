//! Where the lab works: the repository, the folder that outlives a run, and scratch folders that do not.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

use crate::command::must;

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

    /// Makes a folder in it that is an ext4 of so many bytes, of which it takes what is written. Under a scratch folder in
    /// memory it is a disk as fast as memory; a tmpfs is no disk to a program that asks what a ctime is worth. It has a journal,
    /// as disks have: without one, ext4 searches long for a file's number that nobody had a minute ago.
    pub fn disk(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let (image, path) = (self.path.join(format!("{name}.ext4")), self.folder(name)?);
        let file = fs::File::create(&image).with_context(|| format!("make {}", image.display()))?;
        file.set_len(bytes).with_context(|| format!("make {}", image.display()))?;
        let mut format = Command::new("mkfs.ext4");
        must(format.args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&image))?;
        // Gone with the scratch folder, which detaches what is mounted in it.
        must(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))?;
        Ok(path)
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
pub(crate) fn remove(path: &Path) {
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
}
