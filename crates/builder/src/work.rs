//! The work folder: everything a build keeps on disk, and nothing of it part of any image.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A folder that belongs to one build at a time. Removed whole by [`WorkFolder::remove`].
#[derive(Debug, Clone)]
pub(crate) struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    /// Makes the folder, readable by its owner alone: it may hold a private context and what the image will hold.
    pub(crate) fn create(path: &Path) -> io::Result<WorkFolder> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(WorkFolder { path: path.to_owned() })
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Compressed layers, named by digest.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    /// The build context, when it was fetched from elsewhere.
    pub(crate) fn context(&self) -> PathBuf {
        self.path.join("context")
    }

    /// A named context, by its place in the request, when it was fetched from elsewhere.
    pub(crate) fn named_context(&self, place: usize) -> PathBuf {
        self.path.join("contexts").join(place.to_string())
    }

    /// What lay in the root before the build and is put back after it.
    pub(crate) fn parked(&self) -> PathBuf {
        self.path.join("parked")
    }

    /// What the last stage left in the root: nobody needs it any more.
    pub(crate) fn leftover(&self) -> PathBuf {
        self.path.join("leftover")
    }

    /// What steps put down while they are carried out, those of each stage in a folder of its own.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// The root filesystem of a stage that is done.
    pub(crate) fn stage(&self, index: usize) -> PathBuf {
        self.path.join("stages").join(index.to_string())
    }

    /// The root filesystem of an image that COPY reads from, by the digest of its manifest.
    pub(crate) fn image(&self, hex: &str) -> PathBuf {
        self.path.join("images").join(hex)
    }

    /// Removes the folder and all in it, unless the container's own files are still parked there.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.empty()?;
        if self.parked().exists() { Ok(()) } else { remove(&self.path) }
    }

    /// Removes what was fetched and packed. What stages left stays.
    pub(crate) fn forget_blobs(&self) -> io::Result<()> {
        ["blobs", "context", "contexts", "scratch"].iter().try_for_each(|name| remove(&self.path.join(name)))
    }

    /// Removes what stages left, so that they can be built anew. What was fetched and packed stays.
    pub(crate) fn forget_stages(&self) -> io::Result<()> {
        ["leftover", "scratch", "stages", "images"].iter().try_for_each(|name| remove(&self.path.join(name)))
    }

    /// Removes what a build before this one left, but never the container's own files.
    pub(crate) fn empty(&self) -> io::Result<()> {
        let parked = self.parked();
        if !parked.exists() {
            return fs::read_dir(&self.path)?.try_for_each(|entry| remove(&entry?.path()));
        }
        let build = ["blobs", "context", "contexts", "leftover", "scratch", "stages", "images"];
        build.iter().try_for_each(|name| remove(&self.path.join(name)))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
