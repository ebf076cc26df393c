//! Inflating (RFC 1951) piece by piece: a quarter of what unpacking a base costs.
//!
//! What came out lies in one buffer. Its last 32 KiB are what a match may reach back to; once all of a full buffer was taken, they
//! move to its front. Where there is much input and room, the loop in [`fast`] decodes without asking whether there are bits and
//! room left. What is near the end of either is decoded by [`Inflater::careful`], which stops between two symbols and goes on when
//! more came. Nothing here is trusted: whoever inflates a layer compares the digest of what came out.

mod codes;
mod fast;

use codes::Tables;

/// How far a match reaches back (RFC 1951, 2).
const WINDOW: usize = 32 * 1024;
/// Where the buffer is full: nothing more is begun.
const FULL: usize = WINDOW + 128 * 1024;
/// Bytes behind it, for what was begun before: two literals, the longest match, and bytes behind it that do not count, at most 274.
const SLACK: usize = 320;
const BUFFER: usize = FULL + SLACK;

/// The order in which the lengths of the codes for lengths come (RFC 1951, 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Codes of literals and lengths, and of distances, that a block can have: two more each are not used by any block.
const MOST_LENGTHS: usize = 286;
const MOST_DISTANCES: usize = 30;
const END_OF_BLOCK: usize = 256;

/// A stream that is none, and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid(pub(super) &'static str);

type Result<T> = std::result::Result<T, Invalid>;

/// Why inflating stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// All input was used.
    Hungry,
    /// There is no room: what came out has to be taken.
    Full,
    /// The stream is at its end. Input that was read too far is given back by [`Inflater::next_byte`].
    Ended,
}

/// One stream after another.
pub(super) struct Inflater {
    out: Box<[u8; BUFFER]>,
    /// Where what came out ends, and what of it was taken.
    made: usize,
    taken: usize,
    bits: Bits,
    at: At,
    is_last: bool,
    lengths: Lengths,
    tables: Box<Tables>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Block,
    StoredLength,
    /// So many bytes.
    Stored(usize),
    Counts,
    /// Behind so many lengths of codes for lengths.
    CodesOfLengths(usize),
    /// Behind so many lengths of codes.
    Lengths(usize),
    Symbols,
    End,
}

/// The lengths of a block's codes, as they come.
struct Lengths {
    literals: usize,
    distances: usize,
    codes: usize,
    of_codes: [u8; ORDER.len()],
    all: [u8; MOST_LENGTHS + MOST_DISTANCES],
}

/// Input, and how much of it was used.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Bits that were taken from the input, the next one lowest. Above `count` all are 0.
#[derive(Default)]
struct Bits {
    buffer: u64,
    count: u32,
}

impl Bits {
    /// As many whole bytes as there are and have room: 56 bits or more, where the input has them.
    fn fill(&mut self, input: &mut Input<'_>) {
        while self.count < 56 && input.at < input.bytes.len() {
            self.buffer |= u64::from(input.bytes[input.at]) << self.count;
            self.count += 8;
            input.at += 1;
        }
    }

    fn pass(&mut self, count: u32) {
        self.buffer >>= count;
        self.count -= count;
    }

    /// The next bits, at most 32, if there are so many.
    fn take(&mut self, count: u32, input: &mut Input<'_>) -> Option<usize> {
        if self.count < count {
            self.fill(input);
        }
        (count <= self.count).then(|| {
            let value = low(self.buffer, count);
            self.pass(count);
            value
        })
    }

    fn take_byte(&mut self) -> Option<u8> {
        (self.count >= 8).then(|| {
            let [byte, ..] = self.buffer.to_le_bytes();
            self.pass(8);
            byte
        })
    }

    /// Passes over what is left of a byte.
    fn align(&mut self) {
        self.pass(self.count % 8);
    }
}

/// The lowest bits, at most 32, as a number.
#[allow(clippy::cast_possible_truncation, reason = "32 bits are left of it")]
fn low(bits: u64, count: u32) -> usize {
    (bits & ((1 << count) - 1)) as usize
}

