//! An image to registries: blobs first, at each of them, the manifests last, so that a tag never names what is not there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::task::JoinSet;

use super::endpoint::Place;
use super::error::RegistryError;
use super::http::{Call, Payload};
use super::session::{Purpose, Session, call, scopes};
use super::token::Scopes;
use super::upload::{Blob, stored_as_sent};
use crate::blob::BytesBlob;
use crate::image::{Digest, Encoded, Image, Layer, Reference};

/// What registries say that refuse to move a tag: Amazon's, Google's and others' words.
const IMMUTABLE: [&str; 4] = [
    "The repository has enabled tag immutability",
    "cannot be overwritten because the tag is immutable",
    "cannot be overwritten because the repository is immutable",
    "tag is immutable",
];

impl Session {
    /// All blobs to all destinations, and only then the manifests: a registry that cannot take the image leaves the tags at
    /// the others as they were.
    pub(super) async fn push(
        self: &Arc<Self>,
        image: &Image,
        encoded: &Encoded,
        references: &[Reference],
    ) -> Result<(), RegistryError> {
        let mut tries = vec![0; references.len()];
        for (reference, tries) in references.iter().zip(&mut tries) {
            while let Err(error) = self.push_blobs_to(image, encoded, reference).await {
                self.another_try(tries, error).await?;
            }
        }
        for (reference, tries) in references.iter().zip(&mut tries) {
            while let Err(error) = self.push_manifest(image, encoded, reference).await {
                if self.options.ignore_immutable_tag_errors && is_immutable_tag(&error) {
                    break;
                }
                self.another_try(tries, error).await?;
            }
        }
        Ok(())
    }

    /// Waits before the destination is tried again, as often as the caller asked for; the error when that was it.
    async fn another_try(&self, tries: &mut u32, error: RegistryError) -> Result<(), RegistryError> {
        if *tries >= self.options.push_retry {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_secs(1 << (*tries).min(6))).await;
        *tries += 1;
        Ok(())
    }

    async fn push_blobs_to(
        self: &Arc<Self>,
        image: &Image,
        encoded: &Encoded,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        let place = self.place(reference, Purpose::Push, false).await?;
        self.push_blobs(&place, image, encoded).await
    }

    /// The manifest, after the blobs.
    async fn push_manifest(
        self: &Arc<Self>,
        image: &Image,
        encoded: &Encoded,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        let place = self.place(reference, Purpose::Push, false).await?;
        match self.put_manifest(&place, encoded).await {
            Err(error) if misses_a_blob(&error) => {
                // The registry lost a blob since it said that it has it. Once more from the beginning.
                self.forget(&place);
                self.push_blobs(&place, image, encoded).await?;
                self.put_manifest(&place, encoded).await
            }
            other => other,
        }
    }

    /// Layers and config side by side. The first failure ends it; what is on its way then is given up.
    async fn push_blobs(
        self: &Arc<Self>,
        place: &Place,
        image: &Image,
        encoded: &Encoded,
    ) -> Result<(), RegistryError> {
        let mut blobs: Vec<Blob> = image.layers.iter().map(layer_blob).collect();
        blobs.push(Blob {
            digest: encoded.config_descriptor.digest.clone(),
            size: encoded.config_descriptor.size,
            source: Arc::new(BytesBlob::new(encoded.config.clone())),
            origin: None,
        });
        let mut uploads = JoinSet::new();
        for blob in blobs {
            let (session, place) = (Arc::clone(self), place.clone());
            uploads.spawn(async move { session.ensure_blob(&place, &blob).await });
        }
        while let Some(result) = uploads.join_next().await {
            result.map_err(|error| RegistryError::Io {
                attempted: format!("push to {}", place.reference),
                source: std::io::Error::other(error),
            })??;
        }
        Ok(())
    }

    /// A layer alone, before its image is done: the push finds it there.
    pub(super) async fn push_layer(&self, layer: &Layer, reference: &Reference) -> Result<(), RegistryError> {
        let place = self.place(reference, Purpose::Push, false).await?;
        self.ensure_blob(&place, &layer_blob(layer)).await
    }

    async fn put_manifest(&self, place: &Place, encoded: &Encoded) -> Result<(), RegistryError> {
        let digest = &encoded.descriptor.digest;
        let media_type = encoded.descriptor.media_type.as_str();
        let identifier = place.reference.identifier();
        let mut request = Call {
            body: Payload::Bytes(Bytes::copy_from_slice(&encoded.manifest)),
            ..call(format!("push {}", place.reference), Method::PUT, place.url(&format!("manifests/{identifier}")))
        };
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_str(media_type).expect("our media types are headers"));
        let expected = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED, StatusCode::NO_CONTENT];
        let response = self.expect(place, &scopes(place, true), &request, &expected).await?;
        stored_as_sent(place, "manifest", digest, &response)
    }

    /// Asks for the right to push by beginning an upload and giving it up.
    pub(super) async fn check_push(&self, reference: &Reference) -> Result<(), RegistryError> {
        let attempted = format!("check the permission to push to {reference}");
        let place = self.place(reference, Purpose::Push, false).await?;
        let begin = || self.begin_upload(&place, &attempted);
        let upload = super::retry::repeat(&self.options.retry, begin).await?;
        // An upload that cannot be given up expires by itself. The right to is another one than the right to push.
        let delete = Scopes::from([format!("repository:{}:delete,pull,push", place.repository())]);
        let _ = self.send(&place, &delete, &call(attempted.as_str(), Method::DELETE, upload)).await;
        Ok(())
    }

    /// The digest a name stands for, without fetching what it names; `None` when there is no such image.
    pub(super) async fn digest(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        let place = self.place(reference, Purpose::Pull, false).await?;
        match self.manifest(&place, &reference.identifier()).await {
            Ok(document) => Ok(Some(document.digest)),
            Err(RegistryError::ManifestUnknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn layer_blob(layer: &Layer) -> Blob {
    Blob {
        digest: layer.descriptor.digest.clone(),
        size: layer.descriptor.size,
        source: Arc::clone(&layer.blob),
        origin: layer.origin.clone(),
    }
}

fn is_immutable_tag(error: &RegistryError) -> bool {
    let text = error.to_string();
    IMMUTABLE.iter().any(|words| text.contains(words))
}

fn misses_a_blob(error: &RegistryError) -> bool {
    match error {
        RegistryError::Status { code: 400 | 404, message, .. } => {
            message.contains("MANIFEST_BLOB_UNKNOWN")
                || message.contains("BLOB_UNKNOWN")
                || message.contains("blob unknown")
        }
        _ => false,
    }
}
