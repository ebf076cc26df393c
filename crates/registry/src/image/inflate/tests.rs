//! Streams of zlib, made by hand, and damaged, each beside what zlib makes of it.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use proptest::prelude::*;

use super::*;
use crate::image::sample;

fn deflate(plain: &[u8], level: u32) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(plain.len() + plain.len() / 8 + 100);
    let status =
        Compress::new(Compression::new(level), false).compress_vec(plain, &mut compressed, FlushCompress::Finish);
    assert_eq!(status.unwrap(), Status::StreamEnd);
    compressed
}

/// What comes out of a stream that comes in pieces of these sizes, one after the other and again, and how long it is.
/// `Err(None)`: it does not end.
fn inflate(bytes: &[u8], pieces: &[usize]) -> std::result::Result<(Vec<u8>, usize), Option<Invalid>> {
    let mut inflater = Inflater::new();
    let (mut plain, mut at) = (Vec::new(), 0);
    for piece in pieces.iter().cycle() {
        let mut piece = &bytes[at..bytes.len().min(at + piece)];
        loop {
            let (used, stop) = inflater.inflate(piece)?;
            at += used;
            piece = &piece[used..];
            plain.extend_from_slice(inflater.fresh());
            inflater.take(usize::MAX);
            match stop {
                Stop::Hungry => break,
                Stop::Full => {}
                Stop::Ended => {
                    let behind = std::iter::from_fn(|| inflater.next_byte()).count();
                    return Ok((plain, at - behind));
                }
            }
        }
        assert!(piece.is_empty(), "hungry with input left");
        if at == bytes.len() {
            return Err(None);
        }
    }
    unreachable!("pieces come again")
}

