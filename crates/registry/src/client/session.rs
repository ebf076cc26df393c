//! What all pulls and pushes of one client share, and one request with everything that belongs to it: authorization,
//! one answer to a challenge, repetition, and errors in the protocol's own words.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use reqwest::header::{HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::{OnceCell, Semaphore};

use super::challenge::challenges;
use super::endpoint::{Endpoint, Mirrors, Place};
use super::error::RegistryError;
use super::http::{Call, Http, Payload, message_of, status_text};
use super::options::ClientOptions;
use super::retry::repeat;
use super::token::{Authenticator, Need, Scopes, refusal_of};
use super::transport::retry_after;
use crate::auth::{Keychain, Resolved};
use crate::image::reference::canonical_registry;
use crate::image::{Digest, Reference};

/// How many blobs travel in each direction at a time.
const TRANSFERS: usize = 4;

/// The longest message that is read with an error.
const LONGEST_MESSAGE: u64 = 64 * 1024;

pub(super) struct Session {
    pub(super) http: Http,
    pub(super) options: ClientOptions,
    pub(super) mirrors: Mirrors,
    pub(super) downloads: Semaphore,
    pub(super) uploads: Semaphore,
    /// Blobs that are known to be in a repository. Whoever wants the same waits for it.
    pub(super) present: Mutex<HashMap<Presence, Arc<OnceCell<()>>>>,
    pub(super) authenticator: Authenticator,
    schemes: Mutex<HashMap<Asked, Arc<OnceCell<Endpoint>>>>,
}

/// A registry, and whether its certificate goes unverified.
type Asked = (String, bool);

/// Endpoint, repository, blob.
pub(super) type Presence = (Url, String, Digest);

/// What is wanted of a registry: the flags for plain HTTP differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Pull,
    Push,
}

impl Session {
    pub(super) fn new(options: ClientOptions, keychain: Arc<dyn Keychain>) -> Result<Session, RegistryError> {
        Ok(Session {
            http: Http::new(&options)?,
            mirrors: Mirrors::new(&options)?,
            options,
            downloads: Semaphore::new(TRANSFERS),
            uploads: Semaphore::new(TRANSFERS),
            present: Mutex::default(),
            authenticator: Authenticator::new(keychain),
            schemes: Mutex::default(),
        })
    }

    /// Where a repository is, with the scheme it is reached by: TLS, unless the caller allowed plain HTTP and the registry
    /// speaks it.
    pub(super) async fn place(
        &self,
        reference: &Reference,
        purpose: Purpose,
        plain_http: bool,
    ) -> Result<Place, RegistryError> {
        let registry = reference.registry();
        let everywhere = match purpose {
            Purpose::Pull => self.options.insecure_pull,
            Purpose::Push => self.options.insecure,
        };
        let unverified = purpose == Purpose::Pull && self.options.skip_tls_verify_pull && !self.options.skip_tls_verify;
        let listed = self.options.insecure_registries.iter().any(|listed| canonical_registry(listed) == registry);
        let endpoint = if plain_http || everywhere || listed {
            let key = (registry.to_owned(), unverified);
            let cell = Arc::clone(super::lock(&self.schemes).entry(key).or_default());
            cell.get_or_try_init(|| self.probe(registry, unverified)).await?.clone()
        } else {
            Endpoint::new(registry, false)?.unverified(unverified)
        };
        Ok(Place { endpoint, reference: reference.clone() })
    }

    /// Plain HTTP is allowed; whether it is what the registry speaks is found out before a credential is shown.
    async fn probe(&self, registry: &str, unverified: bool) -> Result<Endpoint, RegistryError> {
        let at = |plain| Endpoint::new(registry, plain).map(|endpoint| endpoint.unverified(unverified));
        let (plain, encrypted) = (at(true)?, at(false)?);
        let ping = |endpoint: Endpoint| async move {
            let call = Call {
                attempted: format!("look at {registry}"),
                method: Method::HEAD,
                url: endpoint.base.join("v2/").expect("a base takes a path"),
                headers: HeaderMap::new(),
                body: Payload::Empty,
            };
            self.http.once(&endpoint, &call, &call.url, None).await
        };
        // A server that speaks TLS answers plain HTTP with 400 or not at all; a careful one redirects.
        let speaks_plain = |response: &Response| {
            let leads_away =
                header(response, LOCATION.as_str()).is_some_and(|location| location.starts_with("https://"));
            response.status() != StatusCode::BAD_REQUEST && !(response.status().is_redirection() && leads_away)
        };
        let first = ping(plain.clone()).await;
        if first.as_ref().is_ok_and(speaks_plain) {
            return Ok(plain);
        }
        if ping(encrypted.clone()).await.is_ok() {
            return Ok(encrypted);
        }
        if first.is_ok() {
            return Ok(plain);
        }
        repeat(&self.options.retry, || ping(plain.clone())).await.map(|_| plain.clone())
    }

