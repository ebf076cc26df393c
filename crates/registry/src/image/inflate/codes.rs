//! Tables of a block's codes: what the next bits mean.
//!
//! A table is indexed by the next bits, and an entry says what they begin with. Codes that are longer than the table's index have
//! a table of their own behind it, which is indexed by the bits after those. An entry, from its lowest bit:
//!
//! | bits | of a literal | of a length or distance | of a further table | of the end, or of nothing |
//! |---|---|---|---|---|
//! | 0 to 7 | bits of the code | bits of the code and those behind it | bits of the index of this one | bits of the code |
//! | 8 to 12 | the same | bits of the code | bits of the index of that one | the same |
//! | 13 to 15 | | | [`FURTHER`], [`EXCEPTIONAL`] | [`END`] or not, [`EXCEPTIONAL`] |
//! | 16 to 30 | the literal | what is added to the bits behind the code | where it begins | |
//! | 31 | [`LITERAL`] | | | |
//!
//! In a further table the bits of the code are those behind the index of the first one.

use super::{Invalid, ORDER, Result, low};

/// Bits that index the tables. Those of zlib are 9 or 10 and 6 or 9; most codes of layers are found at once with these.
pub(super) const LENGTH_BITS: u32 = 11;
pub(super) const DISTANCE_BITS: u32 = 8;
const BITS_OF_LENGTHS: u32 = 7;

/// Powers of two, so that no index leaves them: codes of 15 bits for 286 and 30 symbols never need more than 2342 and 402 entries
/// with further tables (zlib's `enough` counts them).
const LENGTHS: usize = 4096;
const DISTANCES: usize = 512;

/// The longest code (RFC 1951, 3.2.7).
const LONGEST: usize = 15;

pub(super) const LITERAL: u32 = 1 << 31;
/// Not a literal, length or distance: the end of the block, a further table, or no code at all.
pub(super) const EXCEPTIONAL: u32 = 1 << 15;
pub(super) const FURTHER: u32 = 1 << 14;
pub(super) const END: u32 = 1 << 13;
/// No code. Where none begins so it takes no bits, so that it is seen however few there are.
const NOTHING: u32 = EXCEPTIONAL;

