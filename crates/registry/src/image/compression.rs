//! How the bytes of a layer are compressed.

use std::io::{self, BufRead, BufReader, Read};

use super::gunzip::Gunzip;

/// A compression and how hard it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip, levels 1 to 9.
    Gzip {
        /// 1 is fast, 9 is small.
        level: u32,
    },
    /// zstd, levels 1 to 22.
    Zstd {
        /// 1 is fast, 22 is small.
        level: i32,
    },
    /// The tar as it is.
    None,
}

impl Compression {
    /// gzip at the level used when none is asked for.
    pub const GZIP: Compression = Compression::Gzip { level: DEFAULT_GZIP_LEVEL };
    /// zstd at the level used when none is asked for.
    pub const ZSTD: Compression = Compression::Zstd { level: DEFAULT_ZSTD_LEVEL };
}

/// By the table of docs/performance.md, made with `examples/pack.rs` of real layers: the fastest level that is never more than
/// 3 % larger than what Docker writes.
pub(super) const DEFAULT_GZIP_LEVEL: u32 = 5;

/// zstd's own default.
const DEFAULT_ZSTD_LEVEL: i32 = 3;

impl Default for Compression {
    /// gzip: every registry and runtime reads it.
    fn default() -> Self {
        Compression::GZIP
    }
}

/// What the bytes were seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Gzip,
    Zstd,
    Plain,
}

/// Decompresses a layer by what its bytes are, not by what it is called: registries hold plain tars called gzip. gzip
/// may have several members and zstd several frames, as eStargz, pigz and zstd:chunked write them.
pub(crate) fn decompress<'a, R: Read + Send + 'a>(compressed: R) -> io::Result<Box<dyn Read + Send + 'a>> {
    let buffered = BufReader::with_capacity(256 * 1024, compressed);
    decompress_by(buffered, |buffered| Box::new(flate2::bufread::MultiGzDecoder::new(buffered)))
}

/// The same for who compares the digest of what comes out, and needs no checksum besides.
pub(super) fn decompress_for_digest(compressed: Box<dyn BufRead + Send>) -> io::Result<Box<dyn Read + Send>> {
    decompress_by(compressed, |buffered| Box::new(Gunzip::new(buffered)))
}

/// Looks at the first bytes without taking them. A source that hands out fewer than four at first is plain only when
/// it ends there.
fn decompress_by<'a, R: BufRead + Send + 'a>(
    mut buffered: R,
    gunzip: impl FnOnce(R) -> Box<dyn Read + Send + 'a>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match see_start(buffered.fill_buf()?) {
        Seen::Gzip => gunzip(buffered),
        Seen::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered)?),
        Seen::Plain => Box::new(buffered),
    })
}

/// What begins so: four bytes are enough.
pub(crate) fn see_start(start: &[u8]) -> Seen {
    match start {
        [0x1f, 0x8b, ..] => Seen::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Seen::Zstd,
        _ => Seen::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        decompress(bytes)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn gzip_of_several_members_is_read_to_its_end() {
        let compressed = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(read(&compressed).unwrap(), b"one two");
    }

    #[test]
    fn zstd_of_several_frames_is_read_to_its_end() {
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        let compressed = [
            &skippable[..],
            &zstd::encode_all(&b"one "[..], 3).unwrap(),
            &skippable[..],
            &zstd::encode_all(&b"two"[..], 3).unwrap(),
        ]
        .concat();
        assert_eq!(read(&compressed).unwrap(), b"one two");
    }

    #[test]
    fn what_is_neither_is_taken_as_it_is() {
        assert_eq!(read(b"plain").unwrap(), b"plain");
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn a_cut_gzip_is_an_error_and_not_a_short_layer() {
        let compressed = gzip(&[7; 10_000]);
        assert!(read(&compressed[..compressed.len() - 3]).is_err());
    }
}
