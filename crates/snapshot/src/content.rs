//! What two contents are compared by: sixteen bytes of `HighwayHash` under a key that this process has drawn.
//!
//! Every file of an image is hashed, most of them small, and no hash outlives the process. So it need not be
//! one of the hashes that everybody can compute: a keyed one says as surely that two contents differ, since nobody who
//! does not know the key can look for two that agree, and takes a tenth to two fifths of the time (BLAKE3: 1 GB/s for files
//! of some kilobytes, 4.7 for large ones; this 10 to 12). Sixteen bytes keep an entry of the index within one cache line.

use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::LazyLock;

use highway::{HighwayHash as _, HighwayHasher, Key};
use rustix::fs::{Mode, OFlags};

/// How much is read at once.
const CHUNK: usize = 256 * 1024;

/// What the system gave for hash tables, spread over the key's length.
static KEY: LazyLock<[u64; 4]> = LazyLock::new(|| {
    let random = RandomState::new();
    [0, 1, 2, 3].map(|number: u64| random.hash_one(number))
});

/// The hash of bytes that come in pieces.
pub(crate) struct Hasher(HighwayHasher);

impl Hasher {
    pub(crate) fn new() -> Hasher {
        Hasher(HighwayHasher::new(Key(*KEY)))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.append(bytes);
    }

    /// Never all zero: that says "unknown".
    pub(crate) fn finish(self) -> [u8; 16] {
        let [low, high] = self.0.finalize128();
        (u128::from(low) | u128::from(high) << 64).max(1).to_le_bytes()
    }
}

/// The hash of bytes in memory.
pub(crate) fn of_bytes(bytes: &[u8]) -> [u8; 16] {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// The hash of a link's target.
pub(crate) fn of_link(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<[u8; 16]> {
    let target = rustix::fs::readlinkat(at, name, Vec::new())?;
    Ok(of_bytes(target.as_bytes()))
}

/// The hash of a regular file's content, read to its end.
pub(crate) fn of_file(at: BorrowedFd<'_>, name: &[u8], buffer: &mut Vec<u8>) -> rustix::io::Result<[u8; 16]> {
    // NONBLOCK: should a pipe have taken the file's place, opening it must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, name, flags, Mode::empty())?;
    of_open(file.as_fd(), buffer)
}

/// The same of one that is open for reading, from its beginning.
pub(crate) fn of_open(file: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> rustix::io::Result<[u8; 16]> {
    buffer.resize(CHUNK, 0);
    let mut hasher = Hasher::new();
    let mut at = 0;
    loop {
        match rustix::io::pread(file, &mut buffer[..], at) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                at += length as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The bytes of a path.
pub(crate) fn bytes(path: &std::path::Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_have_the_hash_of_the_whole_and_another_byte_has_another(
            bytes in prop::collection::vec(any::<u8>(), 1..3000), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            changed in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut hasher = Hasher::new();
            cuts.windows(2).for_each(|ends| hasher.update(&bytes[ends[0]..ends[1]]));
            let whole = of_bytes(&bytes);
            prop_assert_eq!(hasher.finish(), whole);
            prop_assert_ne!(whole, [0; 16]);
            let mut other = bytes.clone();
            other[changed.index(bytes.len())] ^= 1 << bit;
            prop_assert_ne!(of_bytes(&other), whole);
            prop_assert_ne!(of_bytes(&[&bytes[..], &[0]].concat()), whole);
        }
    }
}