/// The smallest length of each code from 257, and the bits behind it (RFC 1951, 3.2.5).
pub(super) const LENGTH: [(u32, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// The smallest distance of each code, and the bits behind it.
pub(super) const DISTANCE: [(u32, u32); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

/// What literals, lengths and the end of a block mean, by symbol: an entry without the bits of its code. Two symbols of the fixed
/// codes mean nothing.
static MEANINGS: [u32; 288] = {
    let mut meanings = [NOTHING; 288];
    let mut symbol = 0;
    while symbol < 256 {
        meanings[symbol as usize] = LITERAL | symbol << 16;
        symbol += 1;
    }
    meanings[256] = EXCEPTIONAL | END;
    let mut index = 0;
    while index < LENGTH.len() {
        meanings[257 + index] = LENGTH[index].0 << 16 | LENGTH[index].1;
        index += 1;
    }
    meanings
};

static MEANINGS_OF_DISTANCES: [u32; 32] = {
    let mut meanings = [NOTHING; 32];
    let mut index = 0;
    while index < DISTANCE.len() {
        meanings[index] = DISTANCE[index].0 << 16 | DISTANCE[index].1;
        index += 1;
    }
    meanings
};

/// Lengths of codes by symbol, and behind 16 to 18 the bits that say how often (RFC 1951, 3.2.7).
static MEANINGS_OF_LENGTHS: [u32; ORDER.len()] = {
    let mut meanings = [0; ORDER.len()];
    let mut symbol = 0;
    while symbol < 16 {
        meanings[symbol as usize] = symbol << 16;
        symbol += 1;
    }
    (meanings[16], meanings[17], meanings[18]) = (16 << 16 | 2, 17 << 16 | 3, 18 << 16 | 7);
    meanings
};

pub(super) fn is_literal(entry: u32) -> bool {
    entry & LITERAL != 0
}

pub(super) fn is_exceptional(entry: u32) -> bool {
    entry & EXCEPTIONAL != 0
}

pub(super) fn is_end(entry: u32) -> bool {
    is_exceptional(entry) && entry & END != 0
}

/// The byte of a literal.
pub(super) fn literal(entry: u32) -> u8 {
    let [_, _, byte, _] = entry.to_le_bytes();
    byte
}

/// Bits to pass over.
pub(super) fn bits(entry: u32) -> u32 {
    entry & 63
}

/// The length or distance of an entry, with the bits that begin with its code.
pub(super) fn value(entry: u32, start: u64) -> usize {
    (entry >> 16) as usize + (low(start, bits(entry)) >> (entry >> 8 & 31))
}

/// How the lengths of codes go on.
pub(super) enum Length {
    New(u8),
    Zeros(usize),
    Again(usize),
}

/// The tables of the block that is being read.
pub(super) struct Tables {
    pub(super) lengths: [u32; LENGTHS],
    pub(super) distances: [u32; DISTANCES],
    of_lengths: [u32; 1 << BITS_OF_LENGTHS],
    /// Whether those of lengths and distances are the fixed ones: blocks with them can be as short as ten bits.
    are_fixed: bool,
}

impl Tables {
    pub(super) fn new() -> Box<Self> {
        let (lengths, distances) = ([NOTHING; LENGTHS], [NOTHING; DISTANCES]);
        Box::new(Tables { lengths, distances, of_lengths: [NOTHING; 1 << BITS_OF_LENGTHS], are_fixed: false })
    }

    /// The fixed codes (RFC 1951, 3.2.6).
    pub(super) fn fix(&mut self) -> Result<()> {
        if self.are_fixed {
            return Ok(());
        }
        let mut lengths = [8; 288];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        self.build(&lengths, &[5; 32])?;
        self.are_fixed = true;
        Ok(())
    }

    /// The codes of a block that brings them. Of one code, or of no distance, the rest of the table means nothing.
    pub(super) fn build(&mut self, literals: &[u8], distances: &[u8]) -> Result<()> {
        self.are_fixed = false;
        build(&mut self.lengths, literals, &MEANINGS, LENGTH_BITS, true)?;
        build(&mut self.distances, distances, &MEANINGS_OF_DISTANCES, DISTANCE_BITS, true)
    }

    pub(super) fn build_of_lengths(&mut self, lengths: &[u8]) -> Result<()> {
        build(&mut self.of_lengths, lengths, &MEANINGS_OF_LENGTHS, BITS_OF_LENGTHS, false)
    }

    /// The next length of a code, and how many bits say so.
    pub(super) fn length(&self, next: u64) -> (Length, u32) {
        let entry = self.of_lengths[low(next, BITS_OF_LENGTHS)];
        let extra = low(next, bits(entry)) >> (entry >> 8 & 31);
        let length = match entry >> 16 {
            16 => Length::Again(3 + extra),
            17 => Length::Zeros(3 + extra),
            18 => Length::Zeros(11 + extra),
            length => Length::New(u8::try_from(length).expect("a length of at most 15")),
        };
        (length, bits(entry))
    }

    /// The entry of these bits, the bits where its own code begins, and how many it takes altogether.
    pub(super) fn length_or_literal(&self, next: u64) -> (u32, u64, u32) {
        look_up(&self.lengths, next, LENGTH_BITS)
    }

    /// The same of a distance.
    pub(super) fn distance(&self, next: u64) -> (u32, u64, u32) {
        look_up(&self.distances, next, DISTANCE_BITS)
    }
}

fn look_up<const N: usize>(table: &[u32; N], next: u64, index_bits: u32) -> (u32, u64, u32) {
    let entry = table[low(next, index_bits)];
    if !is_exceptional(entry) || entry & FURTHER == 0 {
        return (entry, next, bits(entry));
    }
    let behind = next >> index_bits;
    let entry = further(table, entry, behind);
    (entry, behind, index_bits + bits(entry))
}

/// The entry of these bits behind the table's index.
#[inline]
pub(super) fn further<const N: usize>(table: &[u32; N], entry: u32, behind: u64) -> u32 {
    table[((entry >> 16) as usize + low(behind, entry >> 8 & 15)) & (N - 1)]
}

/// Builds a table from the lengths of the codes of its symbols, each at most [`LONGEST`], 0 for none. All codes must be used, but
/// where `lone` says so there may be none at all, or one of one bit, as zlib has it.
fn build(table: &mut [u32], lengths: &[u8], meanings: &[u32], index_bits: u32, lone: bool) -> Result<()> {
    let mut counts = [0_usize; LONGEST + 1];
    for &length in lengths {
        counts[usize::from(length)] += 1;
    }
    counts[0] = 0;
    let mut starts = [0; LONGEST + 2];
    let mut free = 1_usize;
    for length in 1..=LONGEST {
        free = (2 * free).checked_sub(counts[length]).ok_or(Invalid("more codes than there can be"))?;
        starts[length + 1] = starts[length] + counts[length];
    }
    let used = starts[LONGEST + 1];
    let mut symbols = [0_usize; MEANINGS.len()];
    let mut next = starts;
    for (symbol, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        let next = &mut next[usize::from(length)];
        symbols[*next] = symbol;
        *next += 1;
    }
    if free > 0 {
        if !lone || used > counts[1] {
            return Err(Invalid("codes that leave some bits without a meaning"));
        }
        table[..1 << index_bits].fill(NOTHING);
        if used == 1 {
            let entry = meanings[symbols[0]] + 0x101;
            table[..1 << index_bits].iter_mut().step_by(2).for_each(|first| *first = entry);
        }
        return Ok(());
    }
    fill(table, &symbols[..used], &counts, meanings, index_bits);
    Ok(())
}

/// Fills a table with codes in their order, of which there are so many of each length. No code is the beginning of another one and
/// all are used, so that every entry is written.
fn fill(table: &mut [u32], symbols: &[usize], counts: &[usize; LONGEST + 1], meanings: &[u32], index_bits: u32) {
    let mut symbols = symbols.iter();
    let mut code = 0_u32;
    let mut end = 1 << index_bits;
    // The further table that is being filled: what its codes begin with, and where it is.
    let (mut beginning, mut start) = (usize::MAX, 0);
    for (length, &count) in (0_u32..).zip(counts).skip(1) {
        if length <= index_bits {
            // One bit more, which means nothing yet.
            let known = 1 << (length - 1);
            table.copy_within(..known, known);
        }
        for (nth, &symbol) in symbols.by_ref().take(count).enumerate() {
            // The first bit of a code is its highest, and the lowest of the stream.
            let reversed = (code.reverse_bits() >> (u32::BITS - length)) as usize;
            code += 1;
            if length <= index_bits {
                table[reversed] = meanings[symbol] + length * 0x101;
                continue;
            }
            let behind = length - index_bits;
            if reversed & ((1 << index_bits) - 1) != beginning {
                beginning = reversed & ((1 << index_bits) - 1);
                start = end;
                let bits = further_bits(behind, count - nth, &counts[length as usize..]);
                end += 1 << bits;
                let address = u32::try_from(start).expect("a few thousand entries");
                table[beginning] = address << 16 | EXCEPTIONAL | FURTHER | bits << 8 | index_bits;
            }
            let entry = meanings[symbol] + behind * 0x101;
            let all = table[start..end].iter_mut().skip(reversed >> index_bits).step_by(1 << behind);
            all.for_each(|same| *same = entry);
        }
        code <<= 1;
    }
}

/// The bits that index a further table whose shortest codes have so many, of which so many are left; counts of codes by length,
/// from the shortest: codes are in the order of their lengths, so the table ends where its bits are used up.
fn further_bits(shortest: u32, left: usize, counts: &[usize]) -> u32 {
    let (mut bits, mut used) = (shortest, left);
    for &longer in &counts[1..] {
        if used >= 1 << bits {
            break;
        }
        bits += 1;
        used = 2 * used + longer;
    }
    bits
}
