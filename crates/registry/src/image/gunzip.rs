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
    /// What is wrong behind the bytes that came out.
    fault: Option<(io::ErrorKind, String)>,
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
        Gunzip { source, inflater: Inflater::new(), at: At::First, length: 0, fault: None }
    }

    fn header(&mut self) -> io::Result<()> {
        let mut fixed = [0; 10];
        self.source.read_exact(&mut fixed)?;
        let [0x1f, 0x8b, 8, flags, ..] = fixed else { return Err(invalid("no header of gzip")) };
        if flags & RESERVED != 0 {
            return Err(invalid("a header of gzip with unknown flags"));
        }
        if flags & EXTRA != 0 {
            let mut length = [0; 2];
            self.source.read_exact(&mut length)?;
            self.pass(u16::from_le_bytes(length).into())?;
        }
        for flag in [NAME, COMMENT] {
            if flags & flag != 0 {
                self.pass_text()?;
            }
        }
        if flags & HEADER_CHECKSUM != 0 { self.pass(2) } else { Ok(()) }
    }

    /// The checksum is passed over; the length costs nothing to compare. Less than the trailer's 8 bytes were read with what is
    /// compressed.
    fn trailer(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        let mut known = 0;
        while let Some(byte) = self.inflater.next_byte() {
            trailer[known] = byte;
            known += 1;
        }
        self.source.read_exact(&mut trailer[known..])?;
        let [.., a, b, c, d] = trailer;
        if u64::from(u32::from_le_bytes([a, b, c, d])) == self.length & u64::from(u32::MAX) {
            Ok(())
        } else {
            Err(invalid("a member of gzip that is not as long as it says"))
        }
    }

    /// A name or a comment, up to the NUL behind it.
    fn pass_text(&mut self) -> io::Result<()> {
        for _ in 0..=LONGEST_TEXT {
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            if byte == [0] {
                return Ok(());
            }
        }
        Err(invalid("a header of gzip with a name that does not end"))
    }

    fn pass(&mut self, count: u64) -> io::Result<()> {
        let passed = io::copy(&mut (&mut self.source).take(count), &mut io::sink())?;
        if passed == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    /// What came before a fault is given first; behind it there is nothing but the same error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| {
            let error = match error.kind() {
                io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the gzip stream is cut short"),
                io::ErrorKind::InvalidData => error,
                // The source's, which may go on.
                _ => return error,
            };
            self.fault = Some((error.kind(), error.to_string()));
            error
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
            if let Some((kind, what)) = &self.fault {
                return Err(io::Error::new(*kind, what.clone()));
            }
            match self.at {
                At::Inside => self.inflate()?,
                At::Trailer => {
                    self.trailer()?;
                    self.at = At::Behind;
                }
                at @ (At::First | At::Behind) => {
                    if at == At::Behind && self.source.fill_buf()?.is_empty() {
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
        let is_cut = compressed.is_empty();
        match self.inflater.inflate(compressed) {
            Ok((used, stop)) => {
                self.source.consume(used);
                match stop {
                    Stop::Ended => self.at = At::Trailer,
                    Stop::Hungry if is_cut && self.inflater.fresh().is_empty() => {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    Stop::Hungry | Stop::Full => {}
                }
            }
            Err(Invalid(what)) => {
                let what = format!("a gzip stream that cannot be inflated: it has {what}");
                self.fault = Some((io::ErrorKind::InvalidData, what));
            }
        }
        Ok(())
    }
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

    fn member(plain: &[u8], named: bool, level: u32) -> Vec<u8> {
        let mut builder = GzBuilder::new();
        if named {
            builder = builder.filename("a name").comment("a word").extra(vec![7; 300]);
        }
        let mut encoder = builder.write(Vec::new(), Compression::new(level));
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
        let bytes = member(&sample::random(70_000, 1), true, 1);
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
    fn what_came_before_a_fault_is_given_and_nothing_comes_behind_it() {
        let plain = sample::random(60_000, 1);
        // A stored block, then one of the kind that there is not.
        let bytes = [
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0][..],
            b"\0\x60\xea\x9f\x15",
            &plain,
            &[6],
            &member(b"behind", false, 6),
        ];
        let mut given = Vec::new();
        let bytes = bytes.concat();
        let mut gunzip = Gunzip::new(&bytes[..]);
        let first = gunzip.read_to_end(&mut given).unwrap_err().to_string();
        assert_eq!(first, "a gzip stream that cannot be inflated: it has a block of a kind that there is not");
        assert!(given == plain);
        for _ in 0..3 {
            assert_eq!(gunzip.read(&mut [0; 100]).unwrap_err().to_string(), first);
        }
    }

    #[test]
    fn every_field_of_a_header_is_passed_over_and_an_empty_member_is_nothing() {
        let mut bytes = vec![0x1f, 0x8b, 8, HEADER_CHECKSUM | EXTRA | NAME | COMMENT, 1, 2, 3, 4, 0, 3];
        bytes.extend(b"\x03\0\0\0\0a name\0a word\0\xaa\xbb");
        // "one" stored, then a checksum that is none, and the length.
        bytes.extend(b"\x01\x03\0\xfc\xffone\0\0\0\0\x03\0\0\0");
        let all = [&bytes[..], &member(b"", false, 6), &member(b" two", true, 6), &member(b"", true, 0)].concat();
        assert_eq!(plain(Gunzip::new(&all[..])), Ok(b"one two".to_vec()));
        let endless = [&[0x1f, 0x8b, 8, NAME, 0, 0, 0, 0, 0, 0][..], &b"a".repeat(70_000)].concat();
        assert_eq!(plain(Gunzip::new(&endless[..])), Err(io::ErrorKind::InvalidData));
    }

    proptest! {
        #[test]
        fn members_give_what_they_gave_elsewhere(
            members in prop::collection::vec(
                (0_usize..250_000, any::<u64>(), 1_u8..=255, any::<bool>(), prop::sample::select(vec![0, 1, 6])), 1..4,
            ),
            capacity in 1_usize..10_000, flipped in any::<prop::sample::Index>(), bit in 0_u8..16,
        ) {
            let mut bytes = Vec::new();
            for (length, seed, letters, named, level) in members {
                let random: Vec<u8> = sample::random(length, seed).iter().map(|byte| byte % letters).collect();
                bytes.extend(member(&random, named, level));
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
