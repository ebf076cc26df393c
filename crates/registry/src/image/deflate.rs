//! Deflated bytes that others can follow in the same stream.
//!
//! libdeflate compresses better than zlib at two to three times its speed, but only whole streams: the last block of what it
//! gives says that it is the last. Here that block is found, by following the codes without putting anything together, and
//! told not to be; an empty stored block behind it ends on a byte's boundary, as after a flush of zlib (RFC 1951, 3.2.3 and
//! 3.2.4).

use flate2::{Compress, Compression, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use super::compression::DEFAULT_GZIP_LEVEL;

/// How many bytes are read at once, and so must be there behind the place that is read.
const WORD: usize = 8;

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
    literals: Vec<Code>,
    distances: Vec<Code>,
    lengths: Vec<u8>,
}

/// What the next bits begin with.
#[derive(Debug, Clone, Copy, Default)]
struct Code {
    /// Bits of the code, and of what follows it as a number.
    bits: u8,
    meaning: Meaning,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Meaning {
    /// No code begins like that.
    #[default]
    Nothing,
    Literal,
    /// A length, which a distance follows. Of a table of distances, every one.
    Match,
    End,
}

/// The stream is none of deflate's.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

impl Scanner {
    /// Makes the last block of the stream that begins at a byte one that others follow, and ends it on a byte's boundary.
    fn leave_open(&mut self, bytes: &mut Vec<u8>, start: usize) {
        let end = bytes.len();
        // So that whole words can be read up to the end.
        bytes.resize(end + WORD, 0);
        let last = self.last_block(&bytes[start..]).expect("libdeflate writes what deflate is");
        bytes.truncate(end);
        bytes[start + last.header / 8] &= !(1 << (last.header % 8));
        // The bits up to the byte's boundary are zero, which is the header of a stored block where there are three of them.
        if last.end.next_multiple_of(8) - last.end < 3 {
            bytes.push(0);
        }
        bytes.extend_from_slice(&[0, 0, 0xff, 0xff]);
    }

    /// Where in a stream, behind which a word of zeros stands, the last block begins and ends.
    fn last_block(&mut self, stream: &[u8]) -> Result<Block, Malformed> {
        let mut bits = Bits { stream, at: 0 };
        loop {
            let header = bits.at;
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
                return Ok(Block { header, end: bits.at });
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
        fill(&mut self.literals, &lengths, literal)?;
        fill(&mut self.distances, &[5; 30], distance)
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
        let filled = fill(&mut self.literals, &lengths[..literals], literal)
            .and_then(|()| fill(&mut self.distances, &lengths[literals..], distance));
        self.lengths = lengths;
        filled
    }

    fn pass_codes(&self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        let (literals, distances) = (&*self.literals, &*self.distances);
        // Both have a power of two of entries.
        let (literal_mask, distance_mask) = (literals.len() as u64 - 1, distances.len() as u64 - 1);
        loop {
            // 57 bits at least: a length and its distance take 48 at most, and what remains may be literals.
            let mut word = bits.word()?;
            let mut left = 57_u32;
            loop {
                let code = literals[index(word & literal_mask)];
                let taken = u32::from(code.bits);
                match code.meaning {
                    Meaning::Literal => {
                        bits.at += usize::from(code.bits);
                        (word, left) = (word >> taken, left - taken);
                        if left < 48 {
                            break;
                        }
                    }
                    Meaning::Match => {
                        let distance = distances[index((word >> taken) & distance_mask)];
                        if distance.meaning == Meaning::Nothing {
                            return Err(Malformed);
                        }
                        bits.at += usize::from(code.bits) + usize::from(distance.bits);
                        break;
                    }
                    Meaning::End => {
                        bits.at += usize::from(code.bits);
                        return bits.check();
                    }
                    Meaning::Nothing => return Err(Malformed),
                }
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

struct Bits<'a> {
    stream: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next 57 bits, and perhaps some more.
    fn word(&self) -> Result<u64, Malformed> {
        let byte = self.at / 8;
        let word = self.stream.get(byte..byte + WORD).and_then(|word| word.try_into().ok()).ok_or(Malformed)?;
        Ok(u64::from_le_bytes(word) >> (self.at % 8))
    }

    /// Up to 16 bits as a number.
    fn take(&mut self, count: u32) -> Result<usize, Malformed> {
        let taken = index(self.word()? & ((1 << count) - 1));
        self.at += count as usize;
        Ok(taken)
    }

    fn pass_stored(&mut self) -> Result<(), Malformed> {
        self.at = self.at.next_multiple_of(8);
        let length = self.take(16)?;
        self.at += 16 + 8 * length;
        self.check()
    }

    /// Whether what was passed was there.
    fn check(&self) -> Result<(), Malformed> {
        if self.at <= (self.stream.len() - WORD) * 8 { Ok(()) } else { Err(Malformed) }
    }
}

/// A symbol of the alphabet of literals and lengths: what it means, and how many bits follow its code.
fn literal(symbol: usize) -> (Meaning, u8) {
    const EXTRA: [u8; 31] =
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0, 0, 0];
    match symbol {
        0..=255 => (Meaning::Literal, 0),
        256 => (Meaning::End, 0),
        _ => (Meaning::Match, EXTRA[symbol - 257]),
    }
}

/// The same of the alphabet of distances.
fn distance(symbol: usize) -> (Meaning, u8) {
    let extra = (symbol / 2).saturating_sub(1);
    (Meaning::Match, u8::try_from(extra).expect("there are 32 symbols"))
}

/// Says of every code that bits can begin with what it is (RFC 1951, 3.2.2); the table is as large as the longest code needs.
fn fill(table: &mut Vec<Code>, lengths: &[u8], symbol: impl Fn(usize) -> (Meaning, u8)) -> Result<(), Malformed> {
    let longest = lengths.iter().copied().max().unwrap_or_default();
    table.clear();
    table.resize(1 << longest, Code::default());
    let mut code = 0_usize;
    for length in 1..=longest {
        code <<= 1;
        for (number, _) in lengths.iter().enumerate().filter(|(_, known)| **known == length) {
            if code >> length != 0 {
                return Err(Malformed);
            }
            let (meaning, extra) = symbol(number);
            // Codes come with their first bit first, numbers with their last.
            let first = code.reverse_bits() >> (usize::BITS - u32::from(length));
            for entry in table.iter_mut().skip(first).step_by(1 << length) {
                *entry = Code { bits: length + extra, meaning };
            }
            code += 1;
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
        let (symbol, length) = self.table[index(bits.word()? & 127)];
        if length == 0 {
            return Err(Malformed);
        }
        bits.at += usize::from(length);
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
        let mut last = |bytes: &[u8]| scanner.last_block(&[bytes, &[0; WORD]].concat());
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
            if let Ok(block) = Scanner::default().last_block(&[&bytes, &[0; WORD][..]].concat()) {
                prop_assert!(block.header < block.end && block.end <= end);
            }
        }
    }
}
