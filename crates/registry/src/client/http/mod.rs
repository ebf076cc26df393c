//! One HTTP exchange: the right TLS for the host, redirects, time limits on progress, and errors that name the server.

mod classify;
mod clients;
mod message;
mod payload;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, Url};

use super::endpoint::{Endpoint, server_of};
use super::error::RegistryError;
use super::options::ClientOptions;
use classify::classify;
use clients::{Clients, authority, host_key};
pub(crate) use message::{message_of, status_text};
pub(super) use payload::Payload;
use payload::{Progress, read_blob, watched};

/// How one [`super::Client`] speaks HTTP.
pub(super) struct Http {
    clients: Clients,
    unencrypted: BTreeSet<String>,
    stall: Duration,
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

/// How many redirects are followed, as in Go's `net/http`.
const MOST_REDIRECTS: usize = 10;

/// A registry may take longer to answer a whole blob than to answer anything else: it moves the blob into place first.
const PATIENCE_AFTER_A_BODY: u32 = 5;

impl Http {
    /// Reads every file the options name, now: later `/` may be the image's.
    pub(super) fn new(options: &ClientOptions) -> Result<Http, RegistryError> {
        Ok(Http {
            clients: Clients::new(options)?,
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
            url = self.follow(endpoint, &url, location).map_err(protocol)?;
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
            self.clients.of(endpoint, url).request(call.method.clone(), url.clone()).headers(call.headers.clone());
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
        let client = self.clients.of(endpoint, &url);
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

    /// Where a `Location` leads that came with the answer to `asked`. Out of an encrypted connection nothing is taken to
    /// somewhere that is not encrypted, unless the caller allowed plain HTTP there.
    pub(super) fn follow(&self, endpoint: &Endpoint, asked: &Url, location: &str) -> Result<Url, String> {
        let next = endpoint.follow(asked, location)?;
        let downgrade = next.scheme() == "http" && asked.scheme() == "https" && !self.is_plain_http(&next);
        if downgrade { Err(format!("it leads to {}, which is not encrypted", server_of(&next))) } else { Ok(next) }
    }

    pub(super) fn is_plain_http(&self, url: &Url) -> bool {
        self.unencrypted.contains(&authority(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_from_an_encrypted_server_to_one_that_is_not() {
        let http = |insecure: &[&str]| {
            let insecure_registries = insecure.iter().map(|&registry| registry.to_owned()).collect();
            Http::new(&ClientOptions { insecure_registries, ..ClientOptions::default() }).unwrap()
        };
        let follow = |http: &Http, plain: bool, location: &str| {
            let endpoint = Endpoint::new("registry.example.com", plain).unwrap();
            http.follow(&endpoint, &endpoint.base, location).map(|url| url.to_string())
        };
        let elsewhere = "http://store.example.com:9000/upload?signature=s3cret";
        let error = follow(&http(&[]), false, elsewhere).unwrap_err();
        assert!(error.contains("http://store.example.com:9000, which is not encrypted"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
        assert_eq!(follow(&http(&["store.example.com:9000"]), false, elsewhere).as_deref(), Ok(elsewhere));
        assert_eq!(follow(&http(&[]), true, elsewhere).as_deref(), Ok(elsewhere));
        // The registry itself, behind a proxy that ends TLS.
        let own = follow(&http(&[]), false, "http://registry.example.com/v2/");
        assert_eq!(own.as_deref(), Ok("https://registry.example.com/v2/"));
        let error = follow(&http(&[]), false, "ftp://me:pass@host/a?signature=s3cret").unwrap_err();
        assert!(!error.contains("s3cret") && !error.contains("pass"), "{error}");
    }
}
