//! Names, many of them, with two bytes each besides and no pointer.

/// Bytes of a chunk.
const NAMES: usize = 1 << 16;

/// Names one after the other, each behind a byte that says its length.
#[derive(Clone, Default)]
pub(crate) struct Arena {
    chunks: Vec<Box<[u8]>>,
    /// How much of the last chunk is taken.
    taken: usize,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Arena of {} chunks", self.chunks.len())
    }
}

impl Arena {
    /// Keeps a name (at most 255 bytes: no filesystem of Linux has longer ones) and says where.
    pub(crate) fn push(&mut self, name: &[u8]) -> u32 {
        if self.chunks.is_empty() || self.taken + name.len() + 1 > NAMES {
            self.chunks.push(vec![0; NAMES].into_boxed_slice());
            self.taken = 0;
        }
        let at = self.taken;
        let chunk = self.chunks.last_mut().expect("one was pushed above");
        chunk[at] = u8::try_from(name.len()).expect("a component of a path has at most 255 bytes");
        chunk[at + 1..=at + name.len()].copy_from_slice(name);
        self.taken += name.len() + 1;
        u32::try_from((self.chunks.len() - 1) * NAMES + at).expect("less than 4 GiB of names")
    }

    pub(crate) fn get(&self, at: u32) -> &[u8] {
        let (chunk, at) = (at as usize / NAMES, at as usize % NAMES);
        let chunk = &self.chunks[chunk];
        &chunk[at + 1..=at + usize::from(chunk[at])]
    }

    /// Takes over the chunks of another and says by how much its places move.
    pub(crate) fn append(&mut self, other: Self) -> u32 {
        let moved = u32::try_from(self.chunks.len() * NAMES).expect("less than 4 GiB of names");
        if !other.chunks.is_empty() {
            self.chunks.extend(other.chunks);
            self.taken = other.taken;
        }
        moved
    }
}
