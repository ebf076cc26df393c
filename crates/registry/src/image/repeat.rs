//! Deflating (RFC 1951) what came shortly before and comes once more, without a look at every byte between.
//!
//! zlib takes what came before as a dictionary and notes where each of its bytes is: 32 KiB for a piece that is often shorter. Here a
//! few bytes are looked for in it, what is found is followed as far as it goes both ways, and what is behind it looked for again. What
//! is not made of few long repetitions is left to zlib.

use memchr::memmem;

use super::deflate::WINDOW;
use super::inflate::{DISTANCES, LENGTHS};

/// Bytes that are looked for. What repeats itself in shorter parts is not found.
const SAMPLE: usize = 16;
/// Searches for one piece: more would take longer than zlib.
const MOST_SEARCHES: usize = 48;
/// So far apart are places that are looked for in what is not found.
const WIDEST: usize = 1024;
const LONGEST_MATCH: usize = 258;

/// Appends the piece in one block that ends on a byte's boundary, by what is at the end of `window`. `false`: it would take too many
/// searches, and nothing is appended.
pub(super) fn deflate(window: &[u8], plain: &[u8], last: bool, bytes: &mut Vec<u8>) -> bool {
    let start = bytes.len();
    let mut writer = Writer { bytes, bits: 0, count: 0 };
    writer.put(u32::from(last), 1);
    writer.put(1, 2);
    // What was not found yet begins at `at`; the farther that reaches, the wider apart are the places that are looked for.
    let (mut at, mut probe, mut searches) = (0, 0, 0);
    while let Some(sample) = plain.get(probe..probe + SAMPLE) {
        searches += 1;
        if searches > MOST_SEARCHES {
            writer.bytes.truncate(start);
            return false;
        }
        let reached = (window.len() + probe).saturating_sub(WINDOW).min(window.len());
        let Some(found) = memmem::find(&window[reached..], sample) else {
            probe += SAMPLE.max(probe - at).min(WIDEST);
            continue;
        };
        let from = reached + found;
        let before = window[..from].iter().rev().zip(plain[at..probe].iter().rev());
        let before = before.take_while(|(one, other)| one == other).count();
        let mut length = common(&window[from..], &plain[probe..]);
        if from + length == window.len() {
            // Behind the window comes the piece itself.
            length += common(plain, &plain[probe + length..]);
        }
        plain[at..probe - before].iter().for_each(|byte| writer.literal(*byte));
        writer.repeat(window.len() + probe - from, before + length);
        at = probe + length;
        probe = at;
    }
    plain[at..].iter().for_each(|byte| writer.literal(*byte));
    writer.put(0, 7);
    if !last {
        writer.put(0, 3);
        writer.align();
        writer.bytes.extend(b"\0\0\xff\xff");
    }
    writer.align();
    true
}

/// How many bytes at the beginning of both are equal.
fn common(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.chunks_exact(SAMPLE).zip(other.chunks_exact(SAMPLE));
    let equal = SAMPLE * pairs.take_while(|(one, other)| one == other).count();
    equal + one[equal..].iter().zip(&other[equal..]).take_while(|(one, other)| one == other).count()
}

struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    bits: u64,
    count: u32,
}

impl Writer<'_> {
    /// The lowest bit first.
    fn put(&mut self, value: u32, count: u32) {
        self.bits |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            let [byte, ..] = self.bits.to_le_bytes();
            self.bytes.push(byte);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    /// Up to the next byte.
    fn align(&mut self) {
        self.put(0, (8 - self.count) % 8);
    }

    /// A code, its highest bit first.
    fn code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (u32::BITS - count), count);
    }

    /// The fixed codes (RFC 1951, 3.2.6).
    fn literal(&mut self, byte: u8) {
        match u32::from(byte) {
            byte @ 0..144 => self.code(0x30 + byte, 8),
            byte => self.code(0x190 + byte - 144, 9),
        }
    }

    /// Any number of bytes, at least three, from so far before.
    fn repeat(&mut self, distance: usize, mut length: usize) {
        let (symbol, behind, bits) = symbol(&DISTANCES, distance);
        while length > 0 {
            // What is left must be long enough for a match, too.
            let now = if length > LONGEST_MATCH { LONGEST_MATCH.min(length - 3) } else { length };
            let (length_symbol, more, more_bits) = symbol_of_length(now);
            match length_symbol {
                23.. => self.code(0xc0 + length_symbol - 23, 8),
                _ => self.code(1 + length_symbol, 7),
            }
            self.put(more, more_bits);
            self.code(symbol, 5);
            self.put(behind, bits);
            length -= now;
        }
    }
}

