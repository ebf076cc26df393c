//! Deflated bytes that others can follow in the same stream.
//!
//! libdeflate compresses better than zlib at two to three times its speed, but only whole streams: the last block of what it
//! gives says that it is the last. Here that block is found, by following the codes without putting anything together, and
//! told not to be; an empty stored block behind it ends on a byte's boundary, as after a flush of zlib (RFC 1951, 3.2.3 and
//! 3.2.4).

use flate2::{Compress, Compression, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use super::compression::DEFAULT_GZIP_LEVEL;

/// So many bytes must be there behind the end of a stream: bits are read a word at a time, up to a word ahead.
const AHEAD: usize = 2 * size_of::<u64>();

/// By so many bits a code is looked up, and by what follows them where it is longer: what is looked up often stays in the
/// first cache.
const FIRST_BITS: u32 = 11;

/// Where in the table the codes of literals and lengths begin, and those of distances.
const LITERALS: u16 = 0;
const DISTANCES: u16 = 1 << FIRST_BITS;

/// How far deflate looks back.
pub(super) const WINDOW: usize = 32 * 1024;

/// Compresses pieces of a stream.
pub(super) struct Deflater {
    compressor: Compressor,
    scanner: Scanner,
    level: u32,
}

impl Deflater {
    /// Level 1 to 9.
    pub(super) fn new(level: u32) -> Deflater {
        let known = CompressionLvl::new(i32::try_from(level).unwrap_or(9).clamp(1, 9));
        let compressor = Compressor::new(known.expect("libdeflate has levels 1 to 12"));
        Deflater { compressor, scanner: Scanner::default(), level }
    }

    /// Adds the piece, deflated by itself, to what ends on a byte's boundary; so does this. With `last` nothing can follow.
    pub(super) fn add(&mut self, plain: &[u8], last: bool, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.resize(start + self.compressor.deflate_compress_bound(plain.len()), 0);
        let written = self.compressor.deflate_compress(plain, &mut bytes[start..]);
        bytes.truncate(start + written.expect("there is room for what it may need at worst"));
        if !last {
            self.scanner.leave_open(bytes, start);
        }
    }

    /// The same by zlib, which looks back to what came before.
    pub(super) fn add_behind(&self, window: &[u8], plain: &[u8], last: bool, bytes: &mut Vec<u8>) {
        Deflater::behind(self.level, window, plain, last, bytes);
    }

    /// The same for what was there already: it needs little search, unless more than usual is asked for.
    pub(super) fn add_repeated(&self, window: &[u8], plain: &[u8], last: bool, bytes: &mut Vec<u8>) {
        let level = if self.level > DEFAULT_GZIP_LEVEL { self.level } else { 1 };
        Deflater::behind(level, window, plain, last, bytes);
    }

    fn behind(level: u32, window: &[u8], plain: &[u8], last: bool, bytes: &mut Vec<u8>) {
        // A new state each time: one that is reset still finds other matches than a new one (zlib-rs 0.6), and the bytes would
        // depend on which thread had which blocks before.
        let mut compress = Compress::new(Compression::new(level), false);
        if !window.is_empty() {
            compress.set_dictionary(window).expect("a raw stream takes a dictionary before its first byte");
        }
        let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
        bytes.reserve(plain.len() / 4 + 64);
        loop {
            let consumed = usize::try_from(compress.total_in()).expect("a block fits in memory");
            let status = compress.compress_vec(&plain[consumed..], bytes, flush).expect("deflate takes any bytes");
            let all_in = compress.total_in() == plain.len() as u64;
            // A flush is complete when it left room in the output.
            let complete = if last { status == Status::StreamEnd } else { all_in && bytes.len() < bytes.capacity() };
            if complete {
                return;
            }
            bytes.reserve(bytes.len() / 2 + 4096);
        }
    }
}

/// Finds blocks. What is kept from one stream to the next is memory alone.
#[derive(Default)]
struct Scanner {
    /// Both alphabets' codes by their first bits, then those that are longer.
    codes: Vec<Code>,
    lengths: Vec<u8>,
}

/// What the next bits begin with.
#[derive(Debug, Clone, Copy, Default)]
struct Code {
    /// Bits of the code, and of what follows it as a number; of a longer one, by how many more bits it is looked up.
    bits: u8,
    meaning: Meaning,
    /// Where in the table what follows is looked up: behind a length it is a distance, else a literal or a length.
    next: u16,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Meaning {
    /// No code begins like that.
    #[default]
    Nothing,
    /// A literal, a length or a distance: which of them need not be asked to pass it.
    Symbol,
    End,
    /// More bits than the table is made by must be seen.
    Longer,
}

/// The stream is none of deflate's.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

impl Scanner {
    /// Makes the last block of the stream that begins at a byte one that others follow, and ends it on a byte's boundary.
    fn leave_open(&mut self, bytes: &mut Vec<u8>, start: usize) {
        let end = bytes.len();
        bytes.resize(end + AHEAD, 0);
        let last = self.last_block(&bytes[start..]).expect("libdeflate writes what deflate is");
        bytes.truncate(end);
        bytes[start + last.header / 8] &= !(1 << (last.header % 8));
        // The bits up to the byte's boundary are zero, which is the header of a stored block where there are three of them.
        if last.end.next_multiple_of(8) - last.end < 3 {
            bytes.push(0);
        }
        bytes.extend_from_slice(&[0, 0, 0xff, 0xff]);
    }

    /// Where in a stream, with [`AHEAD`] zeros behind it, the last block begins and ends.
    fn last_block(&mut self, stream: &[u8]) -> Result<Block, Malformed> {
        let mut bits = Bits::of(stream);
        loop {
            let header = bits.at();
            let is_last = bits.take(1)? == 1;
            match bits.take(2)? {
                0 => bits.pass_stored()?,
                1 => {
                    self.take_fixed()?;
                    self.pass_codes(&mut bits)?;
                }
                2 => {
                    self.take_dynamic(&mut bits)?;
                    self.pass_codes(&mut bits)?;
                }
                _ => return Err(Malformed),
            }
            if is_last {
                return Ok(Block { header, end: bits.at() });
            }
        }
    }

    /// RFC 1951, 3.2.6.
    fn take_fixed(&mut self) -> Result<(), Malformed> {
        let lengths: Vec<u8> = (0..288)
            .map(|symbol| match symbol {
                144..=255 => 9,
                256..=279 => 7,
                _ => 8,
            })
            .collect();
        self.fill(&lengths, &[5; 30])
    }

    /// RFC 1951, 3.2.7.
    fn take_dynamic(&mut self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let (literals, distances, count) = (257 + bits.take(5)?, 1 + bits.take(5)?, 4 + bits.take(4)?);
        let mut of_lengths = [0; 19];
        for place in &ORDER[..count] {
            of_lengths[*place] = u8::try_from(bits.take(3)?).unwrap_or_default();
        }
        let symbols = Symbols::new(&of_lengths)?;
        let all = literals + distances;
        let mut lengths = std::mem::take(&mut self.lengths);
        lengths.clear();
        while lengths.len() < all {
            let (length, times) = match symbols.next(bits)? {
                16 => (*lengths.last().ok_or(Malformed)?, 3 + bits.take(2)?),
                17 => (0, 3 + bits.take(3)?),
                18 => (0, 11 + bits.take(7)?),
                length => (length, 1),
            };
            lengths.resize(lengths.len() + times, length);
        }
        if lengths.len() > all {
            return Err(Malformed);
        }
        let filled = self.fill(&lengths[..literals], &lengths[literals..]);
        self.lengths = lengths;
        filled
    }

    fn fill(&mut self, literals: &[u8], distances: &[u8]) -> Result<(), Malformed> {
        self.codes.clear();
        self.codes.resize(2 << FIRST_BITS, Code::default());
        fill(&mut self.codes, LITERALS, literals, literal)?;
        fill(&mut self.codes, DISTANCES, distances, distance)
    }

    /// Passes symbols up to the end of the block. What comes next is guessed wrong too often by the processor to be asked: each
    /// code says where the next one is looked up.
    fn pass_codes(&self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        // A copy, whose parts need not be in memory.
        let (mut now, mut table) = (*bits, LITERALS);
        loop {
            // Two symbols take 48 bits at most.
            now.refill()?;
            for _ in 0..2 {
                let mut code = self.codes[usize::from(table) + now.index(FIRST_BITS)];
                if code.meaning != Meaning::Symbol {
                    if code.meaning == Meaning::Longer {
                        code = self.codes[usize::from(code.next) + now.index_behind(FIRST_BITS, code.bits)];
                    }
                    match code.meaning {
                        Meaning::Symbol => {}
                        Meaning::End => {
                            now.pass(code.bits);
                            *bits = now;
                            return bits.check();
                        }
                        Meaning::Nothing | Meaning::Longer => return Err(Malformed),
                    }
                }
                now.pass(code.bits);
                table = code.next;
            }
        }
    }
}

/// Where in a stream a block begins and ends, in bits.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    header: usize,
    end: usize,
}

/// An index that was masked to the length of a table.
#[allow(clippy::cast_possible_truncation, reason = "it is less than the table's length")]
fn index(masked: u64) -> usize {
    masked as usize
}

/// The bits of a stream, from a place on.
#[derive(Clone, Copy)]
struct Bits<'a> {
    stream: &'a [u8],
    /// The first byte of which no bit is counted in the word.
    next: usize,
    /// Bits that come next, the first one lowest. Those above the counted ones are true as well, or none.
    word: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn of(stream: &'a [u8]) -> Self {
        Self { stream, next: 0, word: 0, count: 0 }
    }

    /// Makes it 56 bits at least.
    fn refill(&mut self) -> Result<(), Malformed> {
        let more = self.stream.get(self.next..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
        self.word |= u64::from_le_bytes(*more) << self.count;
        self.next += ((63 - self.count) / 8) as usize;
        // So many whole bytes more.
        self.count |= 0x38;
        Ok(())
    }

    /// Which bit of the stream comes next.
    fn at(&self) -> usize {
        8 * self.next - self.count as usize
    }

    /// So many bits, as a place in a table.
    fn index(&self, bits: u32) -> usize {
        index(self.word & ((1 << bits) - 1))
    }

    /// The same of bits that others come before.
    fn index_behind(&self, before: u32, bits: u8) -> usize {
        index((self.word >> before) & ((1 << bits) - 1))
    }

    /// Passes bits, which must be there.
    fn pass(&mut self, bits: u8) {
        self.word >>= bits;
        self.count -= u32::from(bits);
    }

    /// Up to 16 bits as a number.
    fn take(&mut self, bits: u8) -> Result<usize, Malformed> {
        self.refill()?;
        let taken = self.index(bits.into());
        self.pass(bits);
        Ok(taken)
    }

    fn pass_stored(&mut self) -> Result<(), Malformed> {
        let header = self.at().div_ceil(8);
        let length = self.stream.get(header..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
        let next = header + 4 + usize::from(u16::from_le_bytes(*length));
        *self = Self { next, ..Self::of(self.stream) };
        self.check()
    }

    /// Whether what was passed was there.
    fn check(&self) -> Result<(), Malformed> {
        if self.at() <= (self.stream.len() - AHEAD) * 8 { Ok(()) } else { Err(Malformed) }
    }
}

/// What a symbol of the alphabet of literals and lengths means; of the bits, how many follow its code.
fn literal(symbol: usize) -> Code {
    const EXTRA: [u8; 31] =
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0, 0, 0];
    match symbol {
        0..=255 => Code { bits: 0, meaning: Meaning::Symbol, next: LITERALS },
        256 => Code { bits: 0, meaning: Meaning::End, next: LITERALS },
        _ => Code { bits: EXTRA[symbol - 257], meaning: Meaning::Symbol, next: DISTANCES },
    }
}

/// The same of the alphabet of distances.
fn distance(symbol: usize) -> Code {
    let extra = (symbol / 2).saturating_sub(1);
    Code { bits: u8::try_from(extra).expect("there are 32 symbols"), meaning: Meaning::Symbol, next: LITERALS }
}

/// Says of every code that bits can begin with what it is (RFC 1951, 3.2.2), by the first bits of it from a place in the table
/// on, and in a part of its own at the table's end where codes that begin so are longer.
fn fill(codes: &mut Vec<Code>, begin: u16, lengths: &[u8], symbol: impl Fn(usize) -> Code) -> Result<(), Malformed> {
    let (begin, first_bits) = (usize::from(begin), FIRST_BITS as usize);
    let longest = usize::from(lengths.iter().copied().max().unwrap_or_default());
    let more_bits = longest.saturating_sub(first_bits);
    let mut code = 0_usize;
    for length in 1..=longest {
        code <<= 1;
        for (number, _) in lengths.iter().enumerate().filter(|(_, known)| usize::from(**known) == length) {
            if code >> length != 0 {
                return Err(Malformed);
            }
            let mut entry = symbol(number);
            entry.bits += u8::try_from(length).map_err(|_| Malformed)?;
            // Codes come with their first bit first, numbers with their last.
            let bits = code.reverse_bits() >> (usize::BITS as usize - length);
            code += 1;
            if length <= first_bits {
                let places = &mut codes[begin..begin + (1 << first_bits)];
                places.iter_mut().skip(bits).step_by(1 << length).for_each(|place| *place = entry);
                continue;
            }
            let first = begin + (bits & ((1 << first_bits) - 1));
            if codes[first].meaning != Meaning::Longer {
                let next = u16::try_from(codes.len()).map_err(|_| Malformed)?;
                let bits = u8::try_from(more_bits).map_err(|_| Malformed)?;
                codes[first] = Code { bits, meaning: Meaning::Longer, next };
                codes.resize(codes.len() + (1 << more_bits), Code::default());
            }
            let part = usize::from(codes[first].next);
            let places = &mut codes[part..part + (1 << more_bits)];
            places
                .iter_mut()
                .skip(bits >> first_bits)
                .step_by(1 << (length - first_bits))
                .for_each(|place| *place = entry);
        }
    }
    Ok(())
}

/// The code that the lengths of the other two are written in.
struct Symbols {
    /// By seven bits: a symbol and the bits of its code, which are none where no code begins like that.
    table: [(u8, u8); 128],
}

impl Symbols {
    fn new(lengths: &[u8; 19]) -> Result<Symbols, Malformed> {
        let mut table = [(0, 0); 128];
        let mut code = 0_usize;
        for length in 1..=7_u8 {
            code <<= 1;
            for (symbol, _) in (0..).zip(lengths).filter(|(_, known)| **known == length) {
                if code >> length != 0 {
                    return Err(Malformed);
                }
                let first = code.reverse_bits() >> (usize::BITS - u32::from(length));
                for entry in table.iter_mut().skip(first).step_by(1 << length) {
                    *entry = (symbol, length);
                }
                code += 1;
            }
        }
        Ok(Symbols { table })
    }

    fn next(&self, bits: &mut Bits<'_>) -> Result<u8, Malformed> {
        bits.refill()?;
        let (symbol, length) = self.table[bits.index(7)];
        if length == 0 {
            return Err(Malformed);
        }
        bits.pass(length);
        Ok(symbol)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;
    use crate::image::sample;

    fn inflate(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = flate2::bufread::DeflateDecoder::new(bytes);
        decoder.read_to_end(&mut plain).unwrap();
        assert!(decoder.into_inner().is_empty(), "bytes behind the end of the stream");
        plain
    }

    /// All pieces in one stream.
    fn deflate(pieces: &[&[u8]], level: u32) -> Vec<u8> {
        let (mut deflater, mut bytes) = (Deflater::new(level), Vec::new());
        for (number, piece) in pieces.iter().enumerate() {
            deflater.add(piece, number + 1 == pieces.len(), &mut bytes);
        }
        bytes
    }

    #[test]
    fn pieces_of_every_kind_make_one_stream() {
        // Stored, fixed and dynamic codes, and several blocks of them.
        let text: Vec<u8> =
            (0..40_000).flat_map(|number| format!("{number} and {}, ", number * 7).into_bytes()).collect();
        let random = sample::random(200_000, 3);
        let mixed = [&text[..90_000], &random[..70_000], &vec![0; 50_000], &text].concat();
        let pieces: [&[u8]; 8] = [b"", b"a", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &text, b"", &random, &mixed, b"the end"];
        for level in 1..=9 {
            let bytes = deflate(&pieces, level);
            assert!(inflate(&bytes) == pieces.concat(), "level {level}");
        }
    }

    #[test]
    fn what_deflate_does_not_write_is_found_out() {
        let mut scanner = Scanner::default();
        let mut last = |bytes: &[u8]| scanner.last_block(&[bytes, &[0; AHEAD]].concat());
        assert_eq!(last(&[0b111]), Err(Malformed), "a kind of block that there is not");
        assert_eq!(last(&[1, 10, 0, !10, 0xff, b'x']), Err(Malformed), "shorter than it says");
        assert_eq!(last(&[0b101, 0xff, 0xff, 0xff]), Err(Malformed), "codes of no code");
        assert_eq!(last(&[1, 1, 0, 0xfe, 0xff, b'x']), Ok(Block { header: 0, end: 48 }));
        assert_eq!(last(&[3, 0]), Ok(Block { header: 0, end: 10 }));
    }

    proptest! {
        #[test]
        fn any_pieces_make_one_stream(
            pieces in prop::collection::vec((0_usize..70_000, any::<u32>(), 1_u8..=255), 1..5), level in 1_u32..=9,
        ) {
            // From one letter to all bytes.
            let pieces: Vec<Vec<u8>> = pieces
                .into_iter()
                .map(|(length, seed, letters)| {
                    sample::random(length, u64::from(seed)).iter().map(|byte| byte % letters).collect()
                })
                .collect();
            let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert!(inflate(&deflate(&borrowed, level)) == pieces.concat());
        }

        #[test]
        fn any_bytes_are_followed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let end = bytes.len() * 8;
            if let Ok(block) = Scanner::default().last_block(&[&bytes, &[0; AHEAD][..]].concat()) {
                prop_assert!(block.header < block.end && block.end <= end);
            }
        }
    }
}
