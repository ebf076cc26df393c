//! Where entries are kept: a repository of a registry, or a folder in OCI layout.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use zuwai_registry::{
    BlobDir, Client, Descriptor, Digest, Image, ImageConfig, Layer, Manifest, Reference, RegistryError, Shelf, Stored,
};

use super::entry;

/// A place for entries. It may be used from several threads, and by several builds at once.
pub(crate) trait Cache: Send + Sync {
    /// What it is called in messages.
    fn name(&self) -> String;

    /// What is kept under each of these tags, in their order; all are asked for at once.
    fn get(&self, tags: &[String]) -> Vec<Result<Option<Stored>, RegistryError>>;

    /// The layer of a manifest that was found under the tag; its bytes come when it is opened.
    fn layer(&self, tag: &str, layer: &Descriptor, diff_id: &Digest) -> Result<Layer, RegistryError>;

    /// The config of a manifest that was found under the tag.
    fn config(&self, tag: &str, manifest: &Manifest) -> Result<ImageConfig, RegistryError>;

    /// Keeps an image under the tag, in place of what was there.
    fn put(&self, tag: &str, image: &Image) -> Result<(), RegistryError>;

    /// Removes what nobody used for so long, where that is ours to do; a registry has rules of its own for it.
    fn tidy(&self, _ttl: Duration) -> Result<(), RegistryError> {
        Ok(())
    }
}

/// Entries as tags of a repository.
pub(super) struct Repository {
    pub(super) client: Client,
    pub(super) place: Reference,
    /// Where bytes go that are fetched.
    pub(super) blobs: BlobDir,
}

impl Repository {
    fn reference(&self, tag: &str) -> Reference {
        self.place.with_tag(tag).expect("our tags are letters, digits and dashes")
    }
}

impl Cache for Repository {
    fn name(&self) -> String {
        self.place.name()
    }

    fn get(&self, tags: &[String]) -> Vec<Result<Option<Stored>, RegistryError>> {
        self.client.stored(&tags.iter().map(|tag| self.reference(tag)).collect::<Vec<_>>())
    }

    fn layer(&self, tag: &str, layer: &Descriptor, diff_id: &Digest) -> Result<Layer, RegistryError> {
        self.client.stored_layer(&self.reference(tag), layer, diff_id, &self.blobs)
    }

    fn config(&self, tag: &str, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        self.client.stored_config(&self.reference(tag), manifest)
    }

    fn put(&self, tag: &str, image: &Image) -> Result<(), RegistryError> {
        self.client.push(image, &[self.reference(tag)]).map(drop)
    }
}

impl Cache for Shelf {
    fn name(&self) -> String {
        self.folder().display().to_string()
    }

    fn get(&self, tags: &[String]) -> Vec<Result<Option<Stored>, RegistryError>> {
        match self.stored(tags) {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }
    }

    fn layer(&self, _: &str, layer: &Descriptor, diff_id: &Digest) -> Result<Layer, RegistryError> {
        Ok(Shelf::layer(self, layer, diff_id))
    }

    fn config(&self, _: &str, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        Shelf::config(self, manifest)
    }

    fn put(&self, tag: &str, image: &Image) -> Result<(), RegistryError> {
        Shelf::put(self, tag, image)
    }

    /// Entries of others in the folder stay.
    fn tidy(&self, ttl: Duration) -> Result<(), RegistryError> {
        let now = SystemTime::now();
        self.prune(|tag, manifest| {
            let created = manifest.annotations.get(entry::CREATED).and_then(|text| text.parse::<Timestamp>().ok());
            let age = created.and_then(|created| now.duration_since(created.into()).ok()).unwrap_or_default();
            !tag.starts_with(entry::TAG) || age <= ttl
        })
    }
}
