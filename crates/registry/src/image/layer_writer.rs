//! From tar bytes to a layer in one pass.

use std::io::{self, Write};
use std::sync::Arc;

use tracing::info_span;

use super::gzip::GzipWriter;
use super::{Algorithm, Compression, Descriptor, Digest, Hasher, ImageFormat, Layer, MediaType};
use crate::blob::{BlobDir, BlobFile, FileBlob};

/// Takes the bytes of a tar and makes a layer of them: diff id, compression on every core, digest and blob file in the
/// same pass, with bounded memory. The layer depends on the bytes, the compression and the format, not on the machine.
pub struct LayerWriter {
    diff_id: Hasher,
    compressor: Compressor,
    blobs: BlobDir,
    media_type: MediaType,
}

enum Compressor {
    Gzip(GzipWriter<BlobSink>),
    Zstd(zstd::stream::write::Encoder<'static, BlobSink>),
    None(BlobSink),
}

/// The compressed bytes end here: counted, hashed and written.
struct BlobSink {
    file: BlobFile,
    hasher: Hasher,
    size: u64,
}

impl LayerWriter {
    /// A layer that will lie in `blobs`, on as many threads as the machine lets this process use.
    pub fn new(blobs: &BlobDir, compression: Compression, format: ImageFormat) -> io::Result<LayerWriter> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        LayerWriter::on_threads(blobs, compression, format, threads)
    }

    fn on_threads(
        blobs: &BlobDir,
        compression: Compression,
        format: ImageFormat,
        threads: usize,
    ) -> io::Result<LayerWriter> {
        let sink = BlobSink { file: blobs.create()?, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let compressor = match compression {
            Compression::Gzip { level } => Compressor::Gzip(GzipWriter::new(sink, level.clamp(1, 9), threads)?),
            Compression::Zstd { level } => {
                let mut encoder = zstd::stream::write::Encoder::new(sink, level)?;
                // The output with one worker or more is the same; with none it is another.
                encoder.multithread(u32::try_from(threads).unwrap_or(u32::MAX).max(1))?;
                encoder.include_checksum(true)?;
                Compressor::Zstd(encoder)
            }
            Compression::None => Compressor::None(sink),
        };
        Ok(LayerWriter {
            diff_id: Hasher::new(Algorithm::Sha256),
            compressor,
            blobs: blobs.clone(),
            media_type: MediaType::of_layer(compression, format),
        })
    }

    /// Everything was written: the layer. Without this call nothing is left behind.
    pub fn finish(self) -> io::Result<Layer> {
        let _span = info_span!(target: "zuwai", "compress").entered();
        let mut sink = match self.compressor {
            Compressor::Gzip(writer) => writer.finish()?,
            Compressor::Zstd(encoder) => encoder.finish()?,
            Compressor::None(sink) => sink,
        };
        sink.flush()?;
        let digest: Digest = sink.hasher.finish();
        let path = match self.blobs.get(&digest) {
            Some(path) => path,
            None => sink.file.keep(&digest)?,
        };
        Ok(Layer {
            descriptor: Descriptor::new(self.media_type, digest, sink.size),
            diff_id: self.diff_id.finish(),
            blob: Arc::new(FileBlob::new(path)),
            origin: None,
        })
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _span = info_span!(target: "zuwai", "compress").entered();
        let count = match &mut self.compressor {
            Compressor::Gzip(writer) => writer.write(bytes),
            Compressor::Zstd(encoder) => encoder.write(bytes),
            Compressor::None(sink) => sink.write(bytes),
        }?;
        self.diff_id.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for LayerWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LayerWriter").field("media_type", &self.media_type).finish_non_exhaustive()
    }
}

impl Write for BlobSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn write(plain: &[u8], compression: Compression, threads: usize, blobs: &BlobDir) -> Layer {
        let mut writer = LayerWriter::on_threads(blobs, compression, ImageFormat::Oci, threads).unwrap();
        writer.write_all(plain).unwrap();
        writer.finish().unwrap()
    }

    const COMPRESSIONS: [Compression; 3] = [Compression::GZIP, Compression::ZSTD, Compression::None];

    #[test]
    fn a_layer_names_both_digests_and_opens_to_the_tar() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path()).unwrap();
        let plain = b"tar".repeat(100_000);
        for compression in COMPRESSIONS {
            let layer = write(&plain, compression, 2, &blobs);
            let file = std::fs::read(blobs.get(&layer.descriptor.digest).unwrap()).unwrap();
            assert_eq!(layer.descriptor.digest, Digest::of(&file));
            assert_eq!(layer.descriptor.size, file.len() as u64);
            assert_eq!(layer.diff_id, Digest::of(&plain));
            let mut read = Vec::new();
            layer.open_tar().unwrap().read_to_end(&mut read).unwrap();
            assert!(read == plain, "{compression:?}");
        }
    }

    #[test]
    fn the_media_type_is_of_the_images_format() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path()).unwrap();
        let writer = LayerWriter::new(&blobs, Compression::GZIP, ImageFormat::Docker).unwrap();
        assert_eq!(writer.finish().unwrap().descriptor.media_type, MediaType::DOCKER_LAYER_GZIP);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn the_layer_does_not_depend_on_the_number_of_threads(
            pattern in prop::collection::vec(any::<u8>(), 1..5000), times in 1_usize..8000,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let blobs = BlobDir::open(folder.path()).unwrap();
            let plain: Vec<u8> = pattern.iter().copied().cycle().take((pattern.len() * times).min(9_000_000)).collect();
            for compression in COMPRESSIONS {
                let one = write(&plain, compression, 1, &blobs).descriptor;
                for threads in [2, 5] {
                    prop_assert_eq!(&write(&plain, compression, threads, &blobs).descriptor, &one);
                }
            }
        }
    }
}
