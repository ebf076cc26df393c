//! One HTTP exchange: the right TLS for the host, redirects, time limits on progress, and errors that name the server.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::mpsc;

use super::endpoint::{Endpoint, server_of};
use super::error::{RegistryError, innermost};
use super::options::ClientOptions;
use super::transport::{
    CertificateError, ClientCertificate, Resolution, TlsTrust, certificates_from_pem, client_builder,
};
use crate::blob::BlobSource;
use crate::image::reference::canonical_registry;

/// The HTTP clients of one [`super::Client`].
pub(super) struct Http {
    verifying: Clients,
    /// For pulls, where those leave certificates unverified.
    unverified: Clients,
    unencrypted: BTreeSet<String>,
    stall: Duration,
}

/// One client for most hosts, and one for each whose TLS is special.
#[derive(Clone)]
struct Clients {
    usual: reqwest::Client,
    special: BTreeMap<String, reqwest::Client>,
}

/// One request of the protocol. It can be made more than once: bodies are opened anew.
#[derive(Clone)]
pub(super) struct Call {
    /// What is being done, with its reference or digest: errors begin with it.
    pub(super) attempted: String,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Payload,
}

/// The body of a request.
#[derive(Clone)]
pub(super) enum Payload {
    Empty,
    Bytes(Bytes),
    /// `length` bytes of the blob, after skipping `from`.
    Blob {
        source: Arc<dyn BlobSource>,
        from: u64,
        length: u64,
    },
}

/// Bytes that are read from a blob at a time.
const CHUNK: usize = 256 * 1024;

/// Chunks that wait to be sent.
const CHUNKS_AHEAD: usize = 2;

/// How many redirects are followed, as in Go's `net/http`.
const MOST_REDIRECTS: usize = 10;

/// A registry may take longer to answer a whole blob than to answer anything else: it moves the blob into place first.
const PATIENCE_AFTER_A_BODY: u32 = 5;

impl Http {
    /// Reads every file the options name, now: later `/` may be the image's.
    pub(super) fn new(options: &ClientOptions) -> Result<Http, RegistryError> {
        let trusts = special_trusts(options)?;
        let verifying = Clients::new(options, &trusts, options.skip_tls_verify)?;
        let unverified = if options.skip_tls_verify_pull && !options.skip_tls_verify {
            Clients::new(options, &trusts, true)?
        } else {
            verifying.clone()
        };
        Ok(Http {
            verifying,
            unverified,
            unencrypted: options.insecure_registries.iter().map(|registry| host_key(registry)).collect(),
            stall: options.transport.stall_timeout,
        })
    }

    /// Makes the request and follows redirects of GET and HEAD. The authorization is sent to the endpoint itself and to
    /// nobody else, whatever `Location` says.
    pub(super) async fn exchange(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let follows = matches!(call.method, Method::GET | Method::HEAD);
        let mut url = call.url.clone();
        let mut redirects = 0;
        loop {
            let response = self.once(endpoint, call, &url, authorization).await?;
            let redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = response.headers().get(LOCATION).filter(|_| follows && redirect) else {
                return Ok(response);
            };
            let protocol = |reason: String| RegistryError::Protocol {
                attempted: call.attempted.clone(),
                server: server_of(&url),
                reason,
            };
            redirects += 1;
            if redirects > MOST_REDIRECTS {
                return Err(protocol(format!("it redirects more than {MOST_REDIRECTS} times")));
            }
            let location = location.to_str().map_err(|_| protocol("its Location is not text".to_owned()))?;
            let next = endpoint.follow(&url, location).map_err(protocol)?;
            let downgrade = next.scheme() == "http" && url.scheme() == "https" && !self.is_plain_http(&next);
            if downgrade {
                return Err(protocol(format!("it redirects to {}, which is not encrypted", server_of(&next))));
            }
            url = next;
        }
    }

    /// Makes the request and follows nothing.
    pub(super) async fn once(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut request =
            self.client_for(endpoint, url).request(call.method.clone(), url.clone()).headers(call.headers.clone());
        if let Some(value) = authorization.filter(|_| endpoint.is_origin_of(url)) {
            request = request.header(AUTHORIZATION, value);
        }
        let progress = Progress::new();
        request = match &call.body {
            Payload::Empty if matches!(call.method, Method::POST | Method::PUT) => request.header(CONTENT_LENGTH, 0),
            Payload::Empty => request,
            Payload::Bytes(bytes) => request.body(bytes.clone()),
            Payload::Blob { source, from, length } => {
                let chunks = read_blob(Arc::clone(source), *from, *length).await.map_err(|source| {
                    RegistryError::Io { attempted: format!("{}: cannot read the blob", call.attempted), source }
                })?;
                let body = reqwest::Body::wrap_stream(watched(chunks, progress.clone(), *length));
                request.header(CONTENT_LENGTH, *length).body(body)
            }
        };
        self.in_time(request, progress, &call.attempted, url).await
    }

