//! What RUN `--mount` lays into a root for one command, with the sources found: [`Mount`]. How it is laid is for the
//! isolation ([`super::Isolation::lay`]). This folder holds the way without mount(2), which needs no right at all:
//! things are put into the root before the command and taken out before anybody looks, so that the layer knows nothing of
//! them. Where mounts can be had, `overlaid` adds what is better mounted: secrets, which then are never on a disk.
//!
//! What that way cannot do exactly: a folder that is mounted to read only can be written to (what is written is lost, as
//! with `rw`), a tmpfs has the disk's size instead of its own, and a command can remove a mount point.

mod agent;
mod laid;
mod lent;
mod overlaid;

use std::path::PathBuf;

use zuwai_snapshot::{Include, RootFs, SnapshotError};

pub use self::agent::Agent;
pub(super) use self::laid::{SCRIPTS, lay};
pub(crate) use self::lent::reclaim;
pub(super) use self::overlaid::lay_with_overlays;

/// One mount for one command.
pub struct Mount<'a> {
    /// Where: an image path, absolute.
    pub target: PathBuf,
    /// What.
    pub source: MountSource<'a>,
}

/// Owner, group, and mode.
pub type Card = (u32, u32, u32);

/// What a mount shows.
pub enum MountSource<'a> {
    /// Files of another root. Nothing that the command writes reaches them.
    Tree {
        /// The root.
        root: &'a RootFs,
        /// The file or folder in it, without links.
        path: PathBuf,
        /// Who everything belongs to; `None` keeps the owners.
        owner: Option<(u32, u32)>,
        /// Asked for each entry below a folder, with its path in the root.
        include: &'a dyn Fn(&std::path::Path) -> Include,
        /// Whether the command may write.
        writable: bool,
    },
    /// A folder of the machine that keeps what the command does to it.
    Folder(PathBuf),
    /// The same, to read only: what the command writes there is lost.
    ReadOnlyFolder(PathBuf),
    /// An empty folder, gone after the command.
    Empty {
        /// The most bytes it may hold.
        size: Option<u64>,
    },
    /// A file with this content.
    File(&'a [u8], Card),
    /// The same, to be executed.
    Script(&'a [u8], Card),
    /// The socket of an agent.
    Socket(&'a Agent, Card),
}

/// What an isolation that can mount lays over the root for a command's own processes, where nobody else ever sees it.
pub struct Overlay {
    /// Where: a path of the machine, without links. Something to mount on is there, unless it lies in one of the kernel's
    /// folders, which the isolation makes itself.
    pub place: PathBuf,
    /// What.
    pub source: OverlaySource,
}

/// What is laid over a place.
pub enum OverlaySource {
    /// A file that is nowhere but in memory, to read only.
    Memory(Vec<u8>, Card),
    /// A file of the machine, or a folder.
    File(PathBuf),
    /// The same for a folder.
    Folder(PathBuf),
}

impl OverlaySource {
    /// How many bytes of memory it takes, besides what every file does; at least one for a file.
    pub(super) fn size(&self) -> usize {
        match self {
            OverlaySource::Memory(content, _) => content.len().max(1),
            OverlaySource::File(_) | OverlaySource::Folder(_) => 0,
        }
    }
}

/// Mounts that lie in a root.
pub trait Laid {
    /// What is still to be laid over the root for the command alone, in this order.
    fn overlays(&self) -> &[Overlay] {
        &[]
    }

    /// Takes them out. The root is then what it was, but for what the command did beside them; folders of the machine
    /// have what the command did to them.
    fn take_out(self: Box<Self>) -> Result<(), MountError>;
}

/// A mount that could not be laid or taken out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// Something in the root, or in the source.
    #[error("mount on {}", target.display())]
    Root {
        /// Where the mount goes.
        target: PathBuf,
        /// Why not.
        #[source]
        source: SnapshotError,
    },
    /// Something of this machine.
    #[error("mount on {}: {action}", target.display())]
    Machine {
        /// Where the mount goes.
        target: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}
