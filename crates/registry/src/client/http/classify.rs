//! What an error of the HTTP library is about: a certificate, a blob of ours, or the way to the server.

use std::error::Error;
use std::io;

use reqwest::Url;

use super::super::endpoint::server_of;
use super::super::error::{RegistryError, innermost};
use super::super::transport::{is_passing, next_cause};
use super::payload::Io;

/// The error as ours, which names what was attempted and the server.
pub(super) fn classify(error: reqwest::Error, attempted: &str, url: &Url) -> RegistryError {
    let server = server_of(url);
    let mut untrusted = None;
    let mut unreadable = None;
    let mut current: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(cause) = current {
        if let Some(rustls::Error::InvalidCertificate(reason)) = cause.downcast_ref::<rustls::Error>() {
            untrusted = Some(reason.to_string());
        }
        if let Some(Io(reason)) = cause.downcast_ref::<Io>() {
            unreadable = Some(reason.clone());
        }
        current = next_cause(cause);
    }
    if let Some(reason) = untrusted {
        return RegistryError::Certificate { server, reason };
    }
    if let Some(reason) = unreadable {
        let source = io::Error::other(reason);
        return RegistryError::Io { attempted: format!("{attempted}: cannot read the blob"), source };
    }
    let passing = is_passing(&error);
    // The outer errors say nothing but the URL, which may hold a signature or a token.
    RegistryError::Unreachable { server, reason: innermost(&error.without_url()), passing }
}