/// The last symbol that begins at the value or before, what is added to its own, and in how many bits.
fn symbol(all: &[(u32, u32)], value: usize) -> (u32, u32, u32) {
    let value = u32::try_from(value).expect("no farther than the window");
    let index = all.partition_point(|(least, _)| *least <= value) - 1;
    let (least, bits) = all[index];
    (u32::try_from(index).expect("a few symbols"), value - least, bits)
}

fn symbol_of_length(length: usize) -> (u32, u32, u32) {
    symbol(&LENGTHS, length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::sample;

    /// What the block brings, by zlib, of an unended or ended stream behind the window.
    fn inflate(window: &[u8], block: &[u8], last: bool) -> Vec<u8> {
        let mut zlib = flate2::Decompress::new(false);
        zlib.set_dictionary(window).unwrap();
        let mut plain = Vec::with_capacity(200_000);
        let status = zlib.decompress_vec(block, &mut plain, flate2::FlushDecompress::Sync).unwrap();
        assert_eq!(status == flate2::Status::StreamEnd, last);
        assert_eq!(zlib.total_in(), block.len() as u64);
        plain
    }

    #[test]
    fn what_came_before_takes_a_few_bytes() {
        let window = sample::random(WINDOW, 1);
        for (from, length) in [(0, WINDOW), (100, 10_000), (20_000, 12_768), (5, 300), (0, 16)] {
            let plain = &window[from..from + length];
            let mut bytes = b"before".to_vec();
            assert!(deflate(&window, plain, false, &mut bytes));
            assert!(bytes.len() < 30 + length / 258 * 4, "{} bytes for {length}", bytes.len());
            assert!(inflate(&window, &bytes[6..], false) == plain);
        }
    }

    #[test]
    fn what_goes_on_in_the_piece_itself_is_followed() {
        let window = sample::random(1000, 1);
        let plain = window.repeat(20);
        let mut bytes = Vec::new();
        assert!(deflate(&window, &plain, true, &mut bytes));
        assert!(inflate(&window, &bytes, true) == plain);
    }

    #[test]
    fn what_stands_between_repetitions_is_taken_as_it_is() {
        let window = sample::random(WINDOW, 1);
        let plain =
            [&sample::random(3000, 2), &window[10_000..15_000], &sample::random(1, 3), &window[20_000..22_000], b"end"]
                .concat();
        let mut bytes = Vec::new();
        assert!(deflate(&window, &plain, false, &mut bytes));
        assert!(bytes.len() < 3000 * 9 / 8 + 200, "{}", bytes.len());
        assert!(inflate(&window, &bytes, false) == plain);
    }

    #[test]
    fn what_needs_many_searches_is_left_and_leaves_nothing() {
        let mut bytes = b"before".to_vec();
        assert!(!deflate(&sample::random(WINDOW, 1), &sample::random(60_000, 2), false, &mut bytes));
        assert_eq!(bytes, b"before");
    }

    proptest! {
        #[test]
        fn whatever_is_put_together_of_the_window_comes_out(
            length in 0..=WINDOW, letters in prop::sample::select(vec![2_u8, 16, 255]), last in any::<bool>(),
            parts in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..9000, 0_usize..6), 0..7),
        ) {
            let window: Vec<u8> = sample::random(length, 3).iter().map(|byte| byte % letters).collect();
            let mut plain = Vec::new();
            for (from, length, other) in parts {
                if !window.is_empty() {
                    let from = from.index(window.len());
                    plain.extend_from_slice(&window[from..window.len().min(from + length)]);
                }
                plain.extend(sample::random(other, length as u64));
            }
            let mut bytes = Vec::new();
            if deflate(&window, &plain, last, &mut bytes) {
                prop_assert!(inflate(&window, &bytes, last) == plain);
            } else {
                prop_assert!(bytes.is_empty() && plain.len() > MOST_SEARCHES * SAMPLE);
            }
        }
    }
}
