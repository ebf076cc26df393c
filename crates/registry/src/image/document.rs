//! A whole image, and the bytes of its documents.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;

use super::{Descriptor, ImageConfig, Layer, Manifest, MediaType};

/// An image for one platform: documents by value, layers that know where their bytes are.
#[derive(Debug, Clone)]
pub struct Image {
    /// How it is run and how it came to be. `rootfs.diff_ids` is written from the layers when the image is encoded.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// The family of media types its documents are printed in.
    pub format: ImageFormat,
    /// Notes on the manifest. Only OCI manifests have them: they are left out of Docker's.
    pub annotations: BTreeMap<String, String>,
}

/// A family of media types. The two differ in nothing but names, and are never mixed in one image: some registries and
/// runtimes refuse that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// Docker image manifest version 2, schema 2.
    Docker,
    /// OCI image manifest.
    Oci,
}

/// The bytes of an image's documents. The same image always gives the same bytes.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The config's bytes.
    pub config: Vec<u8>,
    /// What the manifest says about them.
    pub config_descriptor: Descriptor,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// What an index would say about them: the digest is the image's.
    pub descriptor: Descriptor,
}

impl Image {
    /// Prints config and manifest, every media type of the image's own format.
    pub fn encode(&self) -> Encoded {
        let mut config = self.config.clone();
        config.rootfs.diff_ids = self.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = print(&config);
        let config_descriptor = Descriptor::of(MediaType::OCI_CONFIG.in_format(self.format), &config);

        let media_type = MediaType::OCI_MANIFEST.in_format(self.format);
        let layers = self.layers.iter().map(|layer| layer.described_in(self.format)).collect();
        let annotations = match self.format {
            ImageFormat::Docker => BTreeMap::new(),
            ImageFormat::Oci => self.annotations.clone(),
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type.clone()),
            config: config_descriptor.clone(),
            layers,
            annotations,
            extra: BTreeMap::new(),
        };
        let manifest = print(&manifest);
        let mut descriptor = Descriptor::of(media_type, &manifest);
        descriptor.platform = Some(self.config.platform()).filter(|platform| !platform.os.is_empty());
        Encoded { config, config_descriptor, manifest, descriptor }
    }
}

fn print(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("our documents have string keys, and memory is written to")
}

impl FromStr for ImageFormat {
    type Err = String;

    /// `docker` or `oci`, as `--image-format` takes it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "docker" => Ok(ImageFormat::Docker),
            "oci" => Ok(ImageFormat::Oci),
            _ => Err(r#"must be either "docker" or "oci""#.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BytesBlob;
    use crate::image::Digest;
    use std::sync::Arc;

    fn layer(media_type: MediaType) -> Layer {
        let bytes = b"layer".to_vec();
        Layer {
            descriptor: Descriptor::of(media_type, &bytes),
            diff_id: Digest::of(b"plain"),
            blob: Arc::new(BytesBlob::new(bytes)),
            origin: None,
        }
    }

    #[test]
    fn media_types_of_both_families_never_meet_in_one_manifest() {
        for (format, mine) in [(ImageFormat::Docker, ".docker."), (ImageFormat::Oci, ".oci.")] {
            let image = Image {
                config: ImageConfig::default(),
                layers: [MediaType::DOCKER_LAYER_GZIP, MediaType::OCI_LAYER_ZSTD, MediaType::OCI_LAYER]
                    .map(layer)
                    .into(),
                format,
                annotations: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            };
            let encoded = image.encode();
            let text = String::from_utf8(encoded.manifest.clone()).unwrap();
            let manifest: Manifest = serde_json::from_str(&text).unwrap();
            for media_type in manifest.layers.iter().chain([&manifest.config]).map(|blob| &blob.media_type) {
                assert!(media_type.as_str().contains(mine), "{media_type}");
            }
            assert_eq!(manifest.media_type, Some(encoded.descriptor.media_type.clone()));
            assert_eq!(encoded.descriptor.digest, Digest::of(&encoded.manifest));
            assert_eq!(manifest.annotations.is_empty(), format == ImageFormat::Docker);
        }
    }

    #[test]
    fn the_same_image_prints_the_same_bytes_and_names_its_layers_diff_ids() {
        let image = Image {
            config: ImageConfig::default(),
            layers: vec![layer(MediaType::OCI_LAYER)],
            format: ImageFormat::Oci,
            annotations: BTreeMap::new(),
        };
        let (one, two) = (image.encode(), image.encode());
        assert_eq!(one.manifest, two.manifest);
        let config: ImageConfig = serde_json::from_slice(&one.config).unwrap();
        assert_eq!(config.rootfs.diff_ids, [Digest::of(b"plain")]);
    }
}
