//! Media types: what a descriptor says its bytes are.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Compression, ImageFormat};

/// A media type as it stands in documents and headers, without parameters. Any text can be one: what is unknown is kept,
/// and named by whoever cannot work with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

macro_rules! media_types {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl MediaType {
            $($(#[$doc])* pub const $name: MediaType = MediaType(Cow::Borrowed($value));)*
        }
    };
}

media_types! {
    /// Docker schema 2 manifest.
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, gzip.
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, not compressed.
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, zstd (as containerd names it).
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// Docker layer that registries do not keep (old Windows base images).
    DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    /// Docker schema 1 manifest, unsigned.
    DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json";
    /// Docker schema 1 manifest, signed.
    DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// OCI manifest.
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
    /// OCI index.
    OCI_INDEX = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, gzip.
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, not compressed.
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, zstd.
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd";
}

impl MediaType {
    /// From a document or a header; parameters such as `; charset=utf-8` are cut off.
    pub fn new(text: &str) -> MediaType {
        let essence = text.split(';').next().unwrap_or_default().trim();
        MediaType(Cow::Owned(essence.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of Docker's.
    pub fn is_docker(&self) -> bool {
        self.0.starts_with("application/vnd.docker.")
    }

    /// Whether it is one of the OCI's.
    pub fn is_oci(&self) -> bool {
        self.0.starts_with("application/vnd.oci.")
    }

    /// Whether it is a single image's manifest.
    pub fn is_manifest(&self) -> bool {
        *self == Self::DOCKER_MANIFEST || *self == Self::OCI_MANIFEST
    }

    /// Whether it is a list of manifests.
    pub fn is_index(&self) -> bool {
        *self == Self::DOCKER_INDEX || *self == Self::OCI_INDEX
    }

    /// Whether it is the config of a container image.
    pub fn is_config(&self) -> bool {
        *self == Self::DOCKER_CONFIG || *self == Self::OCI_CONFIG
    }

    /// Whether it is a layer of a root filesystem that a registry holds.
    pub fn is_layer(&self) -> bool {
        self.compression().is_some()
    }

    /// Whether it is a layer that registries do not keep.
    pub fn is_foreign(&self) -> bool {
        self.0.contains(".foreign.") || self.0.contains(".nondistributable.")
    }

    /// How a layer of this type is compressed, at the level Zuwai would use; `None` for what is no layer. What the bytes
    /// really are is seen from the bytes: some registries hold plain tars that are called gzip.
    pub fn compression(&self) -> Option<Compression> {
        match self.as_str() {
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => Some(Compression::GZIP),
            "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Some(Compression::ZSTD),
            "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar" => Some(Compression::None),
            _ => None,
        }
    }

    /// What a layer with this compression is called in an image of this format.
    pub fn of_layer(compression: Compression, format: ImageFormat) -> MediaType {
        match (format, compression) {
            (ImageFormat::Docker, Compression::Gzip { .. }) => Self::DOCKER_LAYER_GZIP,
            (ImageFormat::Docker, Compression::Zstd { .. }) => Self::DOCKER_LAYER_ZSTD,
            (ImageFormat::Docker, Compression::None) => Self::DOCKER_LAYER,
            (ImageFormat::Oci, Compression::Gzip { .. }) => Self::OCI_LAYER_GZIP,
            (ImageFormat::Oci, Compression::Zstd { .. }) => Self::OCI_LAYER_ZSTD,
            (ImageFormat::Oci, Compression::None) => Self::OCI_LAYER,
        }
    }

    /// The same thing's name in an image of this format; unknown types stay as they are.
    #[must_use]
    pub fn in_format(&self, format: ImageFormat) -> MediaType {
        if let Some(compression) = self.compression() {
            return MediaType::of_layer(compression, format);
        }
        match format {
            ImageFormat::Docker if self.is_manifest() => Self::DOCKER_MANIFEST,
            ImageFormat::Docker if self.is_index() => Self::DOCKER_INDEX,
            ImageFormat::Docker if self.is_config() => Self::DOCKER_CONFIG,
            ImageFormat::Oci if self.is_manifest() => Self::OCI_MANIFEST,
            ImageFormat::Oci if self.is_index() => Self::OCI_INDEX,
            ImageFormat::Oci if self.is_config() => Self::OCI_CONFIG,
            _ => self.clone(),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_header_are_cut_off() {
        let media_type = MediaType::new("application/vnd.oci.image.manifest.v1+json; charset=utf-8");
        assert_eq!(media_type, MediaType::OCI_MANIFEST);
    }

    #[test]
    fn every_known_type_has_a_counterpart_in_the_other_format() {
        for (docker, oci) in [
            (MediaType::DOCKER_MANIFEST, MediaType::OCI_MANIFEST),
            (MediaType::DOCKER_INDEX, MediaType::OCI_INDEX),
            (MediaType::DOCKER_CONFIG, MediaType::OCI_CONFIG),
            (MediaType::DOCKER_LAYER, MediaType::OCI_LAYER),
            (MediaType::DOCKER_LAYER_GZIP, MediaType::OCI_LAYER_GZIP),
            (MediaType::DOCKER_LAYER_ZSTD, MediaType::OCI_LAYER_ZSTD),
        ] {
            assert_eq!(docker.in_format(ImageFormat::Oci), oci);
            assert_eq!(oci.in_format(ImageFormat::Docker), docker);
            assert_eq!(oci.in_format(ImageFormat::Oci), oci);
            assert!(docker.is_docker() && oci.is_oci());
        }
    }

    #[test]
    fn a_foreign_layer_is_not_a_layer_a_registry_holds() {
        assert!(!MediaType::DOCKER_FOREIGN_LAYER.is_layer());
        assert!(!MediaType::new("application/vnd.cncf.helm.chart.content.v1.tar+gzip").is_layer());
    }
}