    /// Sends a request for as long as it makes progress.
    async fn in_time(
        &self,
        request: reqwest::RequestBuilder,
        progress: Progress,
        attempted: &str,
        url: &Url,
    ) -> Result<Response, RegistryError> {
        let sending = request.send();
        tokio::pin!(sending);
        loop {
            let patience = if progress.body_sent() { self.stall * PATIENCE_AFTER_A_BODY } else { self.stall };
            let Some(left) = patience.checked_sub(progress.idle()) else {
                let server = server_of(url);
                return Err(RegistryError::Stalled { attempted: attempted.to_owned(), server, after: patience });
            };
            tokio::select! {
                result = &mut sending => return result.map_err(|error| classify(error, attempted, url)),
                () = tokio::time::sleep(left.max(Duration::from_millis(1))) => {}
            }
        }
    }

    /// A request to somebody else than a registry: the token service of this endpoint.
    pub(super) async fn send_form(
        &self,
        endpoint: &Endpoint,
        url: Url,
        authorization: Option<HeaderValue>,
        form: Option<&[(&str, &str)]>,
        attempted: &str,
    ) -> Result<Response, RegistryError> {
        let client = self.client_for(endpoint, &url);
        let mut request = match form {
            Some(form) => {
                let mut encoded = Url::parse("http://form/").expect("it is a URL");
                encoded.query_pairs_mut().extend_pairs(form);
                let body = encoded.query().unwrap_or_default().to_owned();
                let kind = "application/x-www-form-urlencoded";
                client.post(url.clone()).header(reqwest::header::CONTENT_TYPE, kind).body(body)
            }
            None => client.get(url.clone()),
        };
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        self.in_time(request, Progress::new(), attempted, &url).await
    }

    /// The next piece of a body, or `None` at its end.
    pub(super) async fn chunk(&self, response: &mut Response, attempted: &str) -> Result<Option<Bytes>, RegistryError> {
        match tokio::time::timeout(self.stall, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(classify(error, attempted, &response.url().clone())),
            Err(_) => Err(RegistryError::Stalled {
                attempted: attempted.to_owned(),
                server: server_of(response.url()),
                after: self.stall,
            }),
        }
    }

    /// A whole body of at most this many bytes; `None` when there are more.
    pub(super) async fn body(
        &self,
        mut response: Response,
        limit: u64,
        attempted: &str,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        if response.content_length().is_some_and(|length| length > limit) {
            return Ok(None);
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response, attempted).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }

    pub(super) fn is_plain_http(&self, url: &Url) -> bool {
        self.unencrypted.contains(&authority(url))
    }

    fn client_for(&self, endpoint: &Endpoint, url: &Url) -> &reqwest::Client {
        let clients = if endpoint.unverified { &self.unverified } else { &self.verifying };
        clients.special.get(&authority(url)).unwrap_or(&clients.usual)
    }
}

impl Clients {
    fn new(
        options: &ClientOptions,
        trusts: &BTreeMap<String, TlsTrust>,
        skip_verify: bool,
    ) -> Result<Clients, RegistryError> {
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
        Ok(Clients { usual: client(&TlsTrust::default(), "network options")?, special })
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
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A registry as options name it, in the form of [`authority`].
fn host_key(registry: &str) -> String {
    let registry = canonical_registry(registry);
    registry.strip_suffix(":443").map(str::to_owned).unwrap_or(registry)
}

/// When the last piece of a body went out.
#[derive(Clone)]
struct Progress {
    start: Instant,
    last: Arc<AtomicU64>,
}

/// The body is out; the lower bits still say since when.
const SENT: u64 = 1 << 63;

impl Progress {
    fn new() -> Progress {
        Progress { start: Instant::now(), last: Arc::new(AtomicU64::new(0)) }
    }

    fn step(&self, complete: bool) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX >> 1);
        self.last.store(if complete { now | SENT } else { now }, Ordering::Relaxed);
    }

    fn body_sent(&self) -> bool {
        self.last.load(Ordering::Relaxed) & SENT != 0
    }

    fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed) & !SENT);
        self.start.elapsed().saturating_sub(last)
    }
}

type Chunks = mpsc::Receiver<io::Result<Bytes>>;

