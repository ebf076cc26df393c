//! A root filesystem and what changed in it.
//!
//! This crate knows files and tar archives; it opens no socket, parses no JSON, reads no environment and holds no global.
//! The whole idea in a screen:
//!
//! * A [`RootFs`] is a folder that is one day an image's `/` (it may be the container's own `/`). Every path given to it
//!   is an image path, resolved by the kernel inside the root; nothing else joins a path to a root. What [`Ignore`] names
//!   (the work folder, mount points, `/proc`) is never read, written, moved or reported.
//! * A [`Snapshotter`] remembers what the root looked like and says what [`Change`]d. [`SnapshotMode::Full`] is as exact
//!   as reading every byte at the cost of a stat: the kernel moves an entry's ctime on every change of content or
//!   metadata and no program can set it back, so an entry whose identity card is the same has not changed. Only where
//!   the card moved do metadata, extended attributes and a content hash decide. The one hole, a write in the same tick
//!   of the clock as the look before it, is closed twice: [`Snapshotter::settle`] waits the tick out before a command
//!   starts, and an entry younger than the last settled tick is hashed.
//! * [`write_tar`] turns changes into a layer, byte for byte as `BuildKit` does; [`apply_tar`] turns a layer into files,
//!   confined to the root, and hands what it wrote to the snapshotter ([`Snapshotter::adopt`]), so that the first look
//!   needs no walk. **The law: applying the tar of the changes from A to B onto A gives B.**
//! * [`copy()`] is COPY and ADD of files; [`tree`] prints a tree as text for golden files; [`testsuite`] is the exam that
//!   every snapshotter must pass.
//!
//! ```no_run
//! # fn main() -> Result<(), zuwai_snapshot::SnapshotError> {
//! use zuwai_snapshot::{Ignore, RootFs, Scope, SnapshotMode, WriteOptions, write_tar};
//! let root = RootFs::open("/srv/root".as_ref(), Ignore::default())?;
//! let mut snapshotter = SnapshotMode::Full.snapshotter();
//! snapshotter.reset(&root)?;
//! snapshotter.settle(&root)?;
//! // … run something …
//! let changes = snapshotter.changes(&root, &Scope::Everywhere)?;
//! let written = write_tar(&changes, &root, &mut std::io::sink(), &WriteOptions::default())?;
//! snapshotter.learn(&changes, &written);
//! # Ok(()) }
//! ```

mod apply;
mod archive;
mod attributes;
mod beneath;
mod change;
mod clock;
mod content;
mod copy;
mod error;
mod header;
mod ids;
mod ignore;
mod ignore_pattern;
mod index;
mod indexed;
mod journal;
mod look;
mod mapping;
mod metadata;
mod mode;
mod mode_change;
mod mounts;
mod owners;
mod place;
mod read_ahead;
mod relocate;
mod rootfs;
mod scaffold;
#[cfg(test)]
mod scratch;
mod snapshotter;
mod stub;
pub mod testsuite;
pub mod tree;
mod walk;
mod watch;
mod way;
mod whiteout;
mod write;

pub use apply::{Applied, ApplyOptions, apply_tar};
pub use change::{Change, ChangeKind, Scope};
pub use copy::{Copied, CopyRequest, Include, copy};
pub use error::{Result, SnapshotError};
pub use ids::UnmappedId;
pub use ignore::Ignore;
pub use ignore_pattern::IgnorePatternError;
pub use metadata::{Kind, Metadata, Ownership};
pub use mode::{SnapshotMode, UnknownMode};
pub use mode_change::{ModeChange, ModeChangeError};
pub use mounts::mount_points;
pub use owners::Owners;
pub use rootfs::{Located, RootFs};
pub use snapshotter::Snapshotter;
pub use stub::Stub;
pub use way::Way;
pub use write::{Parents, WriteOptions, Written, write_tar};
