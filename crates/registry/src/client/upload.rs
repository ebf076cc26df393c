//! Blobs to a registry: asked for first, mounted from another repository where that is possible, and sent otherwise.
//!
//! A blob is sent whole, in one request, for pieces cost a round trip each. Where that breaks, the registry is asked how
//! much of it has arrived, and the rest follows: registries that keep what they got (the specification's
//! `GET /v2/<name>/blobs/uploads/<id>`) get no byte twice. The distribution registry up to 2.8 does not keep it: it gives
//! an upload up whose size is not the one its location was signed for, which every break in the middle of a body makes so;
//! there the blob begins anew. A server that takes no body of this size (413: proxies in front of registries have limits)
//! gets it in pieces.

use std::sync::Arc;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::endpoint::Place;
use super::error::RegistryError;
use super::http::{Call, Payload};
use super::retry::pause;
use super::session::{Session, call, header, scopes};
use super::token::Scopes;
use crate::image::{Blob, Digest};

/// What a registry answers who wants to upload.
enum Upload {
    /// It took the blob from the other repository.
    Mounted,
    /// It waits for the bytes there.
    Session(Url),
}

/// Where the sending of a blob stands.
struct Sending {
    /// Where the next bytes go.
    session: Url,
    /// How many the registry is known to have.
    sent: u64,
    /// How many go into one request; `None`: all.
    piece: Option<u64>,
}

/// Below this size a blob that broke is sent anew: asking how much arrived costs a round trip too.
const WORTH_ASKING: u64 = 1 << 20;

/// The pieces of a blob that is too large for one request; each time it is still too large, a quarter.
const LARGEST_PIECE: u64 = 64 << 20;
const SMALLEST_PIECE: u64 = 1 << 20;

