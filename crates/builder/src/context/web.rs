//! Files behind web addresses: ADD of a URL.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{ETAG, HeaderMap, LAST_MODIFIED};
use thiserror::Error;
use url::Url;
use zuwai_registry::TransportOptions;
use zuwai_registry::image::{Algorithm, Hasher};
use zuwai_registry::{Digest, transport::TlsTrust};

use super::blocking;

/// What was fetched.
pub(crate) struct Fetched {
    digests: Vec<Digest>,
    /// What the server calls this content, if it says so: see [`etag`].
    pub(crate) etag: Option<String>,
}

impl Fetched {
    /// The digest of the content.
    pub(crate) fn digest(&self, algorithm: Algorithm) -> Digest {
        let found = self.digests.iter().find(|digest| digest.algorithm() == algorithm);
        found.expect("it was hashed in every way there is").clone()
    }
}

/// A file that a server did not give. No message holds what stands behind `?` or a login, where tokens are.
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
    #[error("fetch {address}")]
    Server {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server answered, and not with the file.
    #[error("fetch {address}: the server answers {status}")]
    Status {
        /// The address.
        address: String,
        /// The status code.
        status: u16,
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

/// The name of the file that an address stands for: the last part of its path.
pub(crate) fn name(address: &str) -> String {
    let path = Url::parse(address).map(|url| url.path().to_owned()).unwrap_or_default();
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = percent_decoded(name);
    if name.is_empty() || matches!(name.as_str(), "." | "..") || name.contains(['/', '\0']) {
        return "__unnamed__".to_owned();
    }
    name
}

/// The address without a login and a query.
pub(crate) fn shown(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else { return "the address".to_owned() };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Writes what the address answers into a new file, 0600, with the time that the server gives; 1970 where it gives none.
pub(crate) fn fetch(
    address: &str,
    into: &Path,
    transport: &TransportOptions,
    cancelled: &AtomicBool,
) -> Result<Fetched, WebError> {
    let shown = shown(address);
    let url = Url::parse(address).map_err(|_| WebError::Address { address: shown.clone() })?;
    let unreachable =
        |source: Box<dyn std::error::Error + Send + Sync>| WebError::Transport { address: shown.clone(), source };
    let failed = |source: reqwest::Error| WebError::Server { address: shown.clone(), source: source.without_url() };
    let client = client(transport).map_err(unreachable)?;
    let mut response = client.get(url).send().map_err(failed)?;
    if !response.status().is_success() {
        return Err(WebError::Status { address: shown, status: response.status().as_u16() });
    }
    let etag = strong_etag(response.headers());
    let time = response.headers().get(LAST_MODIFIED).and_then(|value| value.to_str().ok()).and_then(http_date);
    let write = |source: io::Error| WebError::Write { path: into.to_owned(), source };
    let mut file = File::create_new(into).map_err(write)?;
    let mut hashers: Vec<Hasher> = [Algorithm::Sha256, Algorithm::Sha512].into_iter().map(Hasher::new).collect();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        if cancelled.load(Ordering::SeqCst) {
            return Err(WebError::Cancelled);
        }
        let read = match response.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreachable(Box::new(error))),
        };
        for hasher in &mut hashers {
            hasher.update(&buffer[..read]);
        }
        file.write_all(&buffer[..read]).map_err(write)?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(write)?;
    file.set_modified(time.unwrap_or(SystemTime::UNIX_EPOCH)).map_err(write)?;
    Ok(Fetched { digests: hashers.into_iter().map(Hasher::finish).collect(), etag })
}

/// What the server calls the content of the address now: its strong validator, which no other content ever has there
/// (RFC 9110, section 8.8.3). `None` where it gives none, or cannot be asked without sending it all.
pub(crate) fn etag(address: &str, transport: &TransportOptions) -> Option<String> {
    let response = client(transport).ok()?.head(Url::parse(address).ok()?).send().ok()?;
    response.status().is_success().then(|| strong_etag(response.headers())).flatten()
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(ETAG)?.to_str().ok()?;
    (etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"')).then(|| etag.to_owned())
}

fn client(transport: &TransportOptions) -> Result<reqwest::blocking::Client, Box<dyn std::error::Error + Send + Sync>> {
    let set_up = blocking::set_up(transport, &TlsTrust::default())?;
    Ok(set_up(reqwest::blocking::Client::builder().user_agent(&transport.user_agent)).build()?)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the form that every server writes (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<SystemTime> {
    let seconds = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?.as_second();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

fn percent_decoded(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_like_the_end_of_its_path() {
        for (address, expected) in [
            ("https://h/a/b.tar.gz", "b.tar.gz"),
            ("https://h/a/b.tar.gz?token=x#y", "b.tar.gz"),
            ("https://h/a/", "a"),
            ("https://h/", "__unnamed__"),
            ("https://h", "__unnamed__"),
            ("https://h/a%20b", "a b"),
            ("https://h/a%2Fb", "__unnamed__"),
        ] {
            assert_eq!(name(address), expected, "{address}");
        }
        assert_eq!(shown("https://user:token@h/a?key=secret#x"), "https://h/a");
    }

    #[test]
    fn the_time_of_a_file_is_the_servers() {
        let time = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 784_111_777);
        assert!(http_date("yesterday").is_none());
    }
}
