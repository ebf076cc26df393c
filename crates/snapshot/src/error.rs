//! Everything that can go wrong with a root filesystem: each error names its object and keeps its cause.

use std::io;
use std::path::{Path, PathBuf};

/// What this crate's functions return.
pub type Result<T, E = SnapshotError> = std::result::Result<T, E>;

/// What went wrong, with the object it went wrong with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The operating system refused something done to a path. The path is an image path where the object lies in a root
    /// filesystem, else a path of the machine.
    #[error("{action} {}", path.display())]
    Path {
        /// What was attempted: a verb, as `read`, `create folder`.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file is larger than the caller is willing to read.
    #[error("read {}: it is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file's image path.
        path: PathBuf,
        /// The caller's limit.
        limit: u64,
    },
    /// A file's own name begins with `.wh.`: in a layer it would mean that another file is deleted.
    #[error("{}: a name beginning with .wh. cannot be put into a layer, where it means a deleted file", path.display())]
    WhiteoutName {
        /// The file's image path.
        path: PathBuf,
    },
    /// A file changed while its bytes went into a layer.
    #[error("{}: the file became shorter while it was packed", path.display())]
    ChangedWhilePacked {
        /// The file's image path.
        path: PathBuf,
    },
    /// The layer could not be written where the caller wants it.
    #[error("write the layer at {}", path.display())]
    WriteLayer {
        /// The entry that was being written.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// An extended header that would be too large for readers of tar archives.
    #[error("{}: its extended attributes are larger than {limit} bytes", path.display())]
    AttributesTooLarge {
        /// The file's image path.
        path: PathBuf,
        /// The most that is written.
        limit: usize,
    },
    /// The bytes of an archive could not be had.
    #[error("read the archive after entry {after:?}")]
    ReadArchive {
        /// The last entry that was read whole, empty at the beginning.
        after: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The bytes are not a tar archive that can be trusted.
    #[error("the archive is broken after entry {after:?}: {reason}")]
    BrokenArchive {
        /// The last entry that was read whole, empty at the beginning.
        after: String,
        /// What is wrong.
        reason: String,
    },
    /// An entry of an archive names something outside the root, or cannot be a name at all.
    #[error("entry {entry:?} of the archive is refused: {reason}")]
    RefusedEntry {
        /// The entry's name as written.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// An entry of an archive could not be written.
    #[error("unpack {entry:?}")]
    Unpack {
        /// The entry's name as written.
        entry: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// More came out of an archive than the caller allows.
    #[error("the archive holds more than {limit} {what} (at entry {entry:?})")]
    Limit {
        /// The entry at which the limit was passed.
        entry: String,
        /// What is counted.
        what: &'static str,
        /// The most that is allowed.
        limit: u64,
    },
    /// Something was to be written where nothing may be written.
    #[error("{}: this path is not part of the image (a mount point, or a folder that the builder needs)", path.display())]
    Ignored {
        /// The image path, links resolved.
        path: PathBuf,
    },
    /// A folder was to be put where something else is, or the other way round.
    #[error("{}: {reason}", path.display())]
    InTheWay {
        /// The image path.
        path: PathBuf,
        /// What is in the way of what.
        reason: &'static str,
    },
}

impl SnapshotError {
    /// An error of the operating system with what was attempted.
    pub(crate) fn path(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Path { action, path: path.as_ref().to_path_buf(), source: source.into() }
    }

    /// The error of the operating system below this one, if there is one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Path { source, .. }
            | Self::WriteLayer { source, .. }
            | Self::ReadArchive { source, .. }
            | Self::Unpack { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

/// Puts what was attempted, and with what, to an error of the operating system.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| SnapshotError::path(action, path, source))
    }
}
