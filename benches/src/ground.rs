//! A place to measure on that no disk slows down.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Where memory is a filesystem on every Linux.
const MEMORY: &str = "/dev/shm";

/// A folder that is empty at first and gone at the end.
#[derive(Debug)]
pub struct Ground {
    path: PathBuf,
    mounted: bool,
    _holder: TempDir,
}

impl Ground {
    /// A folder of a tmpfs.
    pub fn memory() -> Result<Self> {
        let holder = holder()?;
        Ok(Self { path: holder.path().to_path_buf(), mounted: false, _holder: holder })
    }

    /// An ext4 that lies in memory, for so many files of at most a kilobyte. A tmpfs would not do for looks: its ctime
    /// cannot be believed, and every file is read. Needs root.
    pub fn disk(files: u64) -> Result<Self> {
        let holder = holder()?;
        let (image, path) = (holder.path().join("image"), holder.path().join("mounted"));
        let inodes = files + files / 4 + 1000;
        std::fs::File::create(&image)?.set_len(inodes * 2560 + (64 << 20))?;
        std::fs::create_dir(&path)?;
        let options = ["-q", "-b", "1024", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-N"];
        run(Command::new("mkfs.ext4").args(options).arg(inodes.to_string()).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))?;
        let ground = Self { path, mounted: true, _holder: holder };
        std::fs::remove_dir(ground.path.join("lost+found"))?;
        Ok(ground)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.mounted
            // A bench may still hold a folder of it open; it goes when that is closed.
            && let Err(error) = run(Command::new("umount").arg("--lazy").arg(&self.path))
        {
            eprintln!("{error:#}");
        }
    }
}

fn holder() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("zuwai-bench-")
        .tempdir_in(MEMORY)
        .with_context(|| format!("make a folder in {MEMORY}"))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("start {program}"))?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}
