//! Bytes that a compressor can gain nothing of, found without compressing them.
//!
//! Where all 256 bytes occur about equally often no code for single bytes is shorter than eight bits, and where that is so in
//! a few kilobytes they hardly repeat each other either: a piece that occurs four times in them makes their counts uneven. What
//! is compressed or encrypted already looks like that, and programs and texts do not.

/// Bytes that are judged together. Fewer have too uneven counts by chance.
const PIECE: usize = 4096;
/// A dense run is at least so many pieces long: to go on compressing behind it costs something, too.
const FEWEST: usize = 2;

/// Neighbouring pieces of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) is_dense: bool,
}

/// The runs that the bytes are made of, in order, none of them empty. They depend on the bytes alone.
pub(super) fn runs(bytes: &[u8]) -> impl Iterator<Item = Run<'_>> {
    let dense: Vec<bool> = bytes.chunks(PIECE).map(is_dense).collect();
    let (mut rest, mut at) = (bytes, 0);
    std::iter::from_fn(move || {
        let length = |at: usize, is_dense: bool| dense[at..].iter().take_while(|dense| **dense == is_dense).count();
        let ahead = length(at, true);
        let (is_dense, mut count) = (ahead >= FEWEST, ahead);
        while !is_dense && at + count < dense.len() {
            // On to the next run that is long enough.
            count += length(at + count, false);
            let ahead = length(at + count, true);
            if ahead >= FEWEST {
                break;
            }
            count += ahead;
        }
        at += count;
        let (run, behind) = rest.split_at((count * PIECE).min(rest.len()));
        rest = behind;
        (!run.is_empty()).then_some(Run { bytes: run, is_dense })
    })
}

/// Whether a code for single bytes would save less than about half a hundredth. Texts and programs show by a few bytes that it
/// would save more.
fn is_dense(piece: &[u8]) -> bool {
    if piece.len() < PIECE {
        return false;
    }
    // In four tables, so that equal bytes behind each other need not wait for each other's counts.
    let mut counts = [[0_u32; 256]; 4];
    let (some, rest) = piece.split_at(PIECE / 8);
    count(some, &mut counts);
    is_even(&counts, some.len()) && {
        count(rest, &mut counts);
        is_even(&counts, piece.len())
    }
}

fn count(bytes: &[u8], counts: &mut [[u32; 256]; 4]) {
    for four in bytes.chunks_exact(4) {
        for (table, &byte) in counts.iter_mut().zip(four) {
            table[usize::from(byte)] += 1;
        }
    }
}

/// Judged by the chi-squared of the counts, which is 255 for bytes by chance, plus or minus 23, however many they are.
fn is_even(counts: &[[u32; 256]; 4], bytes: usize) -> bool {
    let squares: u64 = (0..256).map(|byte| counts.iter().map(|table| u64::from(table[byte])).sum::<u64>().pow(2)).sum();
    let length = bytes as u64;
    256 * squares / length - length < 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sample;

    fn random(length: usize) -> Vec<u8> {
        sample::random(length, 1)
    }

    fn kinds(bytes: &[u8]) -> Vec<(bool, usize)> {
        runs(bytes).map(|run| (run.is_dense, run.bytes.len())).collect()
    }

    #[test]
    fn what_is_compressed_is_dense_and_text_is_not() {
        let text: Vec<u8> =
            (0..30_000).flat_map(|number| format!("line {number} of some text\n").into_bytes()).collect();
        assert_eq!(kinds(&text), [(false, text.len())]);
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &random(100_000).iter().map(|byte| byte & 63).collect::<Vec<_>>())
            .unwrap();
        let compressed = encoder.finish().unwrap();
        let dense: usize = kinds(&compressed).iter().filter(|(is_dense, _)| *is_dense).map(|(_, length)| length).sum();
        assert!(dense + 2 * PIECE > compressed.len(), "{dense} of {}", compressed.len());
    }

    #[test]
    fn runs_follow_one_another_and_are_all_of_the_bytes() {
        let random = random(5 * PIECE + 100);
        assert_eq!(kinds(&random), [(true, 5 * PIECE), (false, 100)]);
        let mixed = [&random[..2 * PIECE], &[7; PIECE], &random[..PIECE], &[1; PIECE], &random[..3 * PIECE]].concat();
        assert_eq!(kinds(&mixed), [(true, 2 * PIECE), (false, 3 * PIECE), (true, 3 * PIECE)]);
        assert_eq!(runs(&mixed).map(|run| run.bytes).collect::<Vec<_>>().concat(), mixed);
        assert_eq!(kinds(&[]), []);
    }

    #[test]
    fn the_beginning_of_a_piece_may_say_what_it_is() {
        // Of the whole piece the counts are even enough.
        let mut piece = random(PIECE);
        piece[..PIECE / 8].iter_mut().for_each(|byte| *byte &= 127);
        assert_eq!(kinds(&piece.repeat(2)), [(false, 2 * PIECE)]);
        assert_eq!(kinds(&[&piece[PIECE / 8..], &piece[..PIECE / 8]].concat().repeat(2)), [(true, 2 * PIECE)]);
    }

    #[test]
    fn random_bytes_that_repeat_nearby_are_worth_compressing() {
        assert_eq!(kinds(&random(1024).repeat(4)), [(false, PIECE)]);
    }

    #[test]
    fn numbers_and_letters_for_bytes_are_worth_compressing() {
        let letters: Vec<u8> = random(PIECE)
            .iter()
            .map(|byte| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[usize::from(byte & 63)])
            .collect();
        assert_eq!(kinds(&letters), [(false, PIECE)]);
        let numbers: Vec<u8> = (0..1024_u32).flat_map(|number| (number * 977).to_le_bytes()).collect();
        assert_eq!(kinds(&numbers), [(false, PIECE)]);
    }
}
