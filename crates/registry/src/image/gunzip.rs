//! Members of gzip (RFC 1952) without a look at their checksums: for who compares the digest of all that comes out, which is
//! stronger and is computed anyway.

use std::io::{self, BufRead, Read};

use super::inflate::{Inflater, Invalid, Stop};

/// Flags of a member's header (RFC 1952, 2.3.1).
const HEADER_CHECKSUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// Bytes of a name or a comment in a header.
const LONGEST_TEXT: usize = u16::MAX as usize;

/// The plain bytes of one member after the other, to the end of the source.
pub(super) struct Gunzip<R> {
    source: R,
    inflater: Inflater,
    at: At,
    /// Bytes of this member so far.
    length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    First,
    Inside,
    /// Behind a member's bytes.
    Trailer,
    Behind,
}

impl<R: BufRead> Gunzip<R> {
    pub(super) fn new(source: R) -> Self {
        Gunzip { source, inflater: Inflater::new(), at: At::First, length: 0 }
    }

    fn header(&mut self) -> io::Result<()> {
        let fixed: [u8; 10] = self.array()?;
        let [0x1f, 0x8b, 8, flags, ..] = fixed else { return Err(invalid("no header of gzip")) };
        if flags & RESERVED != 0 {
            return Err(invalid("a header of gzip with unknown flags"));
        }
        if flags & EXTRA != 0 {
            let length = u16::from_le_bytes(self.array()?);
            self.pass(length.into())?;
        }
        for flag in [NAME, COMMENT] {
            if flags & flag != 0 {
                self.pass_text()?;
            }
        }
        if flags & HEADER_CHECKSUM != 0 { self.pass(2) } else { Ok(()) }
    }

    /// The checksum is passed over; the length costs nothing to compare.
    fn trailer(&mut self) -> io::Result<()> {
        let [.., a, b, c, d]: [u8; 8] = self.array()?;
        if u64::from(u32::from_le_bytes([a, b, c, d])) == self.length & u64::from(u32::MAX) {
            Ok(())
        } else {
            Err(invalid("a member of gzip that is not as long as it says"))
        }
    }

    /// A name or a comment, up to the NUL behind it.
    fn pass_text(&mut self) -> io::Result<()> {
        for _ in 0..=LONGEST_TEXT {
            if self.array()? == [0] {
                return Ok(());
            }
        }
        Err(invalid("a header of gzip with a name that does not end"))
    }

    fn pass(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 && self.inflater.next_byte().is_some() {
            left -= 1;
        }
        let passed = io::copy(&mut (&mut self.source).take(left), &mut io::sink())?;
        if passed == left { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The next bytes between what is compressed; the first of them may have been read with it.
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        let mut known = 0;
        while known < N
            && let Some(byte) = self.inflater.next_byte()
        {
            bytes[known] = byte;
            known += 1;
        }
        self.source.read_exact(&mut bytes[known..])?;
        Ok(bytes)
    }

    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(!self.inflater.has_next_byte() && self.source.fill_buf()?.is_empty())
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the gzip stream is cut short"),
            _ => error,
        })
    }
}

