//! What the kernel says of one entry.

use rustix::fs::{Statx, StatxAttributes};

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A socket.
    Socket,
}

/// An entry's metadata, of the entry itself where it is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The type.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky bit: the lower twelve bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of content; of a link, of its target.
    pub size: u64,
    /// How many names it has.
    pub nlink: u32,
    /// Time of the last change of content, in nanoseconds since 1970.
    pub mtime: i128,
    /// Device and inode: two names with the same pair are hard links of each other.
    pub identity: (u64, u64),
    /// Of a device, its number: major and minor.
    pub rdev: (u32, u32),
}

/// Who a folder that is made belongs to, and its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Permissions: the lower twelve bits.
    pub mode: u32,
}

impl Default for Ownership {
    /// Root's, with mode 0755: what a folder is that nobody said anything about.
    fn default() -> Self {
        Self { uid: 0, gid: 0, mode: 0o755 }
    }
}

impl Kind {
    /// The type that the bits of a mode say, if they say one.
    pub(crate) fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Dir,
            0o120_000 => Self::Symlink,
            0o010_000 => Self::Fifo,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }
}

/// An entry as one `statx` sees it: everything the identity card of the exact rule needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) size: u64,
    pub(crate) rdev: (u32, u32),
    /// Nanoseconds since 1970.
    pub(crate) mtime: i128,
    /// Nanoseconds since 1970.
    pub(crate) ctime: i128,
    /// Whether something is mounted here.
    pub(crate) mount: bool,
}

impl Stat {
    pub(crate) fn kind(&self) -> Kind {
        Kind::of_mode(self.mode).unwrap_or(Kind::File)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    pub(crate) fn metadata(&self) -> Metadata {
        Metadata {
            kind: self.kind(),
            mode: self.permissions(),
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            nlink: self.nlink,
            mtime: self.mtime,
            identity: (self.dev, self.ino),
            rdev: self.rdev,
        }
    }
}

impl From<&Statx> for Stat {
    fn from(statx: &Statx) -> Self {
        let nanoseconds =
            |time: &rustix::fs::StatxTimestamp| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
        Self {
            dev: u64::from(statx.stx_dev_major) << 32 | u64::from(statx.stx_dev_minor),
            ino: statx.stx_ino,
            mode: u32::from(statx.stx_mode),
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            nlink: statx.stx_nlink,
            size: statx.stx_size,
            rdev: (statx.stx_rdev_major, statx.stx_rdev_minor),
            mtime: nanoseconds(&statx.stx_mtime),
            ctime: nanoseconds(&statx.stx_ctime),
            mount: statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        }
    }
}
