//! How registries are spoken to, as the caller wants it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::transport::TransportOptions;

/// The wishes behind Kaniko's registry flags. Registries are named as in references: `host[:port]`, and Docker Hub by any
/// of its names.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of Kaniko's that a user sets or does not")]
pub struct ClientOptions {
    /// Names, proxies, certificates and limits of the machine.
    pub transport: TransportOptions,
    /// Push over plain HTTP, to every registry. A registry that turns out to speak TLS is spoken to with TLS.
    pub insecure: bool,
    /// Pull over plain HTTP, from every registry; as above.
    pub insecure_pull: bool,
    /// Accept any certificate of any registry.
    pub skip_tls_verify: bool,
    /// Accept any certificate when pulling; pushes are not touched by it.
    pub skip_tls_verify_pull: bool,
    /// Registries that are spoken to over plain HTTP; as above. Nothing else ever is, this machine included.
    pub insecure_registries: Vec<String>,
    /// Registries whose certificate is not looked at.
    pub skip_tls_verify_registries: Vec<String>,
    /// Registry → PEM file of authorities trusted for it, and for nobody else.
    pub registry_certificates: BTreeMap<String, PathBuf>,
    /// Registry → PEM files of the certificate and the key shown to it.
    pub client_certificates: BTreeMap<String, (PathBuf, PathBuf)>,
    /// Mirrors of Docker Hub: `host[:port][/path]`, tried in order, after those of [`ClientOptions::registry_maps`].
    pub mirrors: Vec<String>,
    /// Registry → its mirrors, `host[:port][/path]`, tried in order. For pulls alone.
    pub registry_maps: BTreeMap<String, Vec<String>>,
    /// Do not ask the registry itself when its mirrors fail.
    pub skip_default_fallback: bool,
    /// How many more times a whole push is tried (`--push-retry`).
    pub push_retry: u32,
    /// How many more times a whole pull is tried (`--image-download-retry`).
    pub image_download_retry: u32,
    /// A push that is refused because the tag may not be changed counts as done.
    pub ignore_immutable_tag_errors: bool,
    /// Set by somebody else when what goes on is to be given up: looked at ten times a second.
    pub cancelled: Option<Arc<AtomicBool>>,
    /// How single requests are repeated.
    pub retry: RetryPolicy,
}

/// How requests that failed in passing are repeated: connections that broke, 408, 429, 500, 502, 503, 504.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How often a request is made at most.
    pub tries: u32,
    /// The pause before the second try; it doubles from then on. Up to half of each pause is left to chance.
    pub first_pause: Duration,
    /// The longest pause, unless the registry asks for a longer one.
    pub longest_pause: Duration,
    /// The longest pause a registry may ask for.
    pub longest_asked_pause: Duration,
}

impl Default for RetryPolicy {
    /// Six tries within about six seconds, or as long as the registry asks for, up to two minutes a pause.
    fn default() -> Self {
        RetryPolicy {
            tries: 6,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
            longest_asked_pause: Duration::from_mins(2),
        }
    }
}