impl Inflater {
    pub(super) fn new() -> Self {
        let out = vec![0; BUFFER].into_boxed_slice();
        Inflater {
            out: out.try_into().expect("made as long as it is"),
            made: 0,
            taken: 0,
            bits: Bits::default(),
            at: At::Block,
            is_last: false,
            lengths: Lengths {
                literals: 0,
                distances: 0,
                codes: 0,
                of_codes: [0; ORDER.len()],
                all: [0; MOST_LENGTHS + MOST_DISTANCES],
            },
            tables: Tables::new(),
        }
    }

    /// A new stream comes. What came out of the one before is gone, and so is what was read behind it.
    pub(super) fn restart(&mut self) {
        self.bits = Bits::default();
        (self.made, self.taken) = (0, 0);
        (self.at, self.is_last) = (At::Block, false);
    }

    /// What came out and was not taken.
    pub(super) fn fresh(&self) -> &[u8] {
        &self.out[self.taken..self.made]
    }

    /// So many bytes of [`Inflater::fresh`] are not needed any more.
    pub(super) fn take(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count).min(self.made);
    }

    /// A byte behind the end of the stream that was read already; there are 7 at most.
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        self.bits.take_byte()
    }

    /// Goes on with this input; returns how much of it was used. What came out before must have been taken. An error is the end:
    /// what came out before it can be taken, and nothing comes behind it.
    pub(super) fn inflate(&mut self, bytes: &[u8]) -> Result<(usize, Stop)> {
        assert_eq!(self.taken, self.made, "what came out was taken");
        if self.made >= FULL {
            self.out.copy_within(self.made - WINDOW..self.made, 0);
            (self.made, self.taken) = (WINDOW, WINDOW);
        }
        let mut input = Input { bytes, at: 0 };
        loop {
            if let Some(stop) = self.go_on(&mut input)? {
                return Ok((input.at, stop));
            }
        }
    }

    fn go_on(&mut self, input: &mut Input<'_>) -> Result<Option<Stop>> {
        match self.at {
            At::Block => self.block(input),
            At::StoredLength => self.stored_length(input),
            At::Stored(left) => Ok(self.stored(left, input)),
            At::Counts => self.counts(input),
            At::CodesOfLengths(known) => self.codes_of_lengths(known, input),
            At::Lengths(known) => self.lengths(known, input),
            At::Symbols => {
                self.fast(input)?;
                if self.at == At::Symbols { self.careful(input) } else { Ok(None) }
            }
            At::End => Ok(Some(Stop::Ended)),
        }
    }

    /// Three bits in front of each block (RFC 1951, 3.2.3).
    fn block(&mut self, input: &mut Input<'_>) -> Result<Option<Stop>> {
        let Some(header) = self.bits.take(3, input) else { return Ok(Some(Stop::Hungry)) };
        self.is_last = header & 1 == 1;
        self.at = match header >> 1 {
            0 => {
                self.bits.align();
                At::StoredLength
            }
            1 => {
                self.tables.fix()?;
                At::Symbols
            }
            2 => At::Counts,
            _ => return Err(Invalid("a block of a kind that there is not")),
        };
        Ok(None)
    }

    fn end_block(&mut self) {
        self.at = if self.is_last { At::End } else { At::Block };
        if self.is_last {
            self.bits.align();
        }
    }

    fn stored_length(&mut self, input: &mut Input<'_>) -> Result<Option<Stop>> {
        let Some(both) = self.bits.take(32, input) else { return Ok(Some(Stop::Hungry)) };
        let (length, complement) = (both & 0xffff, both >> 16);
        if length ^ complement != 0xffff {
            return Err(Invalid("a stored block whose length is not what it says twice"));
        }
        self.at = At::Stored(length);
        Ok(None)
    }

    fn stored(&mut self, mut left: usize, input: &mut Input<'_>) -> Option<Stop> {
        while left > 0 && self.made < FULL {
            let Some(byte) = self.bits.take_byte() else { break };
            self.out[self.made] = byte;
            self.made += 1;
            left -= 1;
        }
        let count = left.min(FULL.saturating_sub(self.made)).min(input.bytes.len() - input.at);
        if self.bits.count == 0 {
            self.out[self.made..self.made + count].copy_from_slice(&input.bytes[input.at..input.at + count]);
            self.made += count;
            input.at += count;
            left -= count;
        }
        self.at = At::Stored(left);
        if left == 0 {
            self.end_block();
            None
        } else if self.made >= FULL {
            Some(Stop::Full)
        } else {
            Some(Stop::Hungry)
        }
    }

    fn counts(&mut self, input: &mut Input<'_>) -> Result<Option<Stop>> {
        let Some(counts) = self.bits.take(14, input) else { return Ok(Some(Stop::Hungry)) };
        let lengths = &mut self.lengths;
        lengths.literals = (counts & 31) + 257;
        lengths.distances = (counts >> 5 & 31) + 1;
        lengths.codes = (counts >> 10) + 4;
        if lengths.literals > MOST_LENGTHS || lengths.distances > MOST_DISTANCES {
            return Err(Invalid("a block with more codes than there are"));
        }
        lengths.of_codes = [0; ORDER.len()];
        self.at = At::CodesOfLengths(0);
        Ok(None)
    }

    fn codes_of_lengths(&mut self, known: usize, input: &mut Input<'_>) -> Result<Option<Stop>> {
        for (nth, &symbol) in ORDER.iter().enumerate().take(self.lengths.codes).skip(known) {
            let Some(length) = self.bits.take(3, input) else {
                self.at = At::CodesOfLengths(nth);
                return Ok(Some(Stop::Hungry));
            };
            self.lengths.of_codes[symbol] = u8::try_from(length).expect("three bits");
        }
        self.tables.build_of_lengths(&self.lengths.of_codes)?;
        self.at = At::Lengths(0);
        Ok(None)
    }

    fn lengths(&mut self, mut known: usize, input: &mut Input<'_>) -> Result<Option<Stop>> {
        let lengths = &mut self.lengths;
        let all = lengths.literals + lengths.distances;
        while known < all {
            self.bits.fill(input);
            let (code, bits) = self.tables.length(self.bits.buffer);
            if bits > self.bits.count {
                self.at = At::Lengths(known);
                return Ok(Some(Stop::Hungry));
            }
            let (length, times) = match code {
                codes::Length::New(length) => (length, 1),
                codes::Length::Zeros(times) => (0, times),
                codes::Length::Again(times) => {
                    let before = known.checked_sub(1).ok_or(Invalid("a length as before where there is none"))?;
                    (lengths.all[before], times)
                }
            };
            if times > all - known {
                return Err(Invalid("more lengths of codes than there are codes"));
            }
            self.bits.pass(bits);
            lengths.all[known..known + times].fill(length);
            known += times;
        }
        let (literals, distances) = lengths.all[..all].split_at(lengths.literals);
        if literals[END_OF_BLOCK] == 0 {
            return Err(Invalid("a block that cannot end"));
        }
        self.tables.build(literals, distances)?;
        self.at = At::Symbols;
        Ok(None)
    }

    /// Symbol by symbol, each only when all its bits are there, until there is enough for [`Inflater::fast`].
    fn careful(&mut self, input: &mut Input<'_>) -> Result<Option<Stop>> {
        loop {
            if self.made >= FULL {
                return Ok(Some(Stop::Full));
            }
            self.bits.fill(input);
            let (entry, start, mut used) = self.tables.length_or_literal(self.bits.buffer);
            if used > self.bits.count {
                return Ok(Some(Stop::Hungry));
            }
            if codes::is_literal(entry) {
                self.out[self.made] = codes::literal(entry);
                self.made += 1;
            } else if codes::is_end(entry) {
                self.bits.pass(used);
                self.end_block();
                return Ok(None);
            } else if codes::is_exceptional(entry) {
                return Err(NO_SYMBOL);
            } else {
                let length = codes::value(entry, start);
                let (entry, start, more) = self.tables.distance(self.bits.buffer >> used);
                used += more;
                if used > self.bits.count {
                    return Ok(Some(Stop::Hungry));
                }
                if codes::is_exceptional(entry) {
                    return Err(NO_SYMBOL);
                }
                let distance = codes::value(entry, start);
                if distance > self.made {
                    return Err(TOO_FAR);
                }
                for at in self.made..self.made + length {
                    self.out[at] = self.out[at - distance];
                }
                self.made += length;
            }
            self.bits.pass(used);
            if fast::is_enough(input) {
                return Ok(None);
            }
        }
    }
}

const NO_SYMBOL: Invalid = Invalid("a code that means nothing");
const TOO_FAR: Invalid = Invalid("a match from before the beginning");

#[cfg(test)]
mod tests;
