//! Reading a tar archive entry by entry. The format is read by `tar-core`; this file feeds it, bounds it, and reads what
//! it leaves out: times before 1970 and below a second, and malformed numbers that it would pass over.

use std::io::{self, Read};

use tar_core::parse::{Limits, ParseError, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, PaxExtensions, SparseEntry};

use crate::attributes::Attributes;
use crate::{Result, SnapshotError};

/// Headers of one entry together (PAX records, long names, the map of a sparse file).
const MOST_HEADERS: usize = 4 << 20;
const BLOCK: u64 = 512;
/// Bytes behind the end of the archive: writers fill up their last record, the largest with some megabytes. What stops a
/// few compressed kilobytes from being inflated for days.
const MOST_BEHIND: u64 = 1 << 30;
/// Headers that are for all entries behind them, all together: git writes one of some bytes, and nobody reads them.
const MOST_GLOBAL: usize = 16 << 20;

/// An archive that is being read.
pub(crate) struct Archive<'a> {
    pieces: &'a mut dyn Pieces,
    parser: Parser,
    /// A piece, or what was left of one and the next behind it.
    buffer: Vec<u8>,
    /// How much of the buffer was taken.
    start: usize,
    /// A piece that was copied to the end of the buffer.
    spare: Vec<u8>,
    ended: bool,
    /// Content of the current entry that was not taken yet.
    left: u64,
    padding: u64,
    /// Bytes of headers for all entries so far.
    global: usize,
    /// The name of the last entry, for errors.
    after: String,
}

/// Where the bytes of an archive come from, piece by piece, so that nobody has to copy them.
pub(crate) trait Pieces {
    /// The next bytes, empty at the end. An older piece that nobody needs any more is taken back.
    fn next(&mut self, spare: Vec<u8>) -> io::Result<Vec<u8>>;
}

/// Bytes of one piece.
const PIECE: u64 = 256 * 1024;

/// A reader's bytes.
pub(crate) struct Whole<'a>(pub(crate) &'a mut dyn Read);

impl Pieces for Whole<'_> {
    fn next(&mut self, mut spare: Vec<u8>) -> io::Result<Vec<u8>> {
        spare.clear();
        (&mut *self.0).take(PIECE).read_to_end(&mut spare)?;
        Ok(spare)
    }
}

/// The type of an archive's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Dir,
    Fifo,
}

/// One entry, its content left in the archive.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As written.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Type,
    /// A link's target; empty where there is none.
    pub(crate) link: Vec<u8>,
    /// The lower twelve bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Nanoseconds since 1970.
    pub(crate) mtime: i128,
    /// Of the file as it will be, holes included.
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) attributes: Attributes,
    /// Where the content belongs in a file with holes.
    pub(crate) sparse: Option<Vec<SparseEntry>>,
}

impl Entry {
    /// The name as text for people.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

impl<'a> Archive<'a> {
    pub(crate) fn new(pieces: &'a mut dyn Pieces) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "a small constant")]
        let limits =
            Limits { max_metadata_size: MOST_HEADERS as u32 / 2, max_path_len: Some(4096), ..Limits::default() };
        let mut parser = Parser::new(limits);
        // It does not know of times before 1970; what else is malformed is found here, in `records`.
        parser.set_ignore_pax_errors(true);
        Self {
            pieces,
            parser,
            buffer: Vec::new(),
            start: 0,
            spare: Vec::new(),
            ended: false,
            left: 0,
            padding: 0,
            global: 0,
            after: String::new(),
        }
    }

