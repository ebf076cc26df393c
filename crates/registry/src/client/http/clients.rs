//! The HTTP clients of one [`Client`](crate::Client): one for most hosts, and one for each whose TLS is special.

use std::collections::BTreeMap;

use reqwest::Url;

use super::super::endpoint::Endpoint;
use super::super::error::{RegistryError, innermost};
use super::super::options::ClientOptions;
use super::super::transport::{CertificateError, ClientCertificate, TlsTrust, certificates_from_pem, client_builder};
use crate::image::reference::canonical_registry;

/// Clients that verify certificates, and clients that do not where pulls leave them unverified.
pub(super) struct Clients {
    verifying: Set,
    unverified: Set,
}

#[derive(Clone)]
struct Set {
    usual: reqwest::Client,
    special: BTreeMap<String, reqwest::Client>,
}

impl Clients {
    /// Reads every file the options name, now: later `/` may be the image's.
    pub(super) fn new(options: &ClientOptions) -> Result<Clients, RegistryError> {
        let trusts = special_trusts(options)?;
        let verifying = Set::new(options, &trusts, options.skip_tls_verify)?;
        let unverified = if options.skip_tls_verify_pull && !options.skip_tls_verify {
            Set::new(options, &trusts, true)?
        } else {
            verifying.clone()
        };
        Ok(Clients { verifying, unverified })
    }

    /// The one for this server.
    pub(super) fn of(&self, endpoint: &Endpoint, url: &Url) -> &reqwest::Client {
        let set = if endpoint.unverified { &self.unverified } else { &self.verifying };
        set.special.get(&authority(url)).unwrap_or(&set.usual)
    }
}

impl Set {
    fn new(
        options: &ClientOptions,
        trusts: &BTreeMap<String, TlsTrust>,
        skip_verify: bool,
    ) -> Result<Set, RegistryError> {
        let client = |trust: &TlsTrust, option: &str| -> Result<reqwest::Client, RegistryError> {
            let trust = TlsTrust { skip_verify: skip_verify || trust.skip_verify, ..trust.clone() };
            let builder = client_builder(&options.transport, &trust).map_err(|error| unusable(option, &error))?;
            // Redirects are followed here: with the TLS of the host they lead to, and without our credentials.
            let builder = builder.redirect(reqwest::redirect::Policy::none());
            builder.build().map_err(|error| unusable(option, &CertificateError::Client(error)))
        };
        let special = trusts
            .iter()
            .map(|(registry, trust)| Ok((registry.clone(), client(trust, &format!("TLS options of {registry}"))?)))
            .collect::<Result<_, RegistryError>>()?;
        Ok(Set { usual: client(&TlsTrust::default(), "network options")?, special })
    }
}

/// What is special about the TLS of single registries.
fn special_trusts(options: &ClientOptions) -> Result<BTreeMap<String, TlsTrust>, RegistryError> {
    let mut trusts: BTreeMap<String, TlsTrust> = BTreeMap::new();
    for registry in &options.skip_tls_verify_registries {
        trusts.entry(host_key(registry)).or_default().skip_verify = true;
    }
    for (registry, path) in &options.registry_certificates {
        let option = "--registry-certificate";
        let pem = std::fs::read(path).map_err(|source| RegistryError::File { option, path: path.clone(), source })?;
        let certificates = certificates_from_pem(&pem);
        if certificates.is_empty() {
            let error = CertificateError::Pem { path: path.clone(), wanted: "certificate" };
            return Err(unusable(option, &error));
        }
        trusts.entry(host_key(registry)).or_default().extra_roots = certificates;
    }
    for (registry, (certificate, key)) in &options.client_certificates {
        let read = ClientCertificate::read(certificate, key);
        let client = read.map_err(|error| unusable("--registry-client-cert", &error))?;
        trusts.entry(host_key(registry)).or_default().client = Some(client);
    }
    Ok(trusts)
}

fn unusable(option: &str, error: &CertificateError) -> RegistryError {
    let cause = innermost(error);
    let reason = if cause == error.to_string() { cause } else { format!("{error}: {cause}") };
    RegistryError::Option { option: option.to_owned(), reason }
}

/// Host and, where it is not the scheme's own, port.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A registry as options name it, in the form of [`authority`].
pub(super) fn host_key(registry: &str) -> String {
    let registry = canonical_registry(registry);
    registry.strip_suffix(":443").map(str::to_owned).unwrap_or(registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_and_no_port_are_the_same_host() {
        let url = Url::parse("https://registry.example.com:443/v2/").unwrap();
        assert_eq!(authority(&url), host_key("Registry.example.com:443"));
        let url = Url::parse("https://registry.example.com:5000/v2/").unwrap();
        assert_eq!(authority(&url), host_key("registry.example.com:5000"));
    }
}
