//! How changes are found: the three modes that Kaniko's `--snapshot-mode` names.

use std::fmt;
use std::str::FromStr;

use crate::Snapshotter;
use crate::indexed::Indexed;

/// How changes are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotMode {
    /// Exact: content, metadata and extended attributes decide, at the cost of a stat where nothing moved.
    #[default]
    Full,
    /// Modification time, size, mode, owner and group decide; content is never read.
    Redo,
    /// The modification time alone decides.
    Time,
}

/// A word that names no mode.
#[derive(Debug, thiserror::Error)]
#[error("unknown snapshot mode {0:?}: it is full, redo or time")]
pub struct UnknownMode(String);

impl SnapshotMode {
    /// A snapshotter of this mode that knows of no file yet.
    pub fn snapshotter(self) -> Box<dyn Snapshotter> {
        Box::new(Indexed::new(self))
    }
}

impl FromStr for SnapshotMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "full" => Ok(Self::Full),
            "redo" => Ok(Self::Redo),
            "time" => Ok(Self::Time),
            _ => Err(UnknownMode(text.to_owned())),
        }
    }
}

impl fmt::Display for SnapshotMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Full => "full",
            Self::Redo => "redo",
            Self::Time => "time",
        })
    }
}
