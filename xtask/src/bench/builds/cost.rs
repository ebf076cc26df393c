//! What a program cost: measured from outside, by a small program around it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// The cost of a program and all that it started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of processor, user and system.
    pub(crate) cpu: f64,
    /// The most memory that the program itself held, in bytes. Not that of what it started.
    pub(crate) peak: u64,
    /// Bytes that the program itself handed to write calls.
    pub(crate) written: u64,
}

impl Cost {
    /// What the measuring program wrote down.
    pub(crate) fn read(path: &Path) -> Result<Cost> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let value: Value = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        let seconds = |name: &str| value[name].as_f64().with_context(|| format!("no {name} in {}", path.display()));
        let bytes = |name: &str| value[name].as_u64().with_context(|| format!("no {name} in {}", path.display()));
        Ok(Cost {
            wall: seconds("wall")?,
            cpu: seconds("user")? + seconds("system")?,
            peak: bytes("peak")?,
            written: bytes("written")?,
        })
    }

    /// One after the other.
    pub(crate) fn then(self, next: Cost) -> Cost {
        Cost {
            wall: self.wall + next.wall,
            cpu: self.cpu + next.cpu,
            peak: self.peak.max(next.peak),
            written: self.written + next.written,
        }
    }
}

/// Builds the measuring program, and tells where it is.
pub(crate) fn measuring_program() -> Result<PathBuf> {
    crate::cargo::build_binary("zuwai-lab", "zuwai-lab-measure", true)
}
