//! Manifests that a repository keeps under tags, asked for many at once: what a cache of layers is read with. No mirror is
//! asked, no config and no layer is fetched.

use std::sync::Arc;

use reqwest::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Client;
use super::download::{Download, LazyBlob, Source};
use super::endpoint::Place;
use super::error::RegistryError;
use super::pull::parse;
use super::session::{Purpose, Session, call, header, scopes};
use crate::blob::BlobDir;
use crate::image::{Descriptor, Digest, ImageConfig, Layer, Manifest, Reference};

/// How many tags are asked for at a time.
const ASKED_AT_ONCE: usize = 16;

/// What a repository keeps under a tag.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The manifest, verified against the digest that the registry gave with it.
    pub manifest: Manifest,
    /// Its digest.
    pub digest: Digest,
}

impl Client {
    /// What a repository keeps under each of these tags, in their order; `None` where there is no such tag, or the
    /// manifest names a layer that the repository has lost. All are asked for at once over the client's connections.
    pub fn stored(&self, references: &[Reference]) -> Vec<Result<Option<Stored>, RegistryError>> {
        let session = &self.engine.session;
        let asked = self.engine.block_on_unless_cancelled(async {
            let turns = Arc::new(Semaphore::new(ASKED_AT_ONCE));
            let mut asked = JoinSet::new();
            for (number, reference) in references.iter().enumerate() {
                let (session, reference, turns) = (Arc::clone(session), reference.clone(), Arc::clone(&turns));
                asked.spawn(async move {
                    // It is never closed: there is always a turn.
                    let _turn = turns.acquire().await.ok();
                    (number, session.stored(&reference).await)
                });
            }
            let mut answers: Vec<_> = references.iter().map(|_| Ok(None)).collect();
            while let Some(answer) = asked.join_next().await {
                // What panicked counts as not found.
                if let Ok((number, answer)) = answer {
                    answers[number] = answer;
                }
            }
            Ok(answers)
        });
        asked.unwrap_or_else(|_| references.iter().map(|_| Err(RegistryError::Cancelled)).collect())
    }

    /// A layer of a manifest that [`Client::stored`] found. Its bytes are fetched into `blobs` when it is opened; pushed to
    /// the same registry, it is mounted and not fetched at all.
    pub fn stored_layer(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        diff_id: &Digest,
        blobs: &BlobDir,
    ) -> Result<Layer, RegistryError> {
        let place =
            self.engine.block_on_unless_cancelled(self.engine.session.place(reference, Purpose::Push, false))?;
        let source = Source { places: vec![place], descriptor: descriptor.clone(), blobs: blobs.clone() };
        Ok(Layer {
            blob: Arc::new(LazyBlob::new(Arc::clone(&self.engine), Download::new(source))),
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            origin: Some(reference.clone()),
        })
    }

    /// The config of a manifest that [`Client::stored`] found.
    pub fn stored_config(&self, reference: &Reference, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        let session = &self.engine.session;
        self.engine.block_on_unless_cancelled(async {
            let place = session.place(reference, Purpose::Push, false).await?;
            session.config(&place, manifest).await
        })
    }
}

impl Session {
    async fn stored(&self, reference: &Reference) -> Result<Option<Stored>, RegistryError> {
        // The flags for pushing hold for a cache: what is read here was pushed there.
        let place = self.place(reference, Purpose::Push, false).await?;
        let document = match self.manifest(&place, &reference.identifier()).await {
            Ok(document) => document,
            Err(RegistryError::ManifestUnknown { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !document.descriptor.media_type.is_manifest() {
            return Ok(None);
        }
        let manifest: Manifest = parse("manifest", &document.bytes, &place)?;
        for layer in &manifest.layers {
            if !self.keeps(&place, layer).await? {
                return Ok(None);
            }
        }
        Ok(Some(Stored { manifest, digest: document.descriptor.digest }))
    }

    /// Whether the repository has a blob of that digest and size.
    async fn keeps(&self, place: &Place, blob: &Descriptor) -> Result<bool, RegistryError> {
        let attempted = format!("ask for blob {} in {}", blob.digest, place.reference.name());
        let request = call(attempted, Method::HEAD, place.url(&format!("blobs/{}", blob.digest)));
        let known = [StatusCode::OK, StatusCode::NOT_FOUND];
        let response = self.expect(place, &scopes(place, false), &request, &known).await?;
        let size = header(&response, "content-length").and_then(|length| length.parse::<u64>().ok());
        Ok(response.status() == StatusCode::OK && size.is_none_or(|size| size == blob.size))
    }
}
