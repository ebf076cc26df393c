//! Images of the lab's own making and images that were built, as OCI image layouts: written and read by code that shares
//! nothing with zuwai's.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::packing::{Packing, pack, unpack};

/// The media types the lab writes and reads.
pub mod media {
    /// OCI's index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI's manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI's image config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI's layer, plain; `+gzip` and `+zstd` are the compressed ones.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Docker's list of manifests.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer, always gzip.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One layer in a layout.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its descriptor.
    pub descriptor: Value,
    /// The digest of the plain tar, `sha256:…`.
    pub diff_id: String,
}

/// A folder in OCI image layout.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Begins a new one in an existing folder.
    pub fn create(folder: &Path) -> Result<Self> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("make {}", blobs.display()))?;
        write(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let layout = Self { folder: folder.to_owned() };
        layout.point_to(&[])?;
        Ok(layout)
    }

    /// Opens one that is there.
    pub fn open(folder: &Path) -> Result<Self> {
        let marker = folder.join("oci-layout");
        ensure!(marker.is_file(), "{} is no OCI image layout: it has no file oci-layout", folder.display());
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a blob is.
    pub fn blob_path(&self, digest: &str) -> Result<PathBuf> {
        let hex = digest.strip_prefix("sha256:").with_context(|| format!("{digest} is no SHA-256 digest"))?;
        Ok(self.folder.join("blobs/sha256").join(hex))
    }

    /// A whole blob, checked against its name.
    pub fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.blob_path(digest)?;
        let bytes = fs::read(&path).with_context(|| format!("read the blob {}", path.display()))?;
        ensure!(format!("sha256:{}", sha256(&bytes)) == digest, "the blob {} has other bytes", path.display());
        Ok(bytes)
    }

    /// A blob that is a JSON document.
    pub fn document(&self, digest: &str) -> Result<Value> {
        serde_json::from_slice(&self.blob(digest)?).with_context(|| format!("{digest} is no JSON"))
    }

    /// Adds a blob; its descriptor.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let hex = sha256(bytes);
        write(&self.folder.join("blobs/sha256").join(&hex), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()}))
    }

    /// Adds a document; its descriptor.
    pub fn put_document(&self, media_type: &str, document: &Value) -> Result<Value> {
        self.put(media_type, document.to_string().as_bytes())
    }

    /// Adds a layer from a tar stream.
    pub fn put_layer(&self, tar: &mut dyn Read, packing: Packing) -> Result<Layer> {
        let part = self.folder.join("blobs/sha256").join(format!("part-{}", std::process::id()));
        let file = File::create(&part).with_context(|| format!("make {}", part.display()))?;
        let (diff_id, digest, size) = pack(tar, file, packing).context("pack a layer")?;
        fs::rename(&part, self.folder.join("blobs/sha256").join(&digest)).context("name a layer")?;
        let suffix = match packing {
            Packing::Gzip | Packing::GzipMembers(_) => "+gzip",
            Packing::Zstd => "+zstd",
            Packing::Plain => "",
        };
        let media_type = format!("{}{suffix}", media::LAYER);
        Ok(Layer {
            descriptor: json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}),
            diff_id: format!("sha256:{diff_id}"),
        })
    }

    /// Adds the config and the manifest of an image of these layers; the manifest's descriptor with its platform. To
    /// `config` the root filesystem's section is added.
    pub fn put_image(&self, mut config: Value, layers: &[Layer]) -> Result<Value> {
        config["rootfs"] =
            json!({"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()});
        let platform = json!({"os": config["os"], "architecture": config["architecture"]});
        let config = self.put_document(media::CONFIG, &config)?;
        let layers: Vec<_> = layers.iter().map(|layer| &layer.descriptor).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers});
        let mut descriptor = self.put_document(media::MANIFEST, &manifest)?;
        descriptor["platform"] = platform;
        Ok(descriptor)
    }

    /// Writes `index.json`.
    pub fn point_to(&self, manifests: &[Value]) -> Result<()> {
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests});
        write(&self.folder.join("index.json"), index.to_string().as_bytes())
    }

    /// The descriptors in `index.json`.
    pub fn index(&self) -> Result<Vec<Value>> {
        let path = self.folder.join("index.json");
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let index: Value = serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", path.display()))?;
        index["manifests"].as_array().cloned().with_context(|| format!("{} lists no manifests", path.display()))
    }

    /// The plain tar of a layer.
    pub fn layer(&self, descriptor: &Value) -> Result<Vec<u8>> {
        let digest = text(descriptor, "digest")?;
        let blob = self.blob(digest)?;
        ensure!(
            descriptor["size"].as_u64() == Some(blob.len() as u64),
            "the descriptor of {digest} says {}, and there are {} bytes",
            descriptor["size"],
            blob.len()
        );
        unpack(text(descriptor, "mediaType")?, &blob).with_context(|| format!("unpack the layer {digest}"))
    }
}

/// A member of a document that is text.
pub fn text<'a>(document: &'a Value, member: &str) -> Result<&'a str> {
    document[member].as_str().with_context(|| format!("there is no text `{member}` in {document}"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packing_comes_out_as_it_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let tar: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for packing in [Packing::Gzip, Packing::GzipMembers(30_000), Packing::Zstd, Packing::Plain] {
            let layer = layout.put_layer(&mut tar.as_slice(), packing).unwrap();
            assert_eq!(layer.diff_id, format!("sha256:{}", sha256(&tar)));
            assert_eq!(layout.layer(&layer.descriptor).unwrap(), tar, "{packing:?}");
        }
    }

    #[test]
    fn a_blob_with_other_bytes_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let descriptor = layout.put("text/plain", b"abc").unwrap();
        let digest = text(&descriptor, "digest").unwrap();
        fs::write(layout.blob_path(digest).unwrap(), "abd").unwrap();
        assert!(layout.blob(digest).unwrap_err().to_string().contains("has other bytes"));
    }
}
