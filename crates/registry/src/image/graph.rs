//! An image as somebody else stored it: a manifest, or an index with all it lists, byte for byte. What only passes through
//! is moved in this form, so that every digest stays what it was.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use super::{
    Descriptor, Digest, Encoded, Image, ImageConfig, ImageFormat, Index, Layer, Manifest, MediaType, Platform,
    Reference,
};
use crate::blob::{BlobSource, BytesBlob};
use crate::client::RegistryError;

/// A manifest or an index with its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its media type, digest and size, with what an index that lists it says besides.
    pub descriptor: Descriptor,
    /// Its bytes: never printed anew.
    pub bytes: Vec<u8>,
}

/// A blob and where its bytes are. Cheap to clone: the bytes are shared.
#[derive(Clone)]
pub struct Blob {
    /// Type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes.
    pub source: Arc<dyn BlobSource>,
    /// A repository that holds the blob, so that the same registry can mount it into another; `None` for new ones.
    pub origin: Option<Reference>,
}

/// A document with everything it refers to. For an index: the documents it lists, each with its own blobs. For a manifest:
/// config and layers, in that order.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The manifest or index itself.
    pub document: Document,
    /// What an index lists, in its order; empty for a manifest.
    pub manifests: Vec<Graph>,
    /// What a manifest refers to; empty for an index.
    pub blobs: Vec<Blob>,
}

/// How deep indexes may lie in indexes.
pub(crate) const DEEPEST_INDEX: usize = 4;

/// The largest manifest or index that is read. Registries keep at most 4 MiB.
pub(crate) const LARGEST_MANIFEST: u64 = 8 * 1024 * 1024;

/// How many bytes the documents of one graph may have together. An index of every platform there is has a hundredth of it; one
/// that lists large documents again and again must not fill the memory.
pub(crate) struct DocumentBudget(u64);

const LARGEST_GRAPH: u64 = 64 * 1024 * 1024;

impl DocumentBudget {
    pub(crate) fn new() -> DocumentBudget {
        DocumentBudget(LARGEST_GRAPH)
    }

    /// Counts a document; an error when that is too much. `name` is for it.
    pub(crate) fn count(&mut self, bytes: u64, name: &str) -> Result<(), RegistryError> {
        let what = "index, with all that it lists,";
        let too_large = || RegistryError::TooLarge { what, reference: name.to_owned(), limit: LARGEST_GRAPH };
        self.0 = self.0.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    }
}

/// The largest config that is read.
pub(crate) const LARGEST_CONFIG: u64 = 16 * 1024 * 1024;

/// What a document refers to.
pub(crate) enum Parts {
    /// Of an index: documents.
    Index(Vec<Descriptor>),
    /// Of a manifest: config and layers.
    Manifest(Vec<Descriptor>),
}

impl Document {
    /// A document of these bytes.
    pub fn new(media_type: MediaType, bytes: Vec<u8>) -> Document {
        Document { descriptor: Descriptor::of(media_type, &bytes), bytes }
    }

    /// What it refers to. `name` is for errors. Layers that no registry holds (foreign ones) are left out: they are not
    /// moved.
    pub(crate) fn parts(&self, name: &str) -> Result<Parts, RegistryError> {
        let media_type = &self.descriptor.media_type;
        let unreadable = |what, source| RegistryError::Document { what, reference: name.to_owned(), source };
        if media_type.is_index() {
            let index: Index = serde_json::from_slice(&self.bytes).map_err(|error| unreadable("index", error))?;
            return Ok(Parts::Index(index.manifests));
        }
        if media_type.is_manifest() {
            let manifest: Manifest =
                serde_json::from_slice(&self.bytes).map_err(|error| unreadable("manifest", error))?;
            let mut blobs = vec![manifest.config];
            let elsewhere = |layer: &Descriptor| layer.media_type.is_foreign() && !layer.urls.is_empty();
            blobs.extend(manifest.layers.into_iter().filter(|layer| !elsewhere(layer)));
            return Ok(Parts::Manifest(blobs));
        }
        Err(RegistryError::MediaType {
            what: "manifest".to_owned(),
            reference: name.to_owned(),
            media_type: media_type.to_string(),
        })
    }
}

