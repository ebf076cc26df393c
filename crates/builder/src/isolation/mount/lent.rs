//! Folders that were moved into a root for a command, and are looked for when the build that did so was killed meanwhile.
//!
//! A note beside the folder's place says where in the root it went. The build after the one that was killed finds the note,
//! and the folder in what was left of that root.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

const NOTE: &str = "lent";

fn note(home: &Path) -> PathBuf {
    home.with_extension(NOTE)
}

/// Moves a folder to a path of this machine, which is `target` in its root.
pub(super) fn lend(home: &Path, path: &Path, target: &Path) -> io::Result<()> {
    fs::write(note(home), target.as_os_str().as_bytes())?;
    fs::rename(home, path).inspect_err(|_| is_back(home))
}

/// The folder is in its place again, or is no more.
pub(super) fn is_back(home: &Path) {
    // A note that stays is looked into by the next build, and goes then.
    let _ = fs::remove_file(note(home));
}

/// Puts folders back that a killed build had lent to its root; `left` is what is left of that root. Those that another
/// build has in its hands are left alone.
pub(crate) fn reclaim(homes: &Path, left: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(homes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let note = entry?.path();
        if note.extension() != Some(OsStr::new(NOTE)) {
            continue;
        }
        let home = note.with_extension("");
        let lock = File::create(note.with_extension("lock"))?;
        if lock.try_lock().is_err() {
            continue;
        }
        let target = fs::read(&note)?;
        let there = left.join(OsStr::from_bytes(target.strip_prefix(b"/").unwrap_or(&target)));
        if !home.exists() && fs::symlink_metadata(&there).is_ok_and(|found| found.is_dir()) {
            fs::rename(&there, &home)?;
        }
        fs::remove_file(&note)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_build_had_lent_comes_back_with_what_is_in_it() {
        let tmp = tempfile::tempdir().unwrap();
        let (homes, root) = (tmp.path().join("caches"), tmp.path().join("root"));
        fs::create_dir_all(homes.join("kept")).unwrap();
        fs::create_dir_all(homes.join("busy")).unwrap();
        fs::create_dir_all(root.join("var")).unwrap();
        fs::write(homes.join("kept/file"), "kept").unwrap();
        lend(&homes.join("kept"), &root.join("var/cache"), Path::new("/var/cache")).unwrap();
        lend(&homes.join("busy"), &root.join("busy"), Path::new("/busy")).unwrap();
        assert!(!homes.join("kept").exists());
        let held = File::create(homes.join("busy.lock")).unwrap();
        held.lock().unwrap();
        reclaim(&homes, &root).unwrap();
        assert_eq!(fs::read(homes.join("kept/file")).unwrap(), b"kept");
        assert!(!homes.join("kept.lent").exists());
        assert!(root.join("busy").exists() && homes.join("busy.lent").exists(), "another build has it");
        drop(held);
        fs::remove_dir(root.join("busy")).unwrap();
        reclaim(&homes, &root).unwrap();
        assert!(!homes.join("busy.lent").exists() && !homes.join("busy").exists(), "it is gone, and so is the note");
        reclaim(&tmp.path().join("none"), &root).unwrap();
    }
}
