//! How a blocking client is set up: over the same resolver, proxies and certificates as a registry's.

use std::sync::Arc;

use reqwest::blocking::ClientBuilder;
use reqwest::dns::{Name, Resolve, Resolving};
use zuwai_registry::TransportOptions;
use zuwai_registry::transport::{self, CertificateError, TlsTrust};

/// Reads what it takes to reach a server. What is returned sets a client up with it; the time limit of the blocking client
/// is for one read, not for the whole.
pub(crate) fn set_up(
    options: &TransportOptions,
    trust: &TlsTrust,
) -> Result<impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static, CertificateError> {
    let tls = transport::tls_config(options, trust)?;
    let resolver = Arc::new(Shared(transport::resolver(options)));
    let proxies = options.proxies.to_reqwest().map_err(CertificateError::Client)?;
    let (connect, stall) = (options.connect_timeout, options.stall_timeout);
    Ok(move |builder: ClientBuilder| {
        let builder = builder
            .tls_backend_preconfigured(tls.clone())
            .dns_resolver(Arc::clone(&resolver))
            .connect_timeout(connect)
            .timeout(stall)
            .http1_only()
            .no_proxy();
        proxies.iter().cloned().fold(builder, ClientBuilder::proxy)
    })
}

/// A resolver whose type is not known.
struct Shared(Arc<dyn Resolve>);

impl Resolve for Shared {
    fn resolve(&self, name: Name) -> Resolving {
        self.0.resolve(name)
    }
}
