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
use super::upload::stored_as_sent;
use crate::image::{Blob, Digest, Document, Graph, Reference};

/// What registries say that refuse to move a tag: Amazon's, Google's and others' words.
const IMMUTABLE: [&str; 4] = [
    "The repository has enabled tag immutability",
    "cannot be overwritten because the tag is immutable",
    "cannot be overwritten because the repository is immutable",
    "tag is immutable",
];

/// Who asks whether something can be left out does not wait longer for an answer.
const LONGEST_QUESTION: Duration = Duration::from_secs(5);

impl Session {
    /// All blobs to all destinations, and only then the manifests: a registry that cannot take the image leaves the tags at
    /// the others as they were.
    pub(super) async fn push(self: &Arc<Self>, graph: &Graph, references: &[Reference]) -> Result<(), RegistryError> {
        let mut tries = vec![0; references.len()];
        for (reference, tries) in references.iter().zip(&mut tries) {
            while let Err(error) = self.push_blobs_to(graph, reference).await {
                self.another_try(tries, error).await?;
            }
        }
        for (reference, tries) in references.iter().zip(&mut tries) {
            while let Err(error) = self.push_documents_to(graph, reference).await {
                if self.options.ignore_immutable_tag_errors && error.is_immutable_tag() {
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

    async fn push_blobs_to(self: &Arc<Self>, graph: &Graph, reference: &Reference) -> Result<(), RegistryError> {
        let place = self.place(reference, Purpose::Push, false).await?;
        self.push_blobs(&place, graph).await
    }

    /// The documents, after the blobs.
    async fn push_documents_to(self: &Arc<Self>, graph: &Graph, reference: &Reference) -> Result<(), RegistryError> {
        let place = self.place(reference, Purpose::Push, false).await?;
        match self.put_documents(&place, graph).await {
            Err(error) if misses_a_blob(&error) => {
                // The registry lost a blob since it said that it has it. Once more from the beginning.
                self.forget(&place);
                self.push_blobs(&place, graph).await?;
                self.put_documents(&place, graph).await
            }
            other => other,
        }
    }

    /// Layers and configs side by side. The first failure ends it; what is on its way then is given up.
    async fn push_blobs(self: &Arc<Self>, place: &Place, graph: &Graph) -> Result<(), RegistryError> {
        let mut uploads = JoinSet::new();
        for blob in graph.all_blobs() {
            let (session, place, blob) = (Arc::clone(self), place.clone(), blob.clone());
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

    /// A blob alone, before whatever refers to it is there: the push finds it.
    pub(super) async fn push_blob(&self, blob: &Blob, reference: &Reference) -> Result<(), RegistryError> {
        let place = self.place(reference, Purpose::Push, false).await?;
        self.ensure_blob(&place, blob).await
    }

    /// What an index lists goes by its digest, and before the index.
    async fn put_documents(&self, place: &Place, graph: &Graph) -> Result<(), RegistryError> {
        let documents = graph.documents();
        let (root, listed) = documents.split_last().expect("a graph has its own document");
        for part in listed {
            let identifier = part.document.descriptor.digest.to_string();
            self.put_document(place, &part.document, &identifier).await?;
        }
        self.put_document(place, &root.document, &place.reference.identifier()).await
    }

    /// One manifest or index, whose blobs are there.
    pub(super) async fn push_document(&self, document: &Document, reference: &Reference) -> Result<(), RegistryError> {
        let place = self.place(reference, Purpose::Push, false).await?;
        self.put_document(&place, document, &reference.identifier()).await
    }

    async fn put_document(&self, place: &Place, document: &Document, identifier: &str) -> Result<(), RegistryError> {
        let Document { descriptor, bytes } = document;
        let attempted = format!("push {}", place.reference);
        let media_type =
            HeaderValue::from_str(descriptor.media_type.as_str()).map_err(|_| RegistryError::MediaType {
                what: "manifest".to_owned(),
                reference: place.reference.to_string(),
                media_type: descriptor.media_type.to_string(),
            })?;
        let mut request = Call {
            body: Payload::Bytes(Bytes::copy_from_slice(bytes)),
            ..call(attempted, Method::PUT, place.url(&format!("manifests/{identifier}")))
        };
        request.headers.insert(CONTENT_TYPE, media_type);
        let expected = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED, StatusCode::NO_CONTENT];
        let response = self.expect(place, &scopes(place, true), &request, &expected).await?;
        stored_as_sent(place, "manifest", &descriptor.digest, &response)
    }

    /// Asks for the right to push by beginning an upload and giving it up.
    pub(super) async fn check_push(&self, reference: &Reference) -> Result<(), RegistryError> {
        let attempted = format!("check the permission to push to {reference}");
        let place = self.place(reference, Purpose::Push, false).await?;
        let upload = self.begin_upload(&place, &attempted).await?;
        // An upload that cannot be given up expires by itself. The right to is another one than the right to push.
        let delete = Scopes::from([format!("repository:{}:delete,pull,push", place.repository())]);
        let _ = self.send(&place, &delete, &call(attempted.as_str(), Method::DELETE, upload)).await;
        Ok(())
    }

    /// Shows the registry the credential, and asks for nothing.
    pub(super) async fn check_login(&self, reference: &Reference) -> Result<(), RegistryError> {
        let place = self.place(reference, Purpose::Push, false).await?;
        let url = place.endpoint.base.join("v2/").expect("a base takes a path");
        let request = call(format!("log in to {}", reference.registry()), Method::GET, url);
        self.expect(&place, &Scopes::new(), &request, &[StatusCode::OK]).await.map(drop)
    }

    /// Whether each of these repositories is known to have the blob, asked as who pushes to them asks, but not for long.
    pub(super) async fn all_have(&self, references: &[&Reference], digest: &Digest) -> bool {
        let asked = async {
            for reference in references {
                let place = self.place(reference, Purpose::Push, false).await?;
                if !self.holds_blob(&place, digest, &scopes(&place, true)).await? {
                    return Ok(false);
                }
            }
            Ok::<_, RegistryError>(true)
        };
        matches!(tokio::time::timeout(LONGEST_QUESTION, asked).await, Ok(Ok(true)))
    }

    /// Whether the repository has the blob.
    pub(super) async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool, RegistryError> {
        let place = self.place(reference, Purpose::Pull, false).await?;
        self.holds_blob(&place, digest, &scopes(&place, false)).await
    }
}

impl RegistryError {
    /// Whether the registry refuses to let a tag name something else than it did.
    pub fn is_immutable_tag(&self) -> bool {
        let text = self.to_string();
        IMMUTABLE.iter().any(|words| text.contains(words))
    }
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
