//! Blobs to a registry: asked for first, mounted from another repository where that is possible, and sent otherwise.
//!
//! A blob is sent whole, in one request. Pieces cost a round trip each, and do not make an upload that broke go on where it
//! broke: the distribution registry cancels an upload whose size is not the one its location was signed for.

use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::endpoint::Place;
use super::error::RegistryError;
use super::http::{Call, Payload};
use super::retry::pause;
use super::session::{Session, call, header, scopes};
use crate::blob::BlobSource;
use crate::image::{Digest, Reference};

/// A blob that a registry is to have.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) source: Arc<dyn BlobSource>,
    /// A repository that holds it, maybe at another registry.
    pub(super) origin: Option<Reference>,
}

/// What a registry answers who wants to upload.
enum Upload {
    /// It took the blob from the other repository.
    Mounted,
    /// It waits for the bytes there.
    Session(Url),
}

impl Session {
    /// Sees to it that the repository has the blob. What was seen to once is not asked for again, and several that want the
    /// same at once wait for one.
    pub(super) async fn ensure_blob(&self, place: &Place, blob: &Blob) -> Result<(), RegistryError> {
        let key = (place.endpoint.base.clone(), place.repository().to_owned(), blob.digest.clone());
        let cell = Arc::clone(super::lock(&self.present).entry(key).or_default());
        cell.get_or_try_init(|| self.put_blob(place, blob)).await.copied()
    }

    /// Forgets which blobs the repository has: it may have lost some.
    pub(super) fn forget(&self, place: &Place) {
        super::lock(&self.present)
            .retain(|(base, repository, _), _| *base != place.endpoint.base || repository != place.repository());
    }

    async fn put_blob(&self, place: &Place, blob: &Blob) -> Result<(), RegistryError> {
        let _turn = self.uploads.acquire().await.expect("the semaphore is never closed");
        let mut failures = 0;
        loop {
            // Asked anew after each failure: the answer to an upload may be all that was lost.
            let error = match self.has_blob(place, &blob.digest).await {
                Ok(true) => return Ok(()),
                Ok(false) => match self.upload(place, blob).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !error.is_transient() && !session_was_lost(&error) {
                return Err(error);
            }
            failures += 1;
            pause(&self.options.retry, failures, error).await?;
        }
    }

    async fn has_blob(&self, place: &Place, digest: &Digest) -> Result<bool, RegistryError> {
        let attempted = format!("ask for blob {digest} in {}", place.reference.name());
        let request = call(attempted, Method::HEAD, place.url(&format!("blobs/{digest}")));
        // Some registries do not answer HEAD for what they do not have with anything better than 400 or 405.
        let known = [200, 400, 404, 405].map(|code| StatusCode::from_u16(code).expect("it is a status"));
        let response = self.expect_once(place, &scopes(place, true), &request, &known).await?;
        Ok(response.status() == StatusCode::OK)
    }

    async fn upload(&self, place: &Place, blob: &Blob) -> Result<(), RegistryError> {
        let session = match self.mount(place, blob).await? {
            Some(Upload::Mounted) => return Ok(()),
            Some(Upload::Session(session)) => session,
            None => self.begin_upload(place, &attempted(place, blob)).await?,
        };
        self.send_blob(place, blob, session).await
    }

    /// Asks the registry to take the blob from another of its repositories. `None` when there is none, or it may not be
    /// read: then the bytes are sent as if nothing had been asked.
    async fn mount(&self, place: &Place, blob: &Blob) -> Result<Option<Upload>, RegistryError> {
        let Some(from) = self.mountable(place, blob) else { return Ok(None) };
        let mut url = place.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", &from);
        let mut both = scopes(place, true);
        both.insert(format!("repository:{from}:pull"));
        let request = call(attempted(place, blob), Method::POST, url);
        let expected = [StatusCode::CREATED, StatusCode::ACCEPTED];
        match self.expect_once(place, &both, &request, &expected).await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(Some(Upload::Mounted)),
            Ok(response) => location(place, &response, &request.attempted).map(|url| Some(Upload::Session(url))),
            Err(error) if error.is_transient() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Another repository at the same endpoint that holds the blob.
    fn mountable(&self, place: &Place, blob: &Blob) -> Option<String> {
        let base = &place.endpoint.base;
        if let Some(origin) = &blob.origin
            && origin.registry() == place.endpoint.registry
            && origin.repository() != place.repository()
        {
            return Some(origin.repository().to_owned());
        }
        let present = super::lock(&self.present);
        let mut holders = present.iter().filter(|((at, repository, digest), done)| {
            at == base && repository != place.repository() && *digest == blob.digest && done.initialized()
        });
        holders.next().map(|((_, repository, _), _)| repository.clone())
    }

    pub(super) async fn begin_upload(&self, place: &Place, attempted: &str) -> Result<Url, RegistryError> {
        let request = call(attempted, Method::POST, place.url("blobs/uploads/"));
        let response = self.expect_once(place, &scopes(place, true), &request, &[StatusCode::ACCEPTED]).await?;
        location(place, &response, attempted)
    }

    /// The whole blob in one request.
    async fn send_blob(&self, place: &Place, blob: &Blob, mut session: Url) -> Result<(), RegistryError> {
        session.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let mut request = Call {
            body: Payload::Blob { source: Arc::clone(&blob.source), from: 0, length: blob.size },
            ..call(attempted(place, blob), Method::PUT, session)
        };
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let expected = [StatusCode::CREATED, StatusCode::OK, StatusCode::NO_CONTENT];
        let response = self.expect_once(place, &scopes(place, true), &request, &expected).await?;
        stored_as_sent(place, "blob", &blob.digest, &response)
    }
}

fn attempted(place: &Place, blob: &Blob) -> String {
    format!("push blob {} to {}", blob.digest, place.reference.name())
}

/// Where to send the bytes. It may be relative, and on another host.
pub(super) fn location(place: &Place, response: &Response, attempted: &str) -> Result<Url, RegistryError> {
    let protocol = |reason: String| RegistryError::Protocol {
        attempted: attempted.to_owned(),
        server: place.endpoint.server(),
        reason,
    };
    let location = header(response, LOCATION.as_str())
        .ok_or_else(|| protocol("it accepts an upload and does not say where".to_owned()))?;
    place.endpoint.follow(response.url(), location).map_err(protocol)
}

/// The registry says which digest it computed; it must be ours.
pub(super) fn stored_as_sent(
    place: &Place,
    what: &'static str,
    sent: &Digest,
    response: &Response,
) -> Result<(), RegistryError> {
    match header(response, "docker-content-digest") {
        // A digest of another algorithm says nothing about ours.
        Some(stored)
            if stored.parse().is_ok_and(|stored: Digest| stored != *sent && stored.algorithm() == sent.algorithm()) =>
        {
            Err(RegistryError::StoredOtherwise {
                registry: place.endpoint.registry.clone(),
                what,
                sent: sent.clone(),
                stored: stored.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// The registry has forgotten the upload, or got damaged bytes: both pass when it is begun anew.
fn session_was_lost(error: &RegistryError) -> bool {
    match error {
        RegistryError::Status { code: 404, message, .. } => {
            message.contains("BLOB_UPLOAD_UNKNOWN") || message.contains("BLOB_UPLOAD_INVALID") || message.is_empty()
        }
        RegistryError::Status { code: 416, .. } => true,
        RegistryError::Status { code: 400, message, .. } => {
            ["BLOB_UPLOAD_INVALID", "DIGEST_INVALID", "SIZE_INVALID"].iter().any(|known| message.contains(known))
        }
        _ => false,
    }
}
