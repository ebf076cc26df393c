//! An image for the tests of this crate.

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
