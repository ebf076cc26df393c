//! Which certificates are trusted, and which one we show.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::TransportOptions;

/// What is special about the TLS of one server.
#[derive(Debug, Clone, Default)]
pub struct TlsTrust {
    /// Accept any certificate.
    pub skip_verify: bool,
    /// Authorities trusted for this server besides the machine's and Mozilla's, DER. A server's own certificate may
    /// stand here too, as Go allows.
    pub extra_roots: Vec<Vec<u8>>,
    /// The certificate shown to this server.
    pub client: Option<ClientCertificate>,
}

/// A certificate with its chain and its key, to be shown to servers that ask for one. Debug output leaves the key out.
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file that cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is not PEM, or holds no certificate or key.
    #[error("{} holds no {wanted} in PEM form", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        wanted: &'static str,
    },
    /// What TLS makes of them.
    #[error("TLS does not accept the certificates")]
    Tls(#[from] rustls::Error),
    /// What HTTP makes of the options.
    #[error("the HTTP client does not accept the options")]
    Client(#[source] reqwest::Error),
}

/// Every certificate in the PEM text, as DER; other sections are passed over.
pub fn certificates_from_pem(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).map(|certificate| certificate.to_vec()).collect()
}

impl ClientCertificate {
    /// Reads a certificate with its chain, and its key, both PEM.
    pub fn read(certificate: &PathBuf, key: &PathBuf) -> Result<ClientCertificate, CertificateError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| CertificateError::Read { path: path.clone(), source })
        };
        let chain: Vec<_> = certificates_from_pem(&read(certificate)?).into_iter().map(CertificateDer::from).collect();
        if chain.is_empty() {
            return Err(CertificateError::Pem { path: certificate.clone(), wanted: "certificate" });
        }
        let key_der = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|_| CertificateError::Pem { path: key.clone(), wanted: "private key" })?;
        Ok(ClientCertificate { chain, key: key_der })
    }
}

impl Clone for ClientCertificate {
    fn clone(&self) -> Self {
        ClientCertificate { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ClientCertificate({} in the chain)", self.chain.len())
    }
}

/// A TLS configuration with ring: the machine's roots, Mozilla's roots, and what is special about the server.
pub fn tls_config(options: &TransportOptions, trust: &TlsTrust) -> Result<ClientConfig, CertificateError> {
    let provider = Arc::new(ring::default_provider());
    let believed = if trust.skip_verify {
        Believed::Anybody
    } else {
        let mut roots = RootCertStore::empty();
        let given = options.root_certificates.iter().chain(&trust.extra_roots);
        // Machines carry roots that no verifier accepts; one of them must not make the others useless.
        roots.add_parsable_certificates(given.map(|certificate| CertificateDer::from(certificate.as_slice())));
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Believed::Certified { webpki, trusted: trust.extra_roots.clone() }
    };
    let verifier = Arc::new(Verifier { provider: Arc::clone(&provider), believed });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &trust.client {
        Some(client) => builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Who is believed. In any case whoever answers must hold the key of the certificate that it shows.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    believed: Believed,
}

#[derive(Debug)]
enum Believed {
    /// What `--skip-tls-verify` asks for.
    Anybody,
    /// Webpki's verdict, with one addition: a server whose very certificate was given as trusted is trusted, although the
    /// certificate says that it is an authority's. Self-signed certificates usually do, and Go accepts them.
    Certified { webpki: Arc<WebPkiServerVerifier>, trusted: Vec<Vec<u8>> },
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Believed::Certified { webpki, trusted } = &self.believed else {
            return Ok(ServerCertVerified::assertion());
        };
        let verdict = webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(error) = verdict else { return verdict };
        // Webpki looks at the dates before it looks at the kind, so a certificate that gets this far is within them.
        let called_an_authority = format!("{error:?}").contains("CaUsedAsEndEntity");
        if !called_an_authority || !trusted.iter().any(|trusted| trusted.as_slice() == end_entity.as_ref()) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