impl<R: BufRead> Gunzip<R> {
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let fresh = self.inflater.fresh();
            if !fresh.is_empty() || buffer.is_empty() {
                let count = fresh.len().min(buffer.len());
                buffer[..count].copy_from_slice(&fresh[..count]);
                self.inflater.take(count);
                self.length += count as u64;
                return Ok(count);
            }
            match self.at {
                At::Inside => self.inflate()?,
                At::Trailer => {
                    self.trailer()?;
                    self.at = At::Behind;
                }
                at @ (At::First | At::Behind) => {
                    if at == At::Behind && self.is_at_end()? {
                        return Ok(0);
                    }
                    self.header()?;
                    self.inflater.restart();
                    (self.at, self.length) = (At::Inside, 0);
                }
            }
        }
    }

    fn inflate(&mut self) -> io::Result<()> {
        let compressed = self.source.fill_buf()?;
        let (used, stop) = self.inflater.inflate(compressed).map_err(damaged)?;
        let is_cut = stop == Stop::Hungry && compressed.is_empty();
        self.source.consume(used);
        if stop == Stop::Ended {
            self.at = At::Trailer;
        }
        // What came before the cut is taken first; then nothing comes.
        if is_cut && self.inflater.fresh().is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

fn damaged(Invalid(what): Invalid) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a gzip stream that cannot be inflated: it has {what}"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write as _};

    use flate2::bufread::MultiGzDecoder;
    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;
    use crate::image::sample;

    fn member(plain: &[u8], named: bool) -> Vec<u8> {
        let mut builder = GzBuilder::new();
        if named {
            builder = builder.filename("a name").comment("a word").extra(vec![7; 300]);
        }
        let mut encoder = builder.write(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn plain(mut source: impl Read) -> Result<Vec<u8>, io::ErrorKind> {
        let mut plain = Vec::new();
        source.read_to_end(&mut plain).map_err(|error| error.kind())?;
        Ok(plain)
    }

    #[test]
    fn what_is_cut_short_or_followed_by_something_else_is_an_error() {
        let bytes = member(&sample::random(70_000, 1), true);
        for length in (0..400).chain(bytes.len() - 400..bytes.len()) {
            assert_eq!(plain(Gunzip::new(&bytes[..length])), Err(io::ErrorKind::UnexpectedEof), "{length}");
        }
        for behind in [&b"something else"[..], &[0; 12], &[0x1f, 0x8b, 8, 0xff, 0, 0, 0, 0, 0, 0, 0]] {
            let read = plain(Gunzip::new(&[&bytes, behind].concat()[..]));
            assert_eq!(read, Err(io::ErrorKind::InvalidData), "{behind:?}");
        }
        let mut longer = bytes.clone();
        *longer.last_mut().unwrap() ^= 1;
        assert_eq!(plain(Gunzip::new(&longer[..])), Err(io::ErrorKind::InvalidData));
    }

    #[test]
    fn every_field_of_a_header_is_passed_over_and_an_empty_member_is_nothing() {
        let mut bytes = vec![0x1f, 0x8b, 8, HEADER_CHECKSUM | EXTRA | NAME | COMMENT, 1, 2, 3, 4, 0, 3];
        bytes.extend(b"\x03\0\0\0\0a name\0a word\0\xaa\xbb");
        // "one" stored, then a checksum that is none, and the length.
        bytes.extend(b"\x01\x03\0\xfc\xffone\0\0\0\0\x03\0\0\0");
        let all = [&bytes[..], &member(b"", false), &member(b" two", true), &member(b"", true)].concat();
        assert_eq!(plain(Gunzip::new(&all[..])), Ok(b"one two".to_vec()));
        let endless = [&[0x1f, 0x8b, 8, NAME, 0, 0, 0, 0, 0, 0][..], &b"a".repeat(70_000)].concat();
        assert_eq!(plain(Gunzip::new(&endless[..])), Err(io::ErrorKind::InvalidData));
    }

    proptest! {
        #[test]
        fn members_give_what_they_gave_elsewhere(
            members in prop::collection::vec((0_usize..100_000, any::<u64>(), 1_u8..=255, any::<bool>()), 1..5),
            capacity in 1_usize..10_000, flipped in any::<prop::sample::Index>(), bit in 0_u8..16,
        ) {
            let mut bytes = Vec::new();
            for (length, seed, letters, named) in members {
                let random: Vec<u8> = sample::random(length, seed).iter().map(|byte| byte % letters).collect();
                bytes.extend(member(&random, named));
            }
            let (ours, other) = (Gunzip::new(BufReader::with_capacity(capacity, &bytes[..])), MultiGzDecoder::new(&bytes[..]));
            prop_assert!(plain(ours) == plain(other));
            // What is damaged is what it was elsewhere, an error, or found out by who hashes it.
            let index = flipped.index(bytes.len());
            bytes[index] ^= 1 << (bit % 8);
            let (ours, other) = (plain(Gunzip::new(&bytes[..])), plain(MultiGzDecoder::new(&bytes[..])));
            prop_assert!(other.is_err() || ours == other);
        }
    }
}
