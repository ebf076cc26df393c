//! The distribution protocol, version 2: pull and push.
mod error;
pub mod transport;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Keychain;
use crate::blob::BlobDir;
use crate::image::{Digest, Image, Layer, Platform, Reference};

pub use error::RegistryError;

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Names, proxies, certificates and limits of the machine.
    pub transport: transport::TransportOptions,
    /// Push over plain HTTP, to every registry.
    pub insecure: bool,
    /// Pull over plain HTTP, from every registry.
    pub insecure_pull: bool,
    /// Accept any certificate of any registry.
    pub skip_tls_verify: bool,
    /// Registries that are spoken to over plain HTTP.
    pub insecure_registries: Vec<String>,
    /// Registries whose certificate is not looked at.
    pub skip_tls_verify_registries: Vec<String>,
    /// Registry → PEM file of authorities trusted for it.
    pub registry_certificates: BTreeMap<String, PathBuf>,
    /// Registry → PEM files of certificate and key shown to it.
    pub client_certificates: BTreeMap<String, (PathBuf, PathBuf)>,
    /// Mirrors of Docker Hub: `host[:port][/path]`, tried in order.
    pub mirrors: Vec<String>,
    /// Registry → its mirrors, `host[:port][/path]`, tried in order.
    pub registry_maps: BTreeMap<String, Vec<String>>,
    /// Do not ask the registry itself when its mirrors fail.
    pub skip_default_fallback: bool,
    /// More tries of a whole push.
    pub push_retry: u32,
    /// More tries of a whole pull.
    pub image_download_retry: u32,
    /// A push that is refused because the tag may not be changed counts as done.
    pub ignore_immutable_tag_errors: bool,
    /// How single requests are repeated.
    pub retry: RetryPolicy,
}

/// How requests that failed in passing are repeated.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How often a request is made at most.
    pub tries: u32,
    /// The pause before the second try; it doubles from then on.
    pub first_pause: Duration,
    /// The longest pause, unless the registry asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { tries: 6, first_pause: Duration::from_millis(300), longest_pause: Duration::from_secs(10) }
    }
}

/// An image that was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest of the platform's manifest.
    pub digest: Digest,
}

/// Speaks to registries.
pub struct Client {}

impl Client {
    /// A client.
    pub fn new(options: ClientOptions, keychain: Arc<dyn Keychain>) -> Result<Client, RegistryError> {
        drop((options, keychain));
        todo!()
    }
    /// Pull.
    pub fn pull(&self, reference: &Reference, platform: &Platform, blobs: &BlobDir) -> Result<Pulled, RegistryError> {
        let _ = (reference, platform, blobs);
        todo!()
    }
    /// Fetch in the background.
    pub fn prefetch(&self, layers: &[Layer]) {
        let _ = layers;
        todo!()
    }
    /// Check.
    pub fn check_push(&self, reference: &Reference) -> Result<(), RegistryError> {
        let _ = reference;
        todo!()
    }
    /// Push.
    pub fn push(&self, image: &Image, references: &[Reference]) -> Result<Digest, RegistryError> {
        let _ = (image, references);
        todo!()
    }
}
