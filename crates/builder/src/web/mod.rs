//! Files behind web addresses: fetched for ADD, and put where a build is to leave its digest.
//!
//! What fails in passing is tried again. No message holds what stands behind `?` or a login, where tokens are.

mod fetch;
mod put;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, ClientBuilder, Response};
use thiserror::Error;
use url::Url;
use zuwai_registry::TransportOptions;
use zuwai_registry::transport::{self, TlsTrust};

pub(crate) use self::fetch::{etag, fetch, name};
pub(crate) use self::put::put;
use crate::context::blocking;

/// A server that did not do what it was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address is none.
    #[error("{address:?} is not a web address")]
    Address {
        /// As written, without a login.
        address: String,
    },
    /// The connection cannot be made as asked for.
    #[error("prepare the connection for {address}")]
    Transport {
        /// The address.
        address: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server or the network failed.
    #[error("{action} {address}")]
    Server {
        /// `fetch` or `send to`.
        action: &'static str,
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke before the file was whole.
    #[error("fetch {address}: the connection broke")]
    Broken {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server answered, and refused.
    #[error("{action} {address}: the server answers {status}")]
    Status {
        /// `fetch` or `send to`.
        action: &'static str,
        /// The address.
        address: String,
        /// The status code.
        status: u16,
        /// How long the server asked to wait before the next try.
        retry_after: Option<Duration>,
    },
    /// What came could not be kept.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The build was asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

impl WebError {
    /// Whether the same request may well succeed in a moment.
    fn is_passing(&self) -> bool {
        match self {
            WebError::Server { source, .. } => transport::is_passing(source),
            WebError::Status { status, .. } => transport::is_passing_status(*status),
            WebError::Broken { .. } => true,
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            WebError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// How often a request is made at most, the pause before the second try, which doubles from then on, and the longest pause
/// a server may ask for.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_ASKED_PAUSE: Duration = Duration::from_mins(2);

/// Does it until it succeeds, fails for good, or was tried often enough.
fn repeat<T>(cancelled: &AtomicBool, mut attempt: impl FnMut() -> Result<T, WebError>) -> Result<T, WebError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if error.is_passing() => {
                let asked = error.retry_after().unwrap_or_default().min(LONGEST_ASKED_PAUSE);
                wait(pause.max(asked), cancelled)?;
                pause *= 2;
            }
            result => return result,
        }
    }
    attempt()
}

fn wait(pause: Duration, cancelled: &AtomicBool) -> Result<(), WebError> {
    let end = Instant::now() + pause;
    loop {
        if cancelled.load(Ordering::SeqCst) {
            return Err(WebError::Cancelled);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// The address without a login, a query and a fragment.
pub(crate) fn shown(address: &str) -> String {
    Url::parse(address).map_or_else(|_| "the address".to_owned(), |url| shown_url(&url))
}

fn shown_url(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// A client that reaches servers as everything else here does.
fn client(
    url: &Url,
    transport: &TransportOptions,
    more: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<Client, WebError> {
    let unusable =
        |source: Box<dyn std::error::Error + Send + Sync>| WebError::Transport { address: shown_url(url), source };
    let set_up = blocking::set_up(transport, &TlsTrust::default()).map_err(|error| unusable(Box::new(error)))?;
    let builder = more(set_up(Client::builder().user_agent(&transport.user_agent).referer(false)));
    builder.build().map_err(|error| unusable(Box::new(error)))
}

/// The answer, where it says that all is well.
fn well(action: &'static str, url: &Url, answer: reqwest::Result<Response>) -> Result<Response, WebError> {
    let address = shown_url(url);
    let response =
        answer.map_err(|source| WebError::Server { action, address: address.clone(), source: source.without_url() })?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, retry_after) = (response.status().as_u16(), transport::retry_after(response.headers()));
    Err(WebError::Status { action, address, status, retry_after })
}

/// `%xx` decoded, as RFC 3986 has the parts of an address encoded. What is no `%xx` stays as it is.
pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = (*first == b'%')
            .then(|| behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
