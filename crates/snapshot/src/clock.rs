//! The filesystem's own clock, and whether its ctime can be trusted.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, Timespec, Timestamps};

use crate::beneath::stat_of;
use std::os::fd::AsFd as _;

/// The longest tick of a kernel is 10 ms; a filesystem that takes longer than this has no clock to wait for.
const PATIENCE: Duration = Duration::from_millis(60);

/// The time that a change made now would bear, in nanoseconds since 1970: of a nameless file made in the folder, or where
/// that cannot be had, of the clock that local filesystems take their times from.
pub(crate) fn now(folder: BorrowedFd<'_>) -> i128 {
    stamp(folder).unwrap_or_else(|_| {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    })
}

fn stamp(folder: BorrowedFd<'_>) -> rustix::io::Result<i128> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, c".", flags, Mode::from(0o600))?;
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now })?;
    Ok(stat_of(file.as_fd())?.ctime)
}

/// Waits until [`now`] is later than `newest`, and returns it. Gives up after a moment where it does not get there.
pub(crate) fn wait_past(folder: BorrowedFd<'_>, newest: i128) -> i128 {
    let start = Instant::now();
    loop {
        let now = now(folder);
        if now > newest || start.elapsed() > PATIENCE {
            return now;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Whether the filesystem of the folder moves an entry's ctime on every change. What the kernel itself keeps on a local
/// disk does; what a server or a program in user space answers is not believed, and its entries are hashed. Whether writes
/// through a shared mapping move it is tried: on tmpfs, and so on an overlay over tmpfs, they do not.
pub(crate) fn ctime_is_trusted(folder: BorrowedFd<'_>) -> bool {
    const LOCAL: [u32; 7] = [
        0x0000_ef53, // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0x794c_7630, // overlayfs
        0xf2f5_2010, // f2fs
        0x2fc1_2fc1, // zfs
        0xca45_1a4e, // bcachefs
    ];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a magic number is 32 bits in any type")]
    let local = rustix::fs::fstatfs(folder).is_ok_and(|facts| LOCAL.contains(&(facts.f_type as u32)));
    local && crate::mapping::moves_ctime(folder).unwrap_or(true)
}
