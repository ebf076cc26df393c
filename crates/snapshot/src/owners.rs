//! Who files belong to where this process may not say so to the kernel: a container without rights, in which every file
//! belongs to whoever builds. What was asked for is kept here and is what layers have.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::metadata::Stat;

/// Owners and modes of files, by device and inode, for all the roots of a build. Whoever opens a root with it writes files as
/// its own, readable and writable by itself, and sees those it wrote as they were meant.
#[derive(Debug, Default)]
pub struct Owners(Mutex<HashMap<(u64, u64), Meant>>);

/// How a file was meant.
#[derive(Debug, Clone, Copy)]
struct Meant {
    uid: u32,
    gid: u32,
    /// The lower twelve bits; `None` for a link, which has none of its own.
    mode: Option<u32>,
}

impl Owners {
    /// Keeps what an entry is meant to be.
    pub(crate) fn mean(&self, stat: &Stat, uid: u32, gid: u32, mode: Option<u32>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.insert((stat.dev, stat.ino), Meant { uid, gid, mode });
    }

    /// An entry as it was meant; one that nothing is known of belongs to root.
    pub(crate) fn seen(&self, mut stat: Stat) -> Stat {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = table.get(&(stat.dev, stat.ino)).copied();
        let meant = meant.unwrap_or(Meant { uid: 0, gid: 0, mode: None });
        (stat.uid, stat.gid) = (meant.uid, meant.gid);
        if let Some(mode) = meant.mode {
            stat.mode = stat.mode & !0o7777 | mode;
        }
        stat
    }

    /// The mode that a file really gets: its owner, who builds, can always work with it, and it is never setuid.
    pub(crate) fn mode_for(mode: u32, is_dir: bool) -> u32 {
        mode & 0o777 | if is_dir { 0o700 } else { 0o600 }
    }
}
