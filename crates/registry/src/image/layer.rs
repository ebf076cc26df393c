//! A layer: a tar of changes, usually compressed, and where its bytes are.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

use super::compression::decompress_for_digest;
use super::{Blob, Descriptor, Digest, Hasher, ImageFormat, Reference};
use crate::blob::{BlobSource, buffered};

/// One layer of an image. Cheap to clone: the bytes are shared.
#[derive(Clone)]
pub struct Layer {
    /// The compressed blob: type, digest, size. Its digest is what the manifest names.
    pub descriptor: Descriptor,
    /// The digest of the tar inside. This one the config names.
    pub diff_id: Digest,
    /// The compressed bytes.
    pub blob: Arc<dyn BlobSource>,
    /// A repository that holds the blob, so that the same registry can mount it into another; `None` for new layers.
    pub origin: Option<Reference>,
}

impl Layer {
    /// The tar. Its diff id is checked as the bytes pass: the last read before end of file fails when it differs, so a
    /// caller that stops early has read unverified bytes. The blob's own digest was checked where it entered (see
    /// [`BlobSource`]), and is not computed once more.
    pub fn open_tar(&self) -> io::Result<Box<dyn Read + Send>> {
        self.verified(buffered(self.blob.open()?))
    }

    /// The same while the blob still comes (see [`BlobSource::stream`]): of its bytes nobody knows before the end that they
    /// are the layer's, and the blob is not kept.
    pub fn stream_tar(&self) -> io::Result<Box<dyn Read + Send>> {
        self.verified(self.blob.stream()?)
    }

    fn verified(&self, blob: Box<dyn BufRead + Send>) -> io::Result<Box<dyn Read + Send>> {
        let plain = decompress_for_digest(blob)?;
        Ok(Box::new(Verifying::new(plain, self.diff_id.clone())))
    }

    /// The layer's blob.
    pub fn to_blob(&self) -> Blob {
        Blob { descriptor: self.descriptor.clone(), source: Arc::clone(&self.blob), origin: self.origin.clone() }
    }

    /// The descriptor as a manifest of this format names it.
    pub(crate) fn described_in(&self, format: ImageFormat) -> Descriptor {
        let mut descriptor = self.descriptor.clone();
        descriptor.media_type = descriptor.media_type.in_format(format);
        descriptor
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Layer")
            .field("descriptor", &self.descriptor)
            .field("diff_id", &self.diff_id)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Hands bytes through and fails in place of end of file when they were not the ones the digest names.
struct Verifying<R> {
    inner: R,
    expected: Digest,
    hasher: Option<Hasher>,
}

impl<R> Verifying<R> {
    fn new(inner: R, expected: Digest) -> Self {
        let hasher = Some(Hasher::new(expected.algorithm()));
        Verifying { inner, expected, hasher }
    }
}

impl<R: Read> Read for Verifying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
            return Ok(count);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some(hasher) = self.hasher.take() {
            let got = hasher.finish();
            if got != self.expected {
                return Err(io::Error::new(io::ErrorKind::InvalidData, self.mismatch(&got)));
            }
        }
        Ok(0)
    }
}

impl<R> Verifying<R> {
    fn mismatch(&self, got: &Digest) -> String {
        format!("layer's tar should be {} (its diff id) but is {got}", self.expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BytesBlob;
    use crate::image::MediaType;
    use std::io::Write;

    fn gzip_layer(plain: &[u8]) -> Layer {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        let bytes = encoder.finish().unwrap();
        Layer {
            descriptor: Descriptor::of(MediaType::OCI_LAYER_GZIP, &bytes),
            diff_id: Digest::of(plain),
            blob: Arc::new(BytesBlob::new(bytes)),
            origin: None,
        }
    }

    fn read(layer: &Layer) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        layer.open_tar()?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn the_tar_of_a_true_layer_is_read_whole() {
        assert_eq!(read(&gzip_layer(b"hello")).unwrap(), b"hello");
    }

    #[test]
    fn another_blob_under_the_digest_is_found_out_by_the_end() {
        let mut layer = gzip_layer(b"hello");
        layer.blob = gzip_layer(b"hallo").blob;
        let error = read(&layer).unwrap_err().to_string();
        assert!(error.contains("diff id"), "{error}");
    }

    #[test]
    fn a_wrong_diff_id_is_found_out_by_the_end() {
        let mut layer = gzip_layer(b"hello");
        layer.diff_id = Digest::of(b"else");
        let error = read(&layer).unwrap_err().to_string();
        assert!(error.contains("diff id"), "{error}");
    }
}