    /// The next entry; content of the one before that was not taken is passed over. `None` at the end, when the reader
    /// has been read to its end as well.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        while !self.content()?.is_empty() {}
        self.skip_padding()?;
        let mut need = 1;
        loop {
            if !self.fill(need)? && self.have() == 0 {
                // Some writers leave out the two empty blocks.
                return Ok(None);
            }
            match self.parser.parse(&self.buffer[self.start..]) {
                Ok(ParseEvent::NeedData { min_bytes }) => {
                    if min_bytes > MOST_HEADERS {
                        return Err(self.broken("the headers of an entry are too large"));
                    }
                    let have = self.have();
                    // In large steps, since what is there is parsed again from its beginning.
                    need = min_bytes.max(have + have / 2).min(MOST_HEADERS.max(min_bytes));
                    self.fill(need)?;
                    // Where nothing more came, the parser would ask again and again.
                    let now = self.have();
                    if now <= have || now < min_bytes {
                        return Err(self.broken("it ends within a header"));
                    }
                }
                Ok(ParseEvent::Entry { consumed, entry }) => {
                    let read = read(&entry, None);
                    return self.take(consumed, read);
                }
                Ok(ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size }) => {
                    let read = read(&entry, Some((sparse_map, real_size)));
                    return self.take(consumed, read);
                }
                // Defaults for all entries, of which none of those who write layers makes use; containerd and Docker
                // pass over them, too.
                Ok(ParseEvent::GlobalExtensions { consumed, .. }) => {
                    self.start += consumed;
                    self.global += consumed;
                    if self.global > MOST_GLOBAL {
                        return Err(self.broken("its headers that are for all entries are larger than 16 MiB together"));
                    }
                    need = 1;
                }
                Ok(ParseEvent::End { .. }) => {
                    self.drain()?;
                    return Ok(None);
                }
                Err(error) => {
                    let reason = reason(&error);
                    return Err(self.broken(&reason));
                }
            }
        }
    }

    /// The next piece of the current entry's content; empty at its end.
    pub(crate) fn content(&mut self) -> Result<&[u8]> {
        self.content_up_to(u64::MAX)
    }

    /// The next piece of the current entry's content, of at most so many bytes; empty at its end.
    pub(crate) fn content_up_to(&mut self, most: u64) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        if !self.fill(1)? {
            return Err(self.broken("it ends within the content of an entry"));
        }
        let length = usize::try_from(self.left.min(most)).unwrap_or(usize::MAX).min(self.have());
        self.left -= length as u64;
        self.start += length;
        Ok(&self.buffer[self.start - length..self.start])
    }

    fn take(&mut self, consumed: usize, read: std::result::Result<(Entry, u64), String>) -> Result<Option<Entry>> {
        let (entry, stored) = match read {
            Ok(read) => read,
            Err(reason) => return Err(self.broken(&reason)),
        };
        self.start += consumed;
        self.left = stored;
        self.padding = (BLOCK - stored % BLOCK) % BLOCK;
        self.after = entry.text();
        Ok(Some(entry))
    }

    /// Passes over the zeros behind the content. They may be missing at the very end.
    fn skip_padding(&mut self) -> Result<()> {
        while self.padding > 0 && self.fill(1)? {
            let length = usize::try_from(self.padding).unwrap_or(usize::MAX).min(self.have());
            self.start += length;
            self.padding -= length as u64;
        }
        self.padding = 0;
        Ok(())
    }

    /// How many bytes are there that were not taken.
    fn have(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Sees to it that this many bytes are there; false says that they ended before.
    fn fill(&mut self, need: usize) -> Result<bool> {
        while self.have() < need && !self.ended {
            if self.have() == 0 {
                let old = std::mem::take(&mut self.buffer);
                self.start = 0;
                self.buffer = self.piece(old)?;
                self.ended = self.buffer.is_empty();
            } else {
                // A header that goes on in the next piece.
                let old = std::mem::take(&mut self.spare);
                let next = self.piece(old)?;
                self.buffer.drain(..self.start);
                self.start = 0;
                self.buffer.extend_from_slice(&next);
                self.ended = next.is_empty();
                self.spare = next;
            }
        }
        Ok(self.have() >= need)
    }

    fn piece(&mut self, spare: Vec<u8>) -> Result<Vec<u8>> {
        self.pieces.next(spare).map_err(|source| SnapshotError::ReadArchive { after: self.after.clone(), source })
    }

    /// Reads what is behind the end of the archive: a reader that verifies a digest does so at its end.
    fn drain(&mut self) -> Result<()> {
        let mut behind = 0;
        while !self.ended {
            behind += self.have() as u64;
            if behind > MOST_BEHIND {
                return Err(self.broken("more than a gigabyte follows its end"));
            }
            self.start = self.buffer.len();
            self.fill(1)?;
        }
        self.start = self.buffer.len();
        Ok(())
    }

    fn broken(&self, reason: &str) -> SnapshotError {
        SnapshotError::BrokenArchive { after: self.after.clone(), reason: reason.to_owned() }
    }
}

