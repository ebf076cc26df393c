//! How servers are reached: names, proxies, certificates, time limits. Registries and git contexts go through it alike.
//!
//! Everything is captured by the caller at the start, in [`TransportOptions`]. Once an image's files may lie in `/`, none of
//! it can be read any more without reading the image's files instead of the machine's.

mod hosts;
mod passing;
mod proxy;
mod resolv_conf;
mod resolver;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::Resolve;

pub(super) use passing::next_cause;
pub use passing::{is_passing, is_passing_status, retry_after};
pub use proxy::Proxies;
use resolver::Resolution;
pub use tls::{CertificateError, ClientCertificate, TlsTrust, certificates_from_pem, tls_config};

/// Facts about this machine and its network, captured at the start.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// The text of `/etc/resolv.conf`. Empty: only names in [`TransportOptions::hosts`] and addresses are known.
    pub resolv_conf: String,
    /// The text of `/etc/hosts`.
    pub hosts: String,
    /// The machine's root certificates, DER. Mozilla's are trusted besides.
    pub root_certificates: Vec<Vec<u8>>,
    /// Proxies to go through.
    pub proxies: Proxies,
    /// Sent with every request.
    pub user_agent: String,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long nothing may come or go before a request is given up. There is no limit on the whole.
    pub stall_timeout: Duration,
}

impl Default for TransportOptions {
    /// No names but `localhost`, no roots but Mozilla's, no proxies.
    fn default() -> Self {
        TransportOptions {
            resolv_conf: String::new(),
            hosts: String::new(),
            root_certificates: Vec::new(),
            proxies: Proxies::default(),
            user_agent: concat!("zuwai/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_mins(1),
        }
    }
}

/// Resolves names with the captured configuration, never with the files of the moment and never with a public server.
pub fn resolver(options: &TransportOptions) -> Arc<dyn Resolve> {
    Arc::new(resolver::Resolver::new(&options.resolv_conf, &options.hosts))
}

/// Installs ring as the process's TLS provider, for libraries that make their own TLS configuration. Doing it twice, or
/// after somebody else did, changes nothing. This crate itself names its provider and does not need it.
pub fn install_crypto() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client for plain web requests through the same resolver, proxies, certificates and limits: contexts and the like.
/// Redirects are followed as browsers do; credentials do not follow to another host.
pub fn http_client(options: &TransportOptions, trust: &TlsTrust) -> Result<reqwest::Client, CertificateError> {
    let builder = client_builder(options, trust)?.redirect(reqwest::redirect::Policy::limited(10));
    builder.read_timeout(options.stall_timeout).build().map_err(CertificateError::Client)
}

/// What every client of this crate is built from. HTTP/1.1 on purpose: large bodies travel faster over several
/// connections than over one, and an early answer to an upload is told apart from a broken connection.
pub(crate) fn client_builder(
    options: &TransportOptions,
    trust: &TlsTrust,
) -> Result<reqwest::ClientBuilder, CertificateError> {
    let tls = tls_config(options, trust)?;
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(resolver(options))
        .user_agent(options.user_agent.clone())
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(Duration::from_mins(1))
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .referer(false)
        .http1_only()
        .no_proxy();
    for proxy in options.proxies.to_reqwest().map_err(CertificateError::Client)? {
        builder = builder.proxy(proxy);
    }
    Ok(builder)
}