impl Session {
    /// Sees to it that the repository has the blob. What was seen to once is not asked for again, and several that want the
    /// same at once wait for one.
    pub(super) async fn ensure_blob(&self, place: &Place, blob: &Blob) -> Result<(), RegistryError> {
        let key = (place.endpoint.base.clone(), place.repository().to_owned(), blob.descriptor.digest.clone());
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
            if self.holds_blob(place, &blob.descriptor.digest, &scopes(place, true)).await? {
                return Ok(());
            }
            match self.upload(place, blob, &mut failures).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.is_transient() || session_was_lost(&error) => {
                    failures += 1;
                    pause(&self.options.retry, failures, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn holds_blob(
        &self,
        place: &Place,
        digest: &Digest,
        scopes: &Scopes,
    ) -> Result<bool, RegistryError> {
        let attempted = format!("ask for blob {digest} in {}", place.reference.name());
        let request = call(attempted, Method::HEAD, place.url(&format!("blobs/{digest}")));
        // Some registries do not answer HEAD for what they do not have with anything better than 400 or 405.
        let known = [200, 400, 404, 405].map(|code| StatusCode::from_u16(code).expect("it is a status"));
        let response = self.expect(place, scopes, &request, &known).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Whether the registry has the blob then; if not, it is begun anew.
    async fn upload(&self, place: &Place, blob: &Blob, failures: &mut u32) -> Result<bool, RegistryError> {
        let session = match self.mount(place, blob).await? {
            Some(Upload::Mounted) => return Ok(true),
            Some(Upload::Session(session)) => session,
            None => self.begin_upload(place, &attempted(place, blob)).await?,
        };
        self.send_blob(place, blob, session, failures).await
    }

    /// Asks the registry to take the blob from another of its repositories. `None` when there is none, or it may not be
    /// read: then the bytes are sent as if nothing had been asked.
    async fn mount(&self, place: &Place, blob: &Blob) -> Result<Option<Upload>, RegistryError> {
        let Some(from) = self.mountable(place, blob) else { return Ok(None) };
        let mut url = place.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &blob.descriptor.digest.to_string()).append_pair("from", &from);
        let mut both = scopes(place, true);
        both.insert(format!("repository:{from}:pull"));
        let request = call(attempted(place, blob), Method::POST, url);
        let expected = [StatusCode::CREATED, StatusCode::ACCEPTED];
        match self.expect(place, &both, &request, &expected).await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(Some(Upload::Mounted)),
            Ok(response) => self.location(place, &response, &request.attempted).map(|url| Some(Upload::Session(url))),
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
            at == base && repository != place.repository() && *digest == blob.descriptor.digest && done.initialized()
        });
        holders.next().map(|((_, repository, _), _)| repository.clone())
    }

    pub(super) async fn begin_upload(&self, place: &Place, attempted: &str) -> Result<Url, RegistryError> {
        let request = call(attempted, Method::POST, place.url("blobs/uploads/"));
        let response = self.expect(place, &scopes(place, true), &request, &[StatusCode::ACCEPTED]).await?;
        self.location(place, &response, attempted)
    }

    /// The bytes: whole if the registry takes them so, and after a break what is missing of them. False when the registry
    /// has forgotten how far it got.
    async fn send_blob(
        &self,
        place: &Place,
        blob: &Blob,
        session: Url,
        failures: &mut u32,
    ) -> Result<bool, RegistryError> {
        let size = blob.descriptor.size;
        let mut sending = Sending { session, sent: 0, piece: None };
        loop {
            let error = match self.send_next(place, blob, &mut sending).await {
                Ok(true) => return Ok(true),
                Ok(false) => continue,
                Err(error) => error,
            };
            if matches!(error, RegistryError::Status { code: 413, .. }) {
                let Some(piece) = sending.smaller_piece(size) else { return Err(error) };
                let session = self.begin_upload(place, &attempted(place, blob)).await?;
                sending = Sending { session, sent: 0, piece: Some(piece) };
                continue;
            }
            if !error.is_transient() || size < WORTH_ASKING {
                return Err(error);
            }
            *failures += 1;
            pause(&self.options.retry, *failures, error).await?;
            let Some((session, arrived)) = self.arrived(place, blob, &sending.session).await else {
                return Ok(false);
            };
            if arrived > sending.sent {
                // Only failures without any progress between them are counted: a long blob may break often.
                *failures = 0;
            }
            (sending.session, sending.sent) = (session, arrived);
        }
    }

    /// The next piece, or all that is left; true when that was the last.
    async fn send_next(&self, place: &Place, blob: &Blob, sending: &mut Sending) -> Result<bool, RegistryError> {
        let (sent, left) = (sending.sent, blob.descriptor.size - sending.sent);
        let piece = sending.piece.filter(|piece| *piece < left);
        let length = piece.unwrap_or(left);
        let (method, mut url) = match piece {
            Some(_) => (Method::PATCH, sending.session.clone()),
            None => (Method::PUT, sending.session.clone()),
        };
        if piece.is_none() {
            url.query_pairs_mut().append_pair("digest", &blob.descriptor.digest.to_string());
        }
        let mut request = Call {
            body: Payload::Blob { source: Arc::clone(&blob.source), from: sent, length },
            ..call(attempted(place, blob), method, url)
        };
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        // Where all has arrived and only the end is missing, there is no range to name.
        if 0 < length && length < blob.descriptor.size {
            let range = format!("{sent}-{}", sent + length - 1);
            request.headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits are a header"));
        }
        if piece.is_some() {
            let response = self.expect_once(place, &scopes(place, true), &request, &[StatusCode::ACCEPTED]).await?;
            sending.session = self.location(place, &response, &request.attempted)?;
            sending.sent =
                position(&response).filter(|at| (sent..=sent + length).contains(at)).unwrap_or(sent + length);
            return Ok(false);
        }
        let expected = [StatusCode::CREATED, StatusCode::OK, StatusCode::NO_CONTENT];
        let response = self.expect_once(place, &scopes(place, true), &request, &expected).await?;
        stored_as_sent(place, "blob", &blob.descriptor.digest, &response)?;
        Ok(true)
    }

    /// How much of an upload that broke the registry has, and where the rest goes; `None` when it knows nothing of it.
    async fn arrived(&self, place: &Place, blob: &Blob, session: &Url) -> Option<(Url, u64)> {
        let request = call(attempted(place, blob), Method::GET, session.clone());
        let expected = [StatusCode::NO_CONTENT, StatusCode::ACCEPTED, StatusCode::OK];
        let response = self.expect(place, &scopes(place, true), &request, &expected).await.ok()?;
        let session = match header(&response, LOCATION.as_str()) {
            Some(_) => self.location(place, &response, &request.attempted).ok()?,
            None => session.clone(),
        };
        let arrived = position(&response).unwrap_or(0);
        (arrived <= blob.descriptor.size).then_some((session, arrived))
    }

    /// Where to send the bytes. It may be relative, and on another host.
    fn location(&self, place: &Place, response: &Response, attempted: &str) -> Result<Url, RegistryError> {
        let protocol = |reason: String| RegistryError::Protocol {
            attempted: attempted.to_owned(),
            server: place.endpoint.server(),
            reason,
        };
        let location = header(response, LOCATION.as_str())
            .ok_or_else(|| protocol("it accepts an upload and does not say where".to_owned()))?;
        self.http.follow(&place.endpoint, response.url(), location).map_err(protocol)
    }
}

impl Sending {
    /// Pieces that may be small enough, when these were not.
    fn smaller_piece(&self, size: u64) -> Option<u64> {
        let smaller = self.piece.map_or(LARGEST_PIECE, |piece| piece / 4).min(size.div_ceil(2));
        (smaller >= SMALLEST_PIECE).then_some(smaller)
    }
}

/// How many bytes `Range: 0-99` says the registry has. `0-0` is none: registries write it so, and no blob has one byte.
fn position(response: &Response) -> Option<u64> {
    let range = header(response, RANGE.as_str())?.trim();
    let last: u64 = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}

fn attempted(place: &Place, blob: &Blob) -> String {
    format!("push blob {} to {}", blob.descriptor.digest, place.reference.name())
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