fn reason(error: &ParseError) -> String {
    error.to_string()
}

type Sparse = (Vec<SparseEntry>, u64);

/// Makes an entry of what the parser found, and says how many bytes of content follow.
fn read(parsed: &ParsedEntry<'_>, sparse: Option<Sparse>) -> std::result::Result<(Entry, u64), String> {
    let kind = match parsed.entry_type {
        EntryType::Link => Type::HardLink,
        EntryType::Symlink => Type::Symlink,
        EntryType::Char => Type::CharDevice,
        EntryType::Block => Type::BlockDevice,
        EntryType::Directory => Type::Dir,
        EntryType::Fifo => Type::Fifo,
        // Before ustar a folder was a file with a slash at the end of its name.
        EntryType::Regular | EntryType::Continuous if parsed.path.ends_with(b"/") => Type::Dir,
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => Type::File,
        other => return Err(format!("entry {:?} has the unknown type {other:?}", parsed.path_lossy())),
    };
    let number = |value: u64| {
        u32::try_from(value).map_err(|_| format!("entry {:?} has an owner beyond 32 bits", parsed.path_lossy()))
    };
    // Header-only types have no content, whatever their size says (as Go and GNU tar read them).
    let mut stored = if kind == Type::File { parsed.size } else { 0 };
    let mut size = stored;
    #[allow(clippy::cast_possible_wrap, reason = "the parser gives a negative time of the header as its bits")]
    let mut mtime = i128::from(parsed.mtime as i64) * 1_000_000_000;
    let records = records(parsed.pax.unwrap_or_default())?;
    if let Some(time) = records.mtime {
        mtime = time;
    }
    let map = match sparse {
        Some((map, real)) if kind == Type::File => {
            let sum = map.iter().try_fold(0_u64, |sum, piece| sum.checked_add(piece.length));
            let last = map
                .iter()
                .map(|piece| piece.offset.checked_add(piece.length))
                .try_fold(0, |last, end| end.map(|end| end.max(last)));
            if sum != Some(stored) && !(records.size && records.sparse) || last.is_none_or(|last| last > real) {
                return Err(format!("the map of the sparse entry {:?} does not fit its size", parsed.path_lossy()));
            }
            (stored, size) = (sum.unwrap_or(stored), real);
            Some(map)
        }
        _ => None,
    };
    let mut attributes: Attributes = parsed
        .xattrs
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .filter(|(name, _)| crate::attributes::belongs(name))
        .collect();
    attributes.sort();
    let entry = Entry {
        name: parsed.path.to_vec(),
        kind,
        link: parsed.link_target.as_deref().unwrap_or_default().to_vec(),
        mode: parsed.mode & 0o7777,
        uid: number(parsed.uid)?,
        gid: number(parsed.gid)?,
        mtime,
        size,
        device: (parsed.dev_major.unwrap_or(0), parsed.dev_minor.unwrap_or(0)),
        attributes,
        sparse: map,
    };
    Ok((entry, stored))
}

/// What the parser does not say of an entry's PAX records.
#[derive(Default)]
struct Records {
    mtime: Option<i128>,
    size: bool,
    sparse: bool,
}

