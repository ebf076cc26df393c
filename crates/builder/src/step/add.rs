//! ADD of a local archive: "if the source is a local tar archive in a recognized compression format, it is decompressed
//! and extracted". What counts is the content, never the name: a file that only looks like an archive is copied.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zuwai_snapshot::{ApplyOptions, RootFs, apply_tar};

use super::copy::Dress;
use super::{Ground, StepError};
use crate::cancellable::Cancellable;
use crate::decompress::decompressed;
use crate::event::Event;

/// The size of a tar block, and of the header an archive begins with.
const BLOCK: usize = 512;

/// Whether the file (a regular one) is a tar archive, compressed or not: its first block, decompressed, is a header with a right
/// checksum.
pub(super) fn is_archive(root: &RootFs, path: &Path) -> Result<bool, StepError> {
    let read = |source| StepError::Read { path: path.to_owned(), source };
    let mut block = [0; BLOCK];
    // A broken stream is no archive: the file is copied as it is.
    let whole = match decompressed(Box::new(root.open_file(path)?)) {
        Ok(mut stream) => stream.read_exact(&mut block).is_ok(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => false,
        Err(error) => return Err(read(error)),
    };
    Ok(whole && is_header(&block))
}

/// Unpacks the archive into a folder of the root that exists. `--chown` holds for what is unpacked, `--chmod` does not.
pub(super) fn unpack(
    source: &RootFs,
    path: &Path,
    into: &Path,
    dress: &Dress,
    onto: &RootFs,
    ground: &Ground<'_>,
) -> Result<Vec<PathBuf>, StepError> {
    let stream = decompressed(Box::new(source.open_file(path)?))
        .map_err(|error| StepError::Read { path: path.to_owned(), source: error })?;
    let mut stream = Cancellable::new(stream, ground.cancel.flag());
    let options = ApplyOptions {
        into: into.to_owned(),
        owner: dress.asked,
        whiteouts: false,
        hashes: false,
        ..ApplyOptions::default()
    };
    let applied =
        apply_tar(&mut stream, onto, &options).map_err(|source| StepError::Unpack { path: path.to_owned(), source })?;
    for text in &applied.warnings {
        ground.observer.event(&Event::Warning { text });
    }
    Ok(applied.paths())
}

/// Whether a block is a tar header: the checksum is the sum of all its bytes, its own eight taken as blanks (POSIX
/// pax, "ustar Interchange Format").
fn is_header(block: &[u8; BLOCK]) -> bool {
    let field = &block[148..156];
    let digits: String = field.iter().map(|&byte| char::from(byte)).filter(char::is_ascii_digit).collect();
    let Ok(stated) = u32::from_str_radix(&digits, 8) else { return false };
    let sum = |start: u32, bytes: &[u8]| bytes.iter().fold(start, |sum, &byte| sum + u32::from(byte));
    let real = sum(sum(8 * u32::from(b' '), &block[..148]), &block[156..]);
    stated == real && block[0] != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zuwai_snapshot::Ignore;

    /// A one-file ustar archive, made by hand so that the test does not depend on any writer.
    fn archive() -> Vec<u8> {
        let mut block = [0u8; BLOCK];
        block[..5].copy_from_slice(b"hello");
        block[100..108].copy_from_slice(b"0000644\0");
        block[124..136].copy_from_slice(b"00000000000\0");
        block[136..148].copy_from_slice(b"00000000000\0");
        block[148..156].copy_from_slice(b"        ");
        block[156] = b'0';
        block[257..263].copy_from_slice(b"ustar\0");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        [&block[..], &[0; 2 * BLOCK]].concat()
    }

    fn detected(bytes: &[u8]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), bytes).unwrap();
        let root = RootFs::open(folder.path(), Ignore::default()).unwrap();
        is_archive(&root, Path::new("/file")).unwrap()
    }

    #[test]
    fn an_archive_is_known_by_content_in_every_compression() {
        let tar = archive();
        assert!(detected(&tar));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        assert!(detected(&gzip.finish().unwrap()));
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&tar).unwrap();
        assert!(detected(&bzip2.finish().unwrap()));
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&tar).unwrap();
        assert!(detected(&xz.finish().unwrap()));
        assert!(detected(&zstd::encode_all(&tar[..], 1).unwrap()));
    }

    #[test]
    fn what_is_not_an_archive_is_not_taken_for_one() {
        assert!(!detected(b""));
        assert!(!detected(b"hello\n"));
        assert!(!detected(&[0; 4 * BLOCK]));
        assert!(!detected(&vec![b'x'; 4 * BLOCK]));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"just one compressed file").unwrap();
        assert!(!detected(&gzip.finish().unwrap()));
        let mut broken = archive();
        broken[150] ^= 1;
        assert!(!detected(&broken));
        assert!(!detected(&zstd::encode_all(&archive()[..], 1).unwrap()[..20]));
    }
}