/// The same by zlib.
fn inflate_by_zlib(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut zlib = Decompress::new(false);
    let mut plain = Vec::new();
    loop {
        let at = usize::try_from(zlib.total_in()).unwrap();
        plain.reserve(64 * 1024);
        let known = plain.len();
        match zlib.decompress_vec(&bytes[at..], &mut plain, FlushDecompress::None) {
            Ok(Status::StreamEnd) => return Some((plain, usize::try_from(zlib.total_in()).unwrap())),
            Ok(_) if plain.len() == known && zlib.total_in() == at as u64 => return None,
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// Numbers of so many bits, the first lowest, as a stream.
fn stream(parts: &[(u32, u32)]) -> Vec<u8> {
    let bits = parts.iter().flat_map(|(value, count)| (0..*count).map(move |bit| value >> bit & 1 == 1));
    let bits: Vec<bool> = bits.collect();
    bits.chunks(8).map(|byte| (0..).zip(byte).map(|(bit, set)| u8::from(*set) << bit).sum()).collect()
}

/// A code, whose highest bit comes first.
fn code(value: u32, bits: u32) -> (u32, u32) {
    (value.reverse_bits() >> (32 - bits), bits)
}

#[test]
fn every_short_distance_and_length_is_copied_as_far_as_it_goes() {
    for distance in (1..=40).chain([255, 256, 257, 32_000]) {
        let mut plain = sample::random(distance, distance as u64);
        for length in (3..=40).chain(250..=260).chain([515, 700]) {
            repeat(&mut plain, distance, length);
            // What ends the match, so that the next one is another.
            plain.push(plain[plain.len() - distance] ^ 0x55);
        }
        let compressed = deflate(&plain, 9);
        assert!(inflate(&compressed, &[1 << 20]) == Ok((plain.clone(), compressed.len())), "{distance}");
        assert!(inflate(&compressed, &[33, 1]) == Ok((plain, compressed.len())), "{distance}");
    }
}

/// So many bytes in blocks that are stored, of these lengths, none the last.
fn stored(plain: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut plain = plain;
    for &length in lengths {
        let (block, rest) = plain.split_at(length);
        plain = rest;
        let length = u16::try_from(length).unwrap();
        bytes.push(0);
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(block);
    }
    bytes
}

/// Codes in their order, by the length of each, as they stand in a stream.
fn canonical(lengths: &[u32]) -> Vec<(u32, u32)> {
    let mut codes = vec![(0, 0); lengths.len()];
    let mut next = 0;
    for length in 1..=15 {
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, own)| **own == length) {
            codes[symbol] = code(next, length);
            next += 1;
        }
        next <<= 1;
    }
    codes
}

/// The codes of a block, by the lengths that some symbols have, and what says so at its beginning.
struct Own {
    literals: Vec<(u32, u32)>,
    distances: Vec<(u32, u32)>,
    header: Vec<(u32, u32)>,
}

impl Own {
    fn last(literals: &[(usize, u32)], distances: &[(usize, u32)]) -> Self {
        let lengths = |some: &[(usize, u32)], all: usize| {
            let mut lengths = vec![0; all];
            for (symbol, length) in some {
                lengths[*symbol] = *length;
            }
            lengths
        };
        let (literals, distances) = (lengths(literals, 286), lengths(distances, 30));
        // All lengths up to 14 by four bits, 15 by five; 16 to 18 are not used, the last of them has a code.
        let mut of_lengths = [4; 19];
        (of_lengths[15], of_lengths[16], of_lengths[17], of_lengths[18]) = (5, 0, 0, 5);
        let code_of_length = canonical(&of_lengths);
        let mut header = vec![(1, 1), (2, 2), (29, 5), (29, 5), (15, 4)];
        header.extend(ORDER.map(|symbol| (of_lengths[symbol], 3)));
        header.extend(literals.iter().chain(&distances).map(|length| code_of_length[*length as usize]));
        Own { literals: canonical(&literals), distances: canonical(&distances), header }
    }

    /// A length and a distance, each by its symbol and what is behind its code.
    fn a_match(&self, (length, more): (usize, u32), (distance, further): (usize, u32)) -> [(u32, u32); 4] {
        let bits = (codes::LENGTH[length - 257].1, codes::DISTANCE[distance].1);
        [self.literals[length], (more, bits.0), self.distances[distance], (further, bits.1)]
    }
}

/// The stream is what was expected, to zlib as well, in whatever pieces it comes.
fn assert_inflates(bytes: &[u8], plain: Vec<u8>) {
    assert!(inflate_by_zlib(bytes).is_some_and(|(by_zlib, _)| by_zlib == plain));
    let whole = Ok((plain, bytes.len()));
    for pieces in [&[1 << 20][..], &[1], &[33, 1, 500], &[65_536, 7]] {
        assert!(inflate(bytes, pieces) == whole, "{pieces:?}");
    }
}

fn repeat(plain: &mut Vec<u8>, distance: usize, length: usize) {
    for at in plain.len()..plain.len() + length {
        plain.push(plain[at - distance]);
    }
}

#[test]
fn codes_of_every_length_are_read_and_as_many_bits_as_there_can_be_in_a_row() {
    let lengths: Vec<(usize, u32)> = [97, 98, 257, 99, 285, 100, 258, 101, 102, 265, 103, 104, 105, 256, 281, 284]
        .into_iter()
        .zip((1..=15).chain([15]))
        .collect();
    let distances: Vec<(usize, u32)> = (0..14).chain([28, 29]).zip((1..=15).chain([15])).collect();
    let own = Own::last(&lengths, &distances);
    let mut plain = sample::random(32_768, 1);
    let mut bytes = stored(&plain, &[32_768]);
    let mut parts = own.header.clone();
    let random = sample::random(100_000, 2);
    let mut tokens: Vec<[u8; 5]> = random.chunks_exact(5).map(|token| token.try_into().unwrap()).collect();
    // Two literals of 11 bits, the longest length and the farthest distance, with all bits behind them, again and again.
    let (literal, length, distance) = (10, 15, 15);
    tokens.extend([[literal, 0, 0, 0, 0], [literal, 0, 0, 0, 0], [length, 31, distance, 0xff, 0xff]].repeat(500));
    for [symbol, more, distance, low, high] in tokens {
        let symbol = lengths[usize::from(symbol) % lengths.len()].0;
        match symbol {
            256 => {}
            0..=255 => {
                parts.push(own.literals[symbol]);
                plain.push(u8::try_from(symbol).unwrap());
            }
            _ => {
                let distance = distances[usize::from(distance) % distances.len()].0;
                let ((length, bits), (least, further_bits)) = (codes::LENGTH[symbol - 257], codes::DISTANCE[distance]);
                let more = u32::from(more) & ((1 << bits) - 1);
                let further = u32::from(u16::from_le_bytes([low, high])) & ((1 << further_bits) - 1);
                parts.extend(own.a_match((symbol, more), (distance, further)));
                repeat(&mut plain, (least + further) as usize, (length + more) as usize);
            }
        }
    }
    parts.push(own.literals[256]);
    bytes.extend(stream(&parts));
    assert_inflates(&bytes, plain);
}

#[test]
fn matches_reach_back_as_far_as_they_can_after_the_window_moved() {
    let mut plain = sample::random(32_768, 5);
    let mut bytes = stored(&plain, &[32_768]);
    let mut parts = vec![(1, 1), (1, 2)];
    for _ in 0..1500 {
        // 258 bytes from 24577 + 8191 before.
        parts.extend([code(0b1100_0101, 8), code(29, 5), (8191, 13)]);
        repeat(&mut plain, 32_768, 258);
    }
    parts.push(code(0, 7));
    bytes.extend(stream(&parts));
    assert!(plain.len() > 2 * FULL, "it moved twice");
    assert_inflates(&bytes, plain);
}

#[test]
fn stored_blocks_may_end_where_the_buffer_is_full() {
    for last in [FULL - 120_004, FULL - 120_003, FULL - 120_002, 65_535] {
        let plain = sample::random(120_000 + last + 5000 + 65_535, 9);
        // Three literals in a block of the fixed codes, then stored ones, and one that is empty.
        let mut bytes =
            stream(&[&[(0, 1), (1, 2)][..], &[code(0x30 + 33, 8); 3], &[code(0, 7)], &[(0, 3), (0, 3)]].concat());
        assert_eq!(bytes.len(), 5, "37 bits, and what a stored block begins with");
        let blocks = stored(&plain, &[60_000, 60_000, last, 5000, 65_535]);
        bytes.extend(&blocks[1..]);
        bytes.extend(b"\x01\0\0\xff\xff");
        assert_inflates(&bytes, [b"!!!", &plain[..]].concat());
    }
}

/// A block with them can be ten bits long.
#[test]
fn tables_of_the_fixed_codes_are_not_built_for_every_block() {
    let mut tables = Tables::new();
    tables.fix().unwrap();
    let fixed = tables.lengths;
    tables.lengths[0] ^= 1;
    tables.fix().unwrap();
    assert_eq!(tables.lengths[0] ^ 1, fixed[0], "it was left as it is");
    tables.build(&[1, 1], &[1, 1]).unwrap();
    tables.fix().unwrap();
    assert_eq!(tables.lengths[..1 << codes::LENGTH_BITS], fixed[..1 << codes::LENGTH_BITS]);
}

#[test]
fn what_is_no_stream_is_told_by_its_fault() {
    let last_fixed = [(1, 1), (1, 2)];
    let last_own = [(1, 1), (2, 2)];
    // 257 literals, one distance, and the lengths of 18 codes for lengths, of which those for 0, 18 and 1 are last.
    let own = |literals: u32, of_lengths: &[u32]| {
        let mut parts = last_own.to_vec();
        parts.extend([(literals - 257, 5), (0, 5), (u32::try_from(of_lengths.len()).unwrap() - 4, 4)]);
        parts.extend(of_lengths.iter().map(|length| (*length, 3)));
        parts
    };
    let zero_or_many = own(257, &[0, 0, 1, 1]);
    let lone = Own::last(&[(97, 1), (256, 2), (257, 2)], &[(3, 1)]);
    let none = Own::last(&[(97, 1), (256, 2), (257, 2)], &[]);
    let only_an_end = Own::last(&[(256, 1)], &[]);
    let begin = |codes: &Own| [&codes.header[..], &[codes.literals[97]].repeat(9)].concat();
    let faults: [(&str, Vec<(u32, u32)>); 14] = [
        ("without a meaning", own(257, &[1, 0, 0, 0])),
        ("means nothing", [&begin(&lone)[..], &[lone.literals[257], (1, 1)]].concat()),
        ("means nothing", [&begin(&none)[..], &[none.literals[257]]].concat()),
        ("means nothing", [&only_an_end.header[..], &[(1, 1)]].concat()),
        ("a kind", vec![(1, 1), (3, 2)]),
        ("says twice", vec![(1, 1), (0, 2), (0, 5), (1, 16), (1, 16)]),
        ("more codes than there are", own(287, &[1, 1, 0, 0])),
        ("from before", [&last_fixed[..], &[code(1, 7), code(0, 5)]].concat()),
        ("means nothing", [&last_fixed[..], &[code(0b1100_0110, 8)]].concat()),
        ("means nothing", [&last_fixed[..], &[code(0x30, 8), code(1, 7), code(30, 5)]].concat()),
        ("none", own(257, &[1, 1, 0, 0]).into_iter().chain([(0, 1)]).collect()),
        ("than there are codes", zero_or_many.iter().copied().chain([(1, 1), (127, 7)].repeat(2)).collect()),
        ("than there can be", own(257, &[1, 1, 1, 0])),
        ("cannot end", zero_or_many.iter().copied().chain([(1, 1), (127, 7), (1, 1), (109, 7)]).collect()),
    ];
    for (fault, parts) in faults {
        let bytes = [stream(&parts), vec![0; 100]].concat();
        for pieces in [&[1 << 20][..], &[1], &[3, 40]] {
            let told = inflate(&bytes, pieces).unwrap_err().map(|Invalid(what)| what);
            assert!(told.is_some_and(|told| told.contains(fault)), "{fault}: {told:?}");
        }
        assert_eq!(inflate_by_zlib(&bytes), None, "{fault}");
    }
    // The same codes, used as they may be.
    let end = |codes: &Own| codes.literals[256];
    assert_inflates(
        &stream(&[&begin(&lone)[..], &lone.a_match((257, 0), (3, 0)), &[end(&lone)]].concat()),
        vec![b'a'; 12],
    );
    assert_inflates(&stream(&[&begin(&none)[..], &[end(&none)]].concat()), vec![b'a'; 9]);
    assert_inflates(&stream(&[&only_an_end.header[..], &[end(&only_an_end)]].concat()), Vec::new());
}

fn plain() -> impl Strategy<Value = Vec<u8>> {
    let part = (0_usize..60_000, any::<u64>(), prop_oneof![Just(1_u8), 1_u8..=8, 1_u8..=255], 1_usize..40);
    prop::collection::vec(part, 1..5).prop_map(|parts| {
        let mut plain = Vec::new();
        for (length, seed, letters, times) in parts {
            let one: Vec<u8> = sample::random(length / times, seed).iter().map(|byte| byte % letters).collect();
            (0..times).for_each(|_| plain.extend_from_slice(&one));
        }
        plain
    })
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1_usize..100, 1_usize..100_000], 1..4)
}

