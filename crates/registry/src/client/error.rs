//! What can go wrong between here and a registry, and what to do about it.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::transport::is_passing_status;
use crate::auth::KeychainError;
use crate::image::Digest;

/// Every error names the registry, reference or digest it is about. [`RegistryError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection, or it broke.
    #[error("cannot reach {server}: {reason}")]
    Unreachable {
        /// Scheme, host and port as they were dialled.
        server: String,
        /// The innermost cause in words.
        reason: String,
        /// Whether it may well work in a moment: a name that does not exist still will not.
        passing: bool,
    },
    /// Somebody asked for the end.
    #[error("it was given up")]
    Cancelled,
    /// The server stopped sending, or never answered.
    #[error("{attempted}: {server} made no progress for {} s", .after.as_secs())]
    Stalled {
        /// What was being done.
        attempted: String,
        /// Scheme, host and port.
        server: String,
        /// How long nothing came.
        after: Duration,
    },
    /// The server's certificate is not trusted.
    #[error("cannot trust the certificate of {server}: {reason}")]
    Certificate {
        /// Host and port.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry did not take the credential, or wants one.
    #[error(
        "{}: unexpected status code 401 Unauthorized: authentication required by {}{} ({})",
        .0.attempted, .0.registry, said(&.0.message), .0.shown()
    )]
    Unauthorized(Box<Refusal>),
    /// The registry's token service did not hand out a token.
    #[error(
        "{}: authentication required by {}, and its token service {service} refused: unexpected status code {status}{} \
         ({})",
        .refusal.attempted, .refusal.registry, said(&.refusal.message), .refusal.shown()
    )]
    TokenRefused {
        /// The token service.
        service: String,
        /// Number and words.
        status: String,
        /// Who refused what.
        refusal: Box<Refusal>,
    },
    /// The registry knows who asks, and does not allow it.
    #[error(
        "{}: unexpected status code 403 Forbidden: access denied by {}{} ({})",
        .0.attempted, .0.registry, said(&.0.message), .0.shown()
    )]
    Denied(Box<Refusal>),
    /// The registry has no such image.
    #[error("manifest unknown: {reference}{}", said(.message))]
    ManifestUnknown {
        /// The image.
        reference: String,
        /// What the registry said.
        message: String,
    },
    /// The registry has the manifest but not what it refers to.
    #[error("blob unknown: {digest} from {repository}{}", said(.message))]
    BlobUnknown {
        /// The blob.
        digest: Digest,
        /// Registry and repository.
        repository: String,
        /// What the registry said.
        message: String,
    },
    /// Bytes that are not those the digest names.
    #[error("{what} {expected} from {origin} has other bytes: got {got}")]
    DigestMismatch {
        /// `blob`, `manifest` or `config`.
        what: &'static str,
        /// What was asked for.
        expected: Digest,
        /// Where it came from.
        origin: String,
        /// What came.
        got: Digest,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("blob {digest} from {origin} should have {expected} bytes but has {}", or_more(*.got))]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// Where it came from.
        origin: String,
        /// What the descriptor says.
        expected: u64,
        /// How many came; `None` when there were more.
        got: Option<u64>,
    },
    /// The registry stored something else than was sent.
    #[error("{registry} stored the {what} {sent} under another digest: {stored}")]
    StoredOtherwise {
        /// The registry.
        registry: String,
        /// `blob` or `manifest`.
        what: &'static str,
        /// What was sent.
        sent: Digest,
        /// What the registry says it is.
        stored: String,
    },
    /// An answer that is none of the protocol's.
    #[error("{attempted}: unexpected status code {status}{}", said(.message))]
    Status {
        /// What was being done, with its reference.
        attempted: String,
        /// Number and words.
        status: String,
        /// The number.
        code: u16,
        /// What the registry said.
        message: String,
        /// How long the registry asked to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that makes no sense.
    #[error("{attempted}: {server} gave an answer that makes no sense: {reason}")]
    Protocol {
        /// What was being done.
        attempted: String,
        /// Scheme, host and port.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A document that cannot be read.
    #[error("{what} of {reference} cannot be read")]
    Document {
        /// `manifest`, `index` or `config`.
        what: &'static str,
        /// The image.
        reference: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A document that can be read and makes no sense.
    #[error("{reference} is not an image that can be used: {reason}")]
    NotAnImage {
        /// The image.
        reference: String,
        /// Why.
        reason: String,
    },
    /// A document or layer of a kind that is not known.
    #[error("{what} of {reference} has the media type `{media_type}`, which is not supported")]
    MediaType {
        /// `manifest`, `config` or `layer sha256:…`.
        what: String,
        /// The image.
        reference: String,
        /// The media type.
        media_type: String,
    },
    /// The index has nothing for the platform.
    #[error("{reference} has no image for {wanted}, only for {}", .offered.join(", "))]
    NoPlatform {
        /// The image.
        reference: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        offered: Vec<String>,
    },
    /// A document larger than any registry keeps.
    #[error("{what} of {reference} is larger than {limit} bytes")]
    TooLarge {
        /// `manifest` or `config`.
        what: &'static str,
        /// The image.
        reference: String,
        /// The most that is read.
        limit: u64,
    },
    /// The image was found in none of several places.
    #[error("image not found on any configured mapped registries for {reference}{}", places("tried", .failed))]
    NoMirror {
        /// The image as it was asked for.
        reference: String,
        /// Each place that was tried and why it failed.
        failed: Vec<String>,
        /// The last place's error.
        last: Box<RegistryError>,
    },
    /// A mirror failed first, and then the registry itself.
    #[error("{}{}", with_causes(.last.as_ref()), places("tried before", .failed))]
    AfterMirrors {
        /// Each mirror that was tried and why it failed.
        failed: Vec<String>,
        /// The error of the registry itself.
        last: Box<RegistryError>,
    },
    /// A source of credentials cannot be read.
    #[error(transparent)]
    Keychain(#[from] Arc<KeychainError>),
    /// A credential is asked for that nobody has asked for before [`Client::seal_credentials`](crate::Client::seal_credentials).
    #[error(
        "the credential for {repository} was not looked up before the build began: no credential helper is started any more"
    )]
    Sealed {
        /// Registry and repository.
        repository: String,
    },
    /// An option that cannot be honoured.
    #[error("{option}: {reason}")]
    Option {
        /// The option and its value.
        option: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that an option names cannot be read.
    #[error("{option}: cannot read {}", .path.display())]
    File {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A blob cannot be read from, or written to, the disk.
    #[error("{attempted}")]
    Io {
        /// What was being done.
        attempted: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Who refused what, and what was shown.
#[derive(Debug)]
pub struct Refusal {
    /// What was being done, with its reference.
    pub attempted: String,
    /// The registry.
    pub registry: String,
    /// What it, or its token service, said.
    pub message: String,
    /// What was shown: kind and source, never the value; `None` for nothing.
    pub credential: Option<String>,
    /// Every source of credentials that was looked at, and what it held.
    pub tried: Vec<String>,
}

impl Refusal {
    fn shown(&self) -> String {
        let mut text = match &self.credential {
            Some(credential) => format!("shown was {credential}"),
            None => "no credential was found to show".to_owned(),
        };
        if !self.tried.is_empty() {
            let _ = write!(text, "; credentials were looked for in: {}", self.tried.join("; "));
        }
        text
    }
}

fn or_more(got: Option<u64>) -> String {
    got.map_or_else(|| "more".to_owned(), |got| got.to_string())
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn places(tried: &str, failed: &[String]) -> String {
    if failed.is_empty() { String::new() } else { format!(" ({tried}: {})", failed.join("; ")) }
}

impl RegistryError {
    /// What the user can do, in one sentence; `None` where the error says it all.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            RegistryError::Unreachable { server, reason, .. } => {
                if spoke_plain_http(reason) {
                    format!("{server} seems to speak plain HTTP: --insecure-registry={} allows it", host(server))
                } else {
                    "check the registry's name, the DNS and proxy settings of this machine, and that the registry runs"
                        .to_owned()
                }
            }
            RegistryError::Certificate { server, .. } => format!(
                "pass the certificate of the authority with --registry-certificate={0}=/path/to/ca.pem, or accept any \
                 certificate of this registry with --skip-tls-verify-registry={0}",
                host(server)
            ),
            RegistryError::Unauthorized(refusal) | RegistryError::TokenRefused { refusal, .. } => {
                let registry = &refusal.registry;
                match &refusal.credential {
                    None => format!(
                        "give a user and a password for {registry} in a config.json, such as \
                         /kaniko/.docker/config.json"
                    ),
                    Some(credential) => format!(
                        "{registry} did not accept {credential}: check the name, the password, and whether it expired"
                    ),
                }
            }
            RegistryError::Denied(refusal) => format!(
                "the account may not do this at {}: check its rights, and that the repository exists",
                refusal.registry
            ),
            RegistryError::ManifestUnknown { .. } => "check the spelling of the image's name and tag".to_owned(),
            RegistryError::DigestMismatch { .. } | RegistryError::SizeMismatch { .. } => {
                "the registry, or a proxy on the way to it, serves damaged data: nothing of it was used".to_owned()
            }
            RegistryError::MediaType { media_type, .. } if media_type.contains("distribution.manifest.v1") => {
                "this is Docker's old schema 1, given up by registries: push the image again with a newer Docker"
                    .to_owned()
            }
            RegistryError::MediaType { media_type, .. }
                if media_type.contains("foreign") || media_type.contains("nondist") =>
            {
                "registries do not keep such layers: they belong to old Windows base images".to_owned()
            }
            RegistryError::NoPlatform { .. } => "choose one of these with --custom-platform".to_owned(),
            RegistryError::Status { code: 404, message, .. } if message.contains("NAME_UNKNOWN") => {
                "the repository does not exist, and this registry does not make it by itself: create it first"
                    .to_owned()
            }
            RegistryError::Status { code: 429, .. } => {
                "the registry limits how often it may be asked: log in, or use a mirror with --registry-mirror"
                    .to_owned()
            }
            RegistryError::NoMirror { .. } => {
                "without --skip-default-registry-fallback the original registry is asked as well".to_owned()
            }
            RegistryError::AfterMirrors { last, .. } => return last.hint(),
            RegistryError::Io { source, .. } => return RegistryError::behind(source).and_then(RegistryError::hint),
            _ => return None,
        })
    }

    /// The registry's error behind an error of reading a layer: blobs that are fetched when they are opened report it so.
    pub fn behind(error: &io::Error) -> Option<&RegistryError> {
        error.get_ref()?.downcast_ref::<FetchError>().map(|shared| &*shared.0)
    }

    /// Whether it says that there is no such image, and nothing else went wrong.
    pub(crate) fn is_manifest_unknown(&self) -> bool {
        match self {
            RegistryError::ManifestUnknown { .. } => true,
            RegistryError::AfterMirrors { last, .. } | RegistryError::NoMirror { last, .. } => {
                last.is_manifest_unknown()
            }
            _ => false,
        }
    }

    /// Whether the same request may well succeed in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            RegistryError::Unreachable { passing, .. } => *passing,
            RegistryError::SizeMismatch { got, .. } => got.is_some(),
            RegistryError::Stalled { .. } => true,
            RegistryError::Status { code, .. } => is_passing_status(*code),
            _ => false,
        }
    }

    /// How long the registry asked to wait before the next try.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// An error that several readers of one blob get.
#[derive(Debug, Clone)]
pub(crate) struct FetchError(pub(crate) Arc<RegistryError>);

impl fmt::Display for FetchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A TLS handshake that was answered with text.
fn spoke_plain_http(reason: &str) -> bool {
    reason.contains("InvalidContentType") || reason.contains("corrupt message")
}

fn host(server: &str) -> &str {
    server.split_once("://").map_or(server, |(_, host)| host)
}

/// An error and its causes in one line, for places where no chain is printed.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(cause) = current {
        let words = cause.to_string();
        if !text.contains(&words) {
            let _ = write!(text, ": {words}");
        }
        current = cause.source();
    }
    text
}

/// The innermost cause of an error: where the reason is.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}