    /// Makes a request, answers one challenge, and gives back whatever came then.
    pub(super) async fn send(&self, place: &Place, scopes: &Scopes, call: &Call) -> Result<Response, RegistryError> {
        let need = Need { http: &self.http, policy: &self.options.retry, place, scopes, attempted: &call.attempted };
        let known = self.authenticator.known(need).await?;
        let response = self.http.exchange(&place.endpoint, call, known.as_ref()).await?;
        let challenged = response.status() == StatusCode::UNAUTHORIZED && place.endpoint.is_origin_of(response.url());
        if !challenged {
            return Ok(response);
        }
        let challenges = challenges(response.headers());
        let message = self.message(response).await;
        let refusal = (challenges.as_slice(), known.as_ref(), message.as_str());
        let header = self.authenticator.answer(need, refusal).await?;
        self.http.exchange(&place.endpoint, call, Some(&header)).await
    }

    /// As [`Session::send`], for a status the caller expects: everything else is an error, and one that passes is tried
    /// again.
    pub(super) async fn expect(
        &self,
        place: &Place,
        scopes: &Scopes,
        call: &Call,
        expected: &[StatusCode],
    ) -> Result<Response, RegistryError> {
        repeat(&self.options.retry, || self.expect_once(place, scopes, call, expected)).await
    }

    pub(super) async fn expect_once(
        &self,
        place: &Place,
        scopes: &Scopes,
        call: &Call,
        expected: &[StatusCode],
    ) -> Result<Response, RegistryError> {
        let response = self.send(place, scopes, call).await?;
        if expected.contains(&response.status()) {
            return Ok(response);
        }
        Err(self.refusal(place, &call.attempted, response).await)
    }

    /// What a status nobody wanted means.
    async fn refusal(&self, place: &Place, attempted: &str, response: Response) -> RegistryError {
        let (status, pause) = (response.status(), retry_after(response.headers()));
        let from_registry = place.endpoint.is_origin_of(response.url());
        let message = self.message(response).await;
        let attempted = attempted.to_owned();
        if from_registry && matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let resolved = match self.authenticator.credentials.of(&place.reference).await {
                Ok(resolved) => resolved,
                // Nothing was shown then, and what the registry refused is worth more than that.
                Err(error @ RegistryError::Sealed { .. }) => Arc::new(Resolved::anonymous(vec![error.to_string()])),
                Err(error) => return error,
            };
            let refusal = Box::new(refusal_of(place, &attempted, message, &resolved));
            return if status == StatusCode::UNAUTHORIZED {
                RegistryError::Unauthorized(refusal)
            } else {
                RegistryError::Denied(refusal)
            };
        }
        let code = status.as_u16();
        RegistryError::Status { attempted, status: status_text(status), code, message, retry_after: pause }
    }

    /// What the registry said with an error; nothing where it cannot be read.
    async fn message(&self, response: Response) -> String {
        match self.http.body(response, LONGEST_MESSAGE, "").await {
            Ok(Some(body)) => message_of(&body),
            Ok(None) | Err(_) => String::new(),
        }
    }
}

/// The right to read a repository, and to write it when asked for.
pub(super) fn scopes(place: &Place, write: bool) -> Scopes {
    let actions = if write { "pull,push" } else { "pull" };
    Scopes::from([format!("repository:{}:{actions}", place.repository())])
}

/// A request without a body.
pub(super) fn call(attempted: impl Into<String>, method: Method, url: Url) -> Call {
    Call { attempted: attempted.into(), method, url, headers: HeaderMap::new(), body: Payload::Empty }
}

/// What a header says, where it is text.
pub(super) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(HeaderValue::to_str)?.ok()
}