fn records(pax: &[u8]) -> std::result::Result<Records, String> {
    let mut records = Records::default();
    for record in PaxExtensions::new(pax) {
        let record = record.map_err(|error| error.to_string())?;
        let value = record.value_bytes();
        let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        match record.key_bytes() {
            b"mtime" => records.mtime = Some(time(value).ok_or_else(|| malformed("mtime", value))?),
            b"size" => {
                number().ok_or_else(|| malformed("size", value))?;
                records.size = true;
            }
            b"uid" => drop(number().ok_or_else(|| malformed("uid", value))?),
            b"gid" => drop(number().ok_or_else(|| malformed("gid", value))?),
            b"GNU.sparse.major" => records.sparse = true,
            _ => {}
        }
    }
    Ok(records)
}

fn malformed(key: &str, value: &[u8]) -> String {
    format!("the record {key}={:?} is malformed", String::from_utf8_lossy(value))
}

/// A time as PAX writes it: decimal seconds, a fraction of any length behind a point.
fn time(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{:0<9}", fraction.get(..fraction.len().min(9))?);
    let nanoseconds: i128 = digits.parse().ok()?;
    let below = whole.starts_with('-');
    Some(i128::from(seconds) * 1_000_000_000 + if below { -nanoseconds } else { nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Header;

    fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = parts.concat();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn file(name: &[u8], content: &[u8], mtime: i64) -> Vec<u8> {
        let attributes = [(b"user.x".to_vec(), b"\n\0=".to_vec())];
        let (mode, size) = (0o644, content.len() as u64);
        let header = Header { mode, uid: 1, gid: 2, size, mtime, attributes: &attributes, ..Header::empty(name) };
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn all(bytes: &[u8]) -> Result<Vec<(String, i128, Vec<u8>)>> {
        let mut reader = bytes;
        let mut whole = Whole(&mut reader);
        let mut archive = Archive::new(&mut whole);
        let mut entries = Vec::new();
        while let Some(entry) = archive.next()? {
            let mut content = Vec::new();
            loop {
                let piece = archive.content()?;
                if piece.is_empty() {
                    break;
                }
                content.extend_from_slice(piece);
            }
            entries.push((entry.text(), entry.mtime, content));
        }
        Ok(entries)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = "d/".repeat(300) + "file";
        let bytes =
            archive(&[file(b"a", b"hello", 5), file(long.as_bytes(), &vec![7; 600_000], -5), file(b"z", b"", 0)]);
        let read = all(&bytes).unwrap();
        assert_eq!(read[0], ("a".into(), 5_000_000_000, b"hello".to_vec()));
        assert_eq!((&read[1].0, read[1].1, read[1].2.len()), (&long, -5_000_000_000, 600_000));
        assert_eq!(read[2].0, "z");
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn the_end_may_be_missing_but_not_a_part_of_an_entry() {
        let bytes = archive(&[file(b"a", b"hello", 5)]);
        assert_eq!(all(&bytes[..bytes.len() - 1024]).unwrap().len(), 1);
        assert_eq!(all(b"").unwrap().len(), 0);
        for end in [10, 700, 1030, 1538] {
            let error = all(&bytes[..end]).unwrap_err();
            assert!(matches!(error, SnapshotError::BrokenArchive { .. }), "{end}: {error}");
        }
    }

    #[test]
    fn garbage_is_no_archive() {
        let error = all(&[b'x'; 2048]).unwrap_err();
        assert!(matches!(error, SnapshotError::BrokenArchive { .. }), "{error}");
    }

    #[test]
    fn times_have_nanoseconds_and_may_lie_before_1970() {
        assert_eq!(time(b"1.5"), Some(1_500_000_000));
        assert_eq!(time(b"-1.25"), Some(-1_250_000_000));
        assert_eq!(time(b"-0.25"), Some(-250_000_000));
        assert_eq!(time(b"12.123456789999"), Some(12_123_456_789));
        for bad in [&b""[..], b"x", b"1.x", b".5", b"1e3"] {
            assert_eq!(time(bad), None);
        }
    }
}
