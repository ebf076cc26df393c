//! Reading an archive: which image is meant, and where its bytes are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::members::Members;
use crate::blob::{BlobDir, BlobSource, BytesBlob, CheckedBlob, FilePart};
use crate::client::RegistryError;
use crate::image::{
    Algorithm, Blob, Compression, Descriptor, Digest, Document, Graph, Hasher, ImageConfig, ImageFormat, Index,
    LARGEST_CONFIG, LARGEST_MANIFEST, Layer, LayerWriter, Manifest, MediaType, Seen, decompress, see_start,
};
use crate::layout::{MARKER, Named, graph_of, pick};

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Reads an archive that `docker save` wrote, or a tar of an OCI layout (`podman save --format=oci-archive`), compressed
/// with gzip or zstd or not at all. `name` chooses among several images.
///
/// Configs keep their bytes, and so do the manifests of a layout; `docker save` writes no manifest, so one of Docker's
/// family is made. Layers that are compressed stay as they are, others are compressed into `blobs`. A compressed archive is
/// decompressed into a file there, which is gone with the graph. Every layer is compared with its config's diff id.
pub fn read(path: &Path, name: Option<&str>, blobs: &BlobDir) -> Result<Graph, RegistryError> {
    let place = path.display().to_string();
    let unreadable = |source| RegistryError::Io { attempted: format!("cannot read archive {place}"), source };
    let file = plain_file(path, blobs).map_err(unreadable)?;
    let archive = Archive { members: Members::of(Arc::clone(&file)).map_err(unreadable)?, file, place: &place, blobs };
    if archive.members.has("manifest.json") {
        archive.docker(name)
    } else if archive.members.has(MARKER) {
        archive.layout(name)
    } else {
        let reason = format!("it has neither `manifest.json`, as docker save writes it, nor `{MARKER}`");
        Err(RegistryError::NotAnImage { reference: place, reason })
    }
}

/// The archive as a file that can be read anywhere: a compressed one and a pipe are copied first.
fn plain_file(path: &Path, blobs: &BlobDir) -> io::Result<Arc<File>> {
    let mut file = File::open(path)?;
    let is_file = file.metadata()?.is_file();
    if is_file {
        let mut start = [0; 4];
        let count = file.read(&mut start)?;
        file.rewind()?;
        if see_start(&start[..count]) == Seen::Plain {
            return Ok(Arc::new(file));
        }
    }
    let mut copy = tempfile::tempfile_in(blobs.path())?;
    io::copy(&mut decompress(file)?, &mut copy)?;
    Ok(Arc::new(copy))
}

struct Archive<'a> {
    members: Members,
    file: Arc<File>,
    place: &'a str,
    blobs: &'a BlobDir,
}

