//! An image, and bytes, for the tests of this crate.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::{Compression, Image, ImageConfig, ImageFormat, LayerWriter, Platform};
use crate::blob::BlobDir;

/// For this machine's platform, with one layer of these bytes.
pub(crate) fn image(content: &[u8], blobs: &BlobDir) -> Image {
    let mut writer = LayerWriter::new(blobs, Compression::GZIP, ImageFormat::Oci).unwrap();
    writer.write_all(content).unwrap();
    let mut config = ImageConfig::default();
    config.set_platform(&Platform::host());
    Image { config, layers: vec![writer.finish().unwrap()], format: ImageFormat::Oci, annotations: BTreeMap::new() }
}

/// So many bytes that look random, always the same for a seed.
pub(crate) fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}