impl Graph {
    /// The image for a platform, its config read now and its layers when they are opened. Indexes are looked through as a
    /// pull does; `name` is what errors call it.
    pub fn image(&self, platform: &Platform, name: &str) -> Result<Image, RegistryError> {
        let mut graph = self;
        while graph.document.descriptor.media_type.is_index() {
            let index: Index = serde_json::from_slice(&graph.document.bytes)
                .map_err(|source| RegistryError::Document { what: "index", reference: name.to_owned(), source })?;
            let chosen = index.choose(platform, name)?;
            let listed = graph.manifests.iter().find(|listed| listed.document.descriptor.digest == chosen.digest);
            graph = listed.ok_or_else(|| RegistryError::NotAnImage {
                reference: name.to_owned(),
                reason: format!("its index lists {}, which is not there", chosen.digest),
            })?;
        }
        let manifest: Manifest = serde_json::from_slice(&graph.document.bytes)
            .map_err(|source| RegistryError::Document { what: "manifest", reference: name.to_owned(), source })?;
        let config: ImageConfig = serde_json::from_slice(&graph.config(name)?)
            .map_err(|source| RegistryError::Document { what: "config", reference: name.to_owned(), source })?;
        manifest.check(&config, name)?;
        let format = if manifest.is_docker() { ImageFormat::Docker } else { ImageFormat::Oci };
        let layer = |(descriptor, diff_id): (&Descriptor, &Digest)| {
            let blob = graph.blobs.iter().find(|blob| blob.descriptor.digest == descriptor.digest);
            let blob = blob.ok_or_else(|| RegistryError::NotAnImage {
                reference: name.to_owned(),
                reason: format!("its layer {} is kept elsewhere", descriptor.digest),
            })?;
            Ok(Layer {
                descriptor: descriptor.clone(),
                diff_id: diff_id.clone(),
                blob: Arc::clone(&blob.source),
                origin: blob.origin.clone(),
            })
        };
        let layers: Result<Vec<Layer>, RegistryError> =
            manifest.layers.iter().zip(&config.rootfs.diff_ids).map(layer).collect();
        Ok(Image { layers: layers?, config, format, annotations: manifest.annotations })
    }

    /// Every blob of it and of all it lists, each once.
    pub fn all_blobs(&self) -> Vec<&Blob> {
        let mut seen: BTreeSet<&Digest> = BTreeSet::new();
        let mut blobs = Vec::new();
        for graph in self.documents() {
            blobs.extend(graph.blobs.iter().filter(|blob| seen.insert(&blob.descriptor.digest)));
        }
        blobs
    }

    /// It and all it lists, whatever is referred to before what refers to it: the order in which a registry takes them.
    pub fn documents(&self) -> Vec<&Graph> {
        let mut documents: Vec<&Graph> = self.manifests.iter().flat_map(Graph::documents).collect();
        documents.push(self);
        documents
    }

    /// The bytes of a manifest's config.
    fn config(&self, name: &str) -> Result<Vec<u8>, RegistryError> {
        let missing =
            || RegistryError::NotAnImage { reference: name.to_owned(), reason: "it has no config".to_owned() };
        let config = self.blobs.first().ok_or_else(missing)?;
        let descriptor = &config.descriptor;
        if !descriptor.media_type.is_config() {
            return Err(RegistryError::MediaType {
                what: "config".to_owned(),
                reference: name.to_owned(),
                media_type: descriptor.media_type.to_string(),
            });
        }
        if descriptor.size > LARGEST_CONFIG {
            let reference = name.to_owned();
            return Err(RegistryError::TooLarge { what: "config", reference, limit: LARGEST_CONFIG });
        }
        let mut bytes = Vec::new();
        let read = config.source.open().and_then(|reader| reader.take(descriptor.size + 1).read_to_end(&mut bytes));
        read.map_err(|source| RegistryError::Io { attempted: format!("cannot read the config of {name}"), source })?;
        let got = Digest::of_kind(descriptor.digest.algorithm(), &bytes);
        if got != descriptor.digest {
            let (expected, origin) = (descriptor.digest.clone(), name.to_owned());
            return Err(RegistryError::DigestMismatch { what: "config", expected, origin, got });
        }
        Ok(bytes)
    }
}

impl Image {
    /// The image as its printed documents and its blobs.
    pub fn graph(&self, encoded: &Encoded) -> Graph {
        let config = Blob {
            descriptor: encoded.config_descriptor.clone(),
            source: Arc::new(BytesBlob::new(encoded.config.clone())),
            origin: None,
        };
        let layers =
            self.layers.iter().map(|layer| Blob { descriptor: layer.described_in(self.format), ..layer.to_blob() });
        Graph {
            document: Document { descriptor: encoded.descriptor.clone(), bytes: encoded.manifest.clone() },
            manifests: Vec::new(),
            blobs: [config].into_iter().chain(layers).collect(),
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Blob")
            .field("descriptor", &self.descriptor)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