proptest! {
    #[test]
    fn what_was_deflated_comes_out_and_what_is_behind_it_stays(
        plain in plain(), level in 0_u32..=9, pieces in pieces(), behind in 0_usize..20,
    ) {
        let mut bytes = deflate(&plain, level);
        let length = bytes.len();
        bytes.extend(vec![0xff; behind]);
        prop_assert!(inflate(&bytes, &pieces) == Ok((plain, length)));
    }

    #[test]
    fn what_is_damaged_is_what_it_is_to_zlib(
        plain in plain(), level in 0_u32..=9, pieces in pieces(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 0..4), header in 0_usize..80, bits in prop_oneof![Just([0; 4]), any::<[u8; 4]>()],
    ) {
        let mut bytes = deflate(&plain, level);
        for (index, bit) in flips {
            *index.get_mut(&mut bytes) ^= 1 << bit;
        }
        // Where it hurts most: the lengths of the first block's codes.
        for (byte, bits) in bytes.iter_mut().skip(header).zip(bits) {
            *byte ^= bits;
        }
        prop_assert!(inflate(&bytes, &pieces).ok() == inflate_by_zlib(&bytes));
    }

    #[test]
    fn any_bytes_are_what_they_are_to_zlib(bytes in prop::collection::vec(any::<u8>(), 0..400), pieces in pieces(), kind in 0_u8..3) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = *first & 0xf8 | kind << 1 | 1;
        }
        prop_assert!(inflate(&bytes, &pieces).ok() == inflate_by_zlib(&bytes));
    }
}
