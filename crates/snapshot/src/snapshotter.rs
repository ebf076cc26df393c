//! The promise of everything that finds changes.

use std::path::PathBuf;

use crate::{Applied, Change, Result, RootFs, Scope, Written};

/// Remembers what a root filesystem looked like, and says what is different now.
///
/// What [`Ignore`](crate::Ignore) covers, and what a mount hides, is neither looked at nor reported. A folder that only
/// leads to an ignored path and that nobody told the snapshotter of, by a layer or as a path to look at, is no change, unless
/// something not ignored lies in it. Sockets are not part of an image: one that appears is an `Add` of which
/// [`write_tar`](crate::write_tar()) makes a warning and no entry, and a file that became one is a `Delete`.
pub trait Snapshotter: Send + Sync {
    /// Looks at everything and remembers it; what was known before is forgotten.
    fn reset(&mut self, root: &RootFs) -> Result<()>;

    /// Takes what applying a layer wrote as known, without looking at anything: after the applied layers the snapshotter
    /// knows the root as if it had been reset, provided that it knew it before them.
    fn adopt(&mut self, applied: &Applied);

    /// What is different from what was known, and remembers what is there now. Ordered by path; see [`Change`].
    fn changes(&mut self, root: &RootFs, scope: &Scope) -> Result<Vec<Change>>;

    /// What the last look found, by asking for everything, that the kernel should have told a look by [`Scope::Watched`] before
    /// it: the layers since then are not exact, and the root is. Empty as long as the kernel tells all that happens.
    fn missed(&self) -> &[PathBuf];

    /// Takes the content hashes that were computed while these changes were packed, so that nothing is read twice. It is
    /// never wrong to leave it out: files may then be reported as modified that were rewritten as they were.
    fn learn(&mut self, changes: &[Change], written: &Written);

    /// Returns once every change made from now on will bear a later time than anything the last look saw: to be called
    /// after a look, or after a layer was taken up, and before the next command starts or anything is made for it. A few milliseconds at most. Where the clock of the filesystem
    /// does not get there (a time in the future), or its times prove nothing, it returns as well, and the next look hashes
    /// those entries.
    fn settle(&self, root: &RootFs) -> Result<()>;
}