/// Reads a blob on a thread that may block, a few chunks ahead of whoever takes them.
async fn read_blob(source: Arc<dyn BlobSource>, from: u64, length: u64) -> io::Result<Chunks> {
    let (send, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let (opened, open) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        // Opening may mean fetching the blob first: no request waits for that.
        let mut reader = match source.open() {
            Ok(reader) => reader,
            Err(error) => return drop(opened.send(Err(error))),
        };
        if let Err(error) = io::copy(&mut reader.by_ref().take(from), &mut io::sink()) {
            return drop(opened.send(Err(error)));
        }
        if opened.send(Ok(())).is_err() {
            return;
        }
        let mut left = length;
        while left > 0 {
            let mut chunk = Vec::with_capacity(CHUNK.min(usize::try_from(left).unwrap_or(CHUNK)));
            let read = reader.by_ref().take(left.min(CHUNK as u64)).read_to_end(&mut chunk);
            let result = match read {
                Ok(0) => {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is shorter than its descriptor says"))
                }
                Ok(count) => {
                    left -= count as u64;
                    Ok(Bytes::from(chunk))
                }
                Err(error) => Err(error),
            }
            .map_err(|error| io::Error::other(Io(error.to_string())));
            let failed = result.is_err();
            if send.blocking_send(result).is_err() || failed {
                return;
            }
        }
    });
    open.await.map_err(|_| io::Error::other("reading the blob was given up"))??;
    Ok(chunks)
}

fn watched(chunks: Chunks, progress: Progress, length: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::unfold((chunks, progress, length), |(mut chunks, progress, left)| async move {
        let chunk = chunks.recv().await?;
        let left = left.saturating_sub(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        progress.step(left == 0);
        Some((chunk, (chunks, progress, left)))
    })
}

/// What an error of the HTTP library is about: a certificate, a blob of ours, or the way to the server.
fn classify(error: reqwest::Error, attempted: &str, url: &Url) -> RegistryError {
    let server = server_of(url);
    let mut passing = true;
    let mut untrusted = None;
    let mut unreadable = None;
    let mut current: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(cause) = current {
        match cause.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(reason)) => untrusted = Some(reason.to_string()),
            // A handshake that was answered with something else than TLS will be answered so again.
            Some(rustls::Error::InvalidMessage(_)) => passing = false,
            _ => {}
        }
        if let Some(resolution) = cause.downcast_ref::<Resolution>() {
            passing = resolution.passing;
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
    // The outer errors say nothing but the URL, which may hold a signature or a token.
    RegistryError::Unreachable { server, reason: innermost(&error.without_url()), passing }
}

/// The cause of an error. An I/O error passes over the error it was made of, which is the one that says what it is.
fn next_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// An error of the blob that was being sent, told apart from errors of the connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Io(String);

/// What a registry said with an error, in one line.
pub(crate) fn message_of(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        let text = String::from_utf8_lossy(body);
        let line = text.trim().lines().next().unwrap_or_default().trim().to_owned();
        // A web page says nothing to a terminal.
        return if line.starts_with('<') { String::new() } else { shortened(&line) };
    };
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty());
    let errors = value["errors"].as_array().into_iter().flatten().map(|error| {
        // A detail that is no text is for programs.
        let parts = [text(&error["code"]), text(&error["message"]), text(&error["detail"])];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    });
    let errors: Vec<String> = errors.filter(|error| !error.is_empty()).collect();
    if !errors.is_empty() {
        return shortened(&errors.join("; "));
    }
    let plain = ["error", "error_description", "message", "details", "detail"].map(|key| text(&value[key]));
    shortened(&plain.into_iter().flatten().collect::<Vec<_>>().join(": "))
}

fn shortened(text: &str) -> String {
    let clean: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match clean.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

/// Number and words.
pub(crate) fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_and_token_services_say_becomes_one_line() {
        for (body, message) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied","detail":[{"Type":"r"}]}]}"#,
                "DENIED: requested access to the resource is denied",
            ),
            (r#"{"errors":[{"code":"A","message":"b","detail":{}},{"code":"C"}]}"#, "A: b; C"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (r#"{"error":"invalid_grant","error_description":"expired"}"#, "invalid_grant: expired"),
            ("too many\nrequests", "too many"),
            ("<html><body>502</body></html>", ""),
            ("", ""),
            ("{}", ""),
        ] {
            assert_eq!(message_of(body.as_bytes()), message);
        }
        assert!(message_of("x".repeat(5000).as_bytes()).chars().count() < 500);
        assert_eq!(message_of(b"a\x1b[31mb"), "a [31mb");
    }

    #[test]
    fn the_usual_port_and_no_port_are_the_same_host() {
        let url = Url::parse("https://registry.example.com:443/v2/").unwrap();
        assert_eq!(authority(&url), host_key("Registry.example.com:443"));
        let url = Url::parse("https://registry.example.com:5000/v2/").unwrap();
        assert_eq!(authority(&url), host_key("registry.example.com:5000"));
    }
}