impl Archive<'_> {
    fn layout(&self, name: Option<&str>) -> Result<Graph, RegistryError> {
        let index: Index = self.document("index", "index.json", LARGEST_MANIFEST)?;
        let listed = index
            .manifests
            .iter()
            .map(|descriptor| Named { names: descriptor.annotations.values().cloned().collect(), image: descriptor });
        let descriptor = pick(listed.collect(), name, self.place)?;
        let blob = |descriptor: &Descriptor| -> Result<Arc<dyn BlobSource>, RegistryError> {
            let Descriptor { digest, size, .. } = descriptor;
            let member = format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
            let part = self.members.open(&member).map_err(|error| self.unreadable(error))?;
            if part.left != *size {
                let (got, expected) = (Some(part.left), *size);
                let origin = self.place.to_owned();
                return Err(RegistryError::SizeMismatch { digest: digest.clone(), origin, expected, got });
            }
            Ok(Arc::new(CheckedBlob::part(part.file, part.offset, *size, digest.clone())))
        };
        graph_of(descriptor, self.place, &blob)
    }

    fn docker(&self, name: Option<&str>) -> Result<Graph, RegistryError> {
        let entries: Vec<Entry> = self.document("manifest", "manifest.json", LARGEST_MANIFEST)?;
        let named =
            entries.into_iter().map(|entry| Named { names: entry.repo_tags.clone().unwrap_or_default(), image: entry });
        let entry = pick(named.collect(), name, self.place)?;
        let config_bytes = self.bytes("config", &entry.config, LARGEST_CONFIG)?;
        let config: ImageConfig =
            serde_json::from_slice(&config_bytes).map_err(|error| self.not_json("config", error))?;
        let diff_ids = &config.rootfs.diff_ids;
        if entry.layers.len() != diff_ids.len() {
            let reason = format!("it has {} layers and its config has {}", entry.layers.len(), diff_ids.len());
            return Err(RegistryError::NotAnImage { reference: self.place.to_owned(), reason });
        }
        let descriptor = Descriptor::of(MediaType::DOCKER_CONFIG, &config_bytes);
        let source: Arc<dyn BlobSource> = Arc::new(BytesBlob::new(config_bytes));
        let mut blobs = vec![Blob { descriptor, source, origin: None }];
        let mut known: BTreeMap<&Digest, Blob> = BTreeMap::new();
        for (member, diff_id) in entry.layers.iter().zip(diff_ids) {
            let blob = match known.get(diff_id) {
                Some(blob) => blob.clone(),
                None => self.layer(member, diff_id)?,
            };
            known.insert(diff_id, blob.clone());
            blobs.push(blob);
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::DOCKER_MANIFEST),
            config: blobs[0].descriptor.clone(),
            layers: blobs[1..].iter().map(|blob| blob.descriptor.clone()).collect(),
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).expect("our documents have string keys, and memory is written to");
        let mut document = Document::new(MediaType::DOCKER_MANIFEST, bytes);
        document.descriptor.platform = Some(config.platform()).filter(|platform| !platform.os.is_empty());
        Ok(Graph { document, manifests: Vec::new(), blobs })
    }

    /// A layer of the archive as a registry keeps it.
    fn layer(&self, member: &str, diff_id: &Digest) -> Result<Blob, RegistryError> {
        let failed =
            |source| RegistryError::Io { attempted: format!("cannot read layer {member} of {}", self.place), source };
        let part = self.members.open(member).map_err(failed)?;
        let (offset, size) = (part.offset, part.left);
        let mut start = Vec::new();
        FilePart { file: Arc::clone(&self.file), offset, left: size.min(4) }.read_to_end(&mut start).map_err(failed)?;
        let media_type = match see_start(&start) {
            Seen::Plain => return self.compressed(part, member, diff_id).map(|layer| layer.to_blob()),
            Seen::Gzip => MediaType::DOCKER_LAYER_GZIP,
            Seen::Zstd => MediaType::DOCKER_LAYER_ZSTD,
        };
        let mut hasher = HashingSink(Hasher::new(Algorithm::Sha256));
        io::copy(&mut { part }, &mut hasher).map_err(failed)?;
        let digest = hasher.0.finish();
        let source = CheckedBlob::part(Arc::clone(&self.file), offset, size, digest.clone());
        let descriptor = Descriptor::new(media_type, digest, size);
        let layer = Layer { descriptor, diff_id: diff_id.clone(), blob: Arc::new(source), origin: None };
        // To its end, where both digests are compared.
        layer.open_tar().and_then(|mut tar| io::copy(&mut tar, &mut io::sink())).map_err(failed)?;
        Ok(layer.to_blob())
    }

    fn compressed(&self, mut tar: FilePart, member: &str, diff_id: &Digest) -> Result<Layer, RegistryError> {
        let pack = || -> io::Result<Layer> {
            let mut writer = LayerWriter::new(self.blobs, Compression::GZIP, ImageFormat::Docker)?;
            io::copy(&mut tar, &mut writer)?;
            writer.finish()
        };
        let layer = { pack }().map_err(|source| RegistryError::Io {
            attempted: format!("cannot compress layer {member} of {}", self.place),
            source,
        })?;
        if layer.diff_id != *diff_id {
            let (expected, origin, got) = (diff_id.clone(), self.place.to_owned(), layer.diff_id);
            return Err(RegistryError::DigestMismatch { what: "layer", expected, origin, got });
        }
        Ok(layer)
    }

    fn document<T: serde::de::DeserializeOwned>(
        &self,
        what: &'static str,
        member: &str,
        limit: u64,
    ) -> Result<T, RegistryError> {
        serde_json::from_slice(&self.bytes(what, member, limit)?).map_err(|error| self.not_json(what, error))
    }

    fn bytes(&self, what: &'static str, member: &str, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let mut part = self.members.open(member).map_err(|error| self.unreadable(error))?;
        if part.left > limit {
            return Err(RegistryError::TooLarge { what, reference: self.place.to_owned(), limit });
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).map_err(|error| self.unreadable(error))?;
        Ok(bytes)
    }

    fn not_json(&self, what: &'static str, source: serde_json::Error) -> RegistryError {
        RegistryError::Document { what, reference: self.place.to_owned(), source }
    }

    fn unreadable(&self, source: io::Error) -> RegistryError {
        RegistryError::Io { attempted: format!("cannot read archive {}", self.place), source }
    }
}

struct HashingSink(Hasher);

impl Write for HashingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
