//! The loop that decodes most symbols: enough input and room for a whole turn is known at its start.
//!
//! What takes time is that a code can only be looked up when the one before is known, and branches that nobody can predict. So the
//! next entry is looked up before the bytes of a match are copied, up to three literals come in one turn, and a match is copied by
//! whole words without a look at how short it is.

use super::codes::{self, DISTANCE_BITS, END, EXCEPTIONAL, FURTHER, LENGTH_BITS, LITERAL, further};
use super::{BUFFER, Bits, FULL, Inflater, Input, NO_SYMBOL, Result, TOO_FAR, low};

/// Bytes of input that a turn may read: two refills, and the one before the first turn, each of 8 bytes from at most 7 further on.
const TURN: usize = 32;

/// Whether there is input for a turn or more.
pub(super) fn is_enough(input: &Input<'_>) -> bool {
    input.bytes.len() - input.at >= TURN
}

/// Bits in registers. Above `count` the buffer may hold bits that come again with the next refill; of `count` the lowest byte counts.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

impl Reader<'_> {
    /// To 56 bits or more, without a branch: eight bytes are read, and so many of them counted as have room.
    #[inline]
    fn refill(&mut self) {
        let word: [u8; 8] = *self.bytes[self.at..].first_chunk().expect("a turn has the input it needs");
        self.buffer |= u64::from_le_bytes(word) << (self.count & 63);
        self.at += 7;
        self.at -= (self.count >> 3 & 7) as usize;
        self.count |= 0x38;
    }

    /// Passes over the bits of an entry; returns where they began.
    #[inline]
    fn pass(&mut self, entry: u32) -> u64 {
        let start = self.buffer;
        self.buffer >>= codes::bits(entry);
        self.count = self.count.wrapping_sub(entry);
        start
    }

    #[inline]
    fn has(&self, bits: u32) -> bool {
        self.count & 0xff >= bits
    }
}

impl Inflater {
    /// Goes on for as many turns as there is input and room for, or to the end of the block.
    pub(super) fn fast(&mut self, input: &mut Input<'_>) -> Result<()> {
        if !is_enough(input) || self.made >= FULL {
            return Ok(());
        }
        let last_turn = input.bytes.len() - TURN;
        let (out, made) = (&mut *self.out, &mut self.made);
        let (lengths, distances) = (&self.tables.lengths, &self.tables.distances);
        let mut to = *made;
        let mut reader = Reader { bytes: input.bytes, at: input.at, buffer: self.bits.buffer, count: self.bits.count };
        reader.refill();
        let mut entry = lengths[low(reader.buffer, LENGTH_BITS)];
        let ended = loop {
            let mut start = reader.pass(entry);
            if entry & LITERAL != 0 {
                put(out, &mut to, entry);
                entry = lengths[low(reader.buffer, LENGTH_BITS)];
                start = reader.pass(entry);
                if entry & LITERAL != 0 {
                    put(out, &mut to, entry);
                    entry = lengths[low(reader.buffer, LENGTH_BITS)];
                    start = reader.pass(entry);
                    if entry & LITERAL != 0 {
                        put(out, &mut to, entry);
                        reader.refill();
                        entry = lengths[low(reader.buffer, LENGTH_BITS)];
                        if reader.at > last_turn || to >= FULL {
                            break Ok(false);
                        }
                        continue;
                    }
                }
            }
            if entry & EXCEPTIONAL != 0 {
                if entry & FURTHER != 0 {
                    entry = further(lengths, entry, reader.buffer);
                    start = reader.pass(entry);
                    if entry & LITERAL != 0 {
                        put(out, &mut to, entry);
                        reader.refill();
                        entry = lengths[low(reader.buffer, LENGTH_BITS)];
                        if reader.at > last_turn || to >= FULL {
                            break Ok(false);
                        }
                        continue;
                    }
                }
                if entry & EXCEPTIONAL != 0 {
                    break if entry & END != 0 { Ok(true) } else { Err(NO_SYMBOL) };
                }
            }
            let length = codes::value(entry, start);
            // A distance has 28 bits at most, and the next entry is looked up by bits behind it.
            if !reader.has(28 + LENGTH_BITS) {
                reader.refill();
            }
            entry = distances[low(reader.buffer, DISTANCE_BITS)];
            start = reader.pass(entry);
            if entry & EXCEPTIONAL != 0 {
                if entry & FURTHER != 0 {
                    entry = further(distances, entry, reader.buffer);
                    start = reader.pass(entry);
                }
                if entry & EXCEPTIONAL != 0 {
                    break Err(NO_SYMBOL);
                }
            }
            let distance = codes::value(entry, start);
            entry = lengths[low(reader.buffer, LENGTH_BITS)];
            reader.refill();
            if distance > to {
                break Err(TOO_FAR);
            }
            copy(out, to, distance, length);
            to += length;
            if reader.at > last_turn || to >= FULL {
                break Ok(false);
            }
        };
        *made = to;
        input.at = reader.at;
        // What was read beyond the bits that count comes again.
        let count = reader.count & 0xff;
        self.bits = Bits { buffer: reader.buffer & ((1 << count) - 1), count };
        if ended? {
            self.end_block();
        }
        Ok(())
    }
}

#[inline]
fn put(out: &mut [u8; BUFFER], to: &mut usize, entry: u32) {
    out[*to] = codes::literal(entry);
    *to += 1;
}

/// Copies a match, and up to 29 bytes behind it that do not count.
#[inline]
fn copy(out: &mut [u8; BUFFER], mut to: usize, distance: usize, length: usize) {
    let (mut from, end) = (to - distance, to + length);
    if distance >= 16 {
        word::<16>(out, from, to);
        word::<16>(out, from + 16, to + 16);
        (from, to) = (from + 32, to + 32);
        while to < end {
            word::<16>(out, from, to);
            (from, to) = (from + 16, to + 16);
        }
    } else if distance >= 8 {
        while to < end {
            word::<8>(out, from, to);
            (from, to) = (from + 8, to + 8);
        }
    } else if distance == 1 {
        let same = [out[from]; 16];
        while to < end {
            *place(out, to) = same;
            to += 16;
        }
    } else {
        // Each word brings as many bytes that count as the distance has.
        while to < end {
            word::<8>(out, from, to);
            (from, to) = (from + distance, to + distance);
        }
    }
}

#[inline]
fn word<const N: usize>(out: &mut [u8; BUFFER], from: usize, to: usize) {
    let word: [u8; N] = *place(out, from);
    *place(out, to) = word;
}

#[inline]
fn place<const N: usize>(out: &mut [u8; BUFFER], at: usize) -> &mut [u8; N] {
    out[at..].first_chunk_mut().expect("the slack behind a full buffer is for this")
}
