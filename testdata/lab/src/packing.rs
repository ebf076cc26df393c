//! Layers packed and unpacked: gzip in one member or many, zstd, plain.

use std::fs::File;
use std::io::{self, Read, Write};

use anyhow::{Result, bail};
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::layout::hex;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// One gzip member.
    Gzip,
    /// A gzip member for every so many bytes of tar, as estargz and pigz-made layers have it.
    GzipMembers(usize),
    /// Zstandard.
    Zstd,
    /// Not at all.
    Plain,
}

/// The plain tar of a layer's blob.
pub(crate) fn unpack(media_type: &str, blob: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    if media_type.ends_with("gzip") {
        flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut tar)?;
    } else if media_type.ends_with("+zstd") {
        zstd::Decoder::new(blob)?.read_to_end(&mut tar)?;
    } else if media_type.ends_with("tar") {
        tar.extend_from_slice(blob);
    } else {
        bail!("{media_type} is no layer the lab can read");
    }
    Ok(tar)
}

/// Packs a tar stream: the hexadecimal SHA-256 before and after, and the size after.
pub(crate) fn pack(tar: &mut dyn Read, file: File, packing: Packing) -> Result<(String, String, u64)> {
    let out = Hashing::new(file);
    let mut plain = Hashing::new(io::sink());
    let mut tar = Tee { source: tar, copy: &mut plain };
    let out = match packing {
        Packing::Plain => {
            let mut out = out;
            io::copy(&mut tar, &mut out)?;
            out
        }
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(out, flate2::Compression::fast());
            io::copy(&mut tar, &mut encoder)?;
            encoder.finish()?
        }
        Packing::GzipMembers(bytes) => {
            let mut out = out;
            loop {
                let mut encoder = GzEncoder::new(out, flate2::Compression::fast());
                let copied = io::copy(&mut (&mut tar).take(bytes as u64), &mut encoder)?;
                out = encoder.finish()?;
                if copied < bytes as u64 {
                    break out;
                }
            }
        }
        Packing::Zstd => {
            let mut encoder = zstd::Encoder::new(out, 3)?;
            io::copy(&mut tar, &mut encoder)?;
            encoder.finish()?
        }
    };
    Ok((hex(&plain.hash.finalize()), hex(&out.hash.clone().finalize()), out.size))
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(out: W) -> Self {
        Self { out, hash: Sha256::new(), size: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Tee<'a> {
    source: &'a mut dyn Read,
    copy: &'a mut Hashing<io::Sink>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.copy.write_all(&buffer[..count])?;
        Ok(count)
    }
}
