//! What a web address answers, into a file: ADD of a URL.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{ETAG, HeaderMap, LAST_MODIFIED};
use url::Url;
use zuwai_registry::image::{Algorithm, Hasher};
use zuwai_registry::{Digest, TransportOptions};

use super::{WebError, client, percent_decoded, repeat, shown, well};
use crate::give_up::unless_cancelled;

/// What was fetched.
pub(crate) struct Fetched {
    digests: [Digest; 2],
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

/// The name of the file that an address stands for: the last part of its path, decoded before it is divided, as in BuildKit.
pub(crate) fn name(address: &str) -> String {
    let path = Url::parse(address).map(|url| percent_decoded(url.path())).unwrap_or_default();
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") || name.contains('\0') { "__unnamed__".to_owned() } else { name.to_owned() }
}

/// Writes what the address answers into a new file, 0600, with the time that the server gives; 1970 where it gives none. A
/// file whose connection broke is fetched anew.
pub(crate) fn fetch(
    address: &str,
    into: &Path,
    transport: &TransportOptions,
    cancelled: &AtomicBool,
) -> Result<Fetched, WebError> {
    let (address, into, transport) = (address.to_owned(), into.to_owned(), transport.clone());
    unless_cancelled(cancelled, move |cancelled| fetch_waiting(&address, &into, &transport, cancelled))
        .unwrap_or(Err(WebError::Cancelled))
}

fn fetch_waiting(
    address: &str,
    into: &Path,
    transport: &TransportOptions,
    cancelled: &AtomicBool,
) -> Result<Fetched, WebError> {
    let url = Url::parse(address).map_err(|_| WebError::Address { address: shown(address) })?;
    let client = client(&url, transport, |builder| builder)?;
    let write = |source: io::Error| WebError::Write { path: into.to_owned(), source };
    let mut file = File::create_new(into).map_err(write)?;
    let (time, digests, etag) = repeat(cancelled, || {
        file.set_len(0).and_then(|()| file.rewind()).map_err(write)?;
        let mut response = well("fetch", &url, client.get(url.clone()).send())?;
        let etag = strong_etag(response.headers());
        let time = response.headers().get(LAST_MODIFIED).and_then(|value| value.to_str().ok()).and_then(http_date);
        let mut hashers = [Algorithm::Sha256, Algorithm::Sha512].map(Hasher::new);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            if cancelled.load(Ordering::SeqCst) {
                return Err(WebError::Cancelled);
            }
            let read = match response.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(WebError::Broken { address: shown(address), source }),
            };
            for hasher in &mut hashers {
                hasher.update(&buffer[..read]);
            }
            file.write_all(&buffer[..read]).map_err(write)?;
        }
        Ok((time, hashers.map(Hasher::finish), etag))
    })?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(write)?;
    file.set_modified(time.unwrap_or(SystemTime::UNIX_EPOCH)).map_err(write)?;
    Ok(Fetched { digests, etag })
}

/// What the server calls the content of the address now: its strong validator, which no other content ever has there
/// (RFC 9110, section 8.8.3). `None` where it gives none, or cannot be asked without sending it all.
pub(crate) fn etag(address: &str, transport: &TransportOptions, cancelled: &AtomicBool) -> Option<String> {
    let (url, transport) = (Url::parse(address).ok()?, transport.clone());
    let asked = unless_cancelled(cancelled, move |_| {
        let client = client(&url, &transport, |builder| builder).ok()?;
        let response = well("fetch", &url, client.head(url.clone()).send()).ok()?;
        strong_etag(response.headers())
    });
    asked.flatten()
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(ETAG)?.to_str().ok()?;
    (etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"')).then(|| etag.to_owned())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the form that every server writes (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<SystemTime> {
    let seconds = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?.as_second();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
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
            ("https://h/a%2Fb", "b"),
            ("https://h/%2e%2e", "__unnamed__"),
            ("https://h/..%2F..%2F", "__unnamed__"),
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
