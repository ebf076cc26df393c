//! How a git server is reached: over the same resolver, proxies and certificates as a registry, with credentials that are
//! shown to one host alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use gix::credentials::helper::{Action, NextAction};
use gix::credentials::protocol::Outcome;
use gix::protocol::transport::client::blocking_io::{Transport, http};
use gix::sec::identity::Account;
use url::Url;
use zuwai_registry::TransportOptions;
use zuwai_registry::transport::TlsTrust;

use super::GitError;
use super::location::host;
use crate::context::blocking;
use crate::request::GitOptions;

/// A connection to a server, not yet used.
pub(super) type Connection<'remote, 'repo> =
    gix::remote::Connection<'remote, 'static, 'repo, Box<dyn Transport + Send>>;

/// The server of a repository and of those submodules that lie on it.
pub(super) struct Server<'a> {
    transport: &'a TransportOptions,
    skip_verify: bool,
    /// Where the credentials may be shown: scheme, host and port.
    home: Url,
    credentials: Option<(String, String)>,
}

/// What happened to the credentials while a connection was used.
#[derive(Debug, Default)]
pub(super) struct Login {
    asked: AtomicBool,
    shown: AtomicBool,
}

impl<'a> Server<'a> {
    /// `home` is the repository's address; credentials are shown to its host and to no other.
    pub(super) fn new(
        transport: &'a TransportOptions,
        git: &GitOptions,
        home: &Url,
        credentials: Option<(String, String)>,
    ) -> Self {
        Self { transport, skip_verify: git.insecure_skip_tls, home: home.clone(), credentials }
    }

    /// Makes ready what the remote's address leads to. Nothing is sent yet.
    pub(super) fn connect<'remote, 'repo>(
        &self,
        remote: &'remote gix::Remote<'repo>,
    ) -> Result<(Connection<'remote, 'repo>, Arc<Login>), GitError> {
        let mut connection = remote
            .connect(gix::remote::Direction::Fetch)
            .map_err(|error| GitError::gix("connect to", &self.home, &error))?;
        // A submodule's remote may lie on another host than the context.
        let url = remote.url(gix::remote::Direction::Fetch).map(|url| url.to_bstring().to_string());
        let url = url.and_then(|url| Url::parse(&url).ok());
        let login = Arc::new(Login::default());
        connection.set_transport_options(Box::new(self.options(url.as_ref())?));
        connection.set_credentials(self.answer(Arc::clone(&login)));
        Ok((connection, login))
    }

    /// What a failed connection means: it is the credentials when the server asked for them and that was the end.
    pub(super) fn explain(&self, action: &'static str, url: &Url, login: &Login, error: &gix::Error) -> GitError {
        if login.shown.load(Ordering::SeqCst) && unauthorized(error) {
            return GitError::Rejected { host: host(url) };
        }
        if login.asked.load(Ordering::SeqCst) && !login.shown.load(Ordering::SeqCst) {
            return GitError::Unauthenticated { host: host(url), elsewhere: !self.is_home(url) };
        }
        GitError::gix(action, url, error)
    }

    fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.home.origin()
    }

    fn options(&self, url: Option<&Url>) -> Result<http::Options, GitError> {
        let certificates = |error| GitError::Transport { host: host(&self.home), source: Box::new(error) };
        let trust = TlsTrust { skip_verify: self.skip_verify, ..TlsTrust::default() };
        let set_up = blocking::set_up(self.transport, &trust).map_err(certificates)?;
        let configure = move |builder: reqwest::blocking::ClientBuilder| Ok(set_up(builder));
        let backend = http::reqwest::Options { configure_client: Some(Box::new(configure)), configure_request: None };
        Ok(http::Options {
            extra_headers: self.clear_text_login(url),
            backend: Some(Arc::new(Mutex::new(backend))),
            ..http::Options::default()
        })
    }

    /// Over plain HTTP gix sends no password. Who asks for plain HTTP with a password has been asked for by name
    /// (`GIT_PULL_METHOD=http`) and gets what Kaniko does, for the context's own host alone: nobody has to ask for this
    /// header to get it.
    fn clear_text_login(&self, url: Option<&Url>) -> Vec<String> {
        let at_home = self.home.scheme() == "http" && url.is_some_and(|url| self.is_home(url));
        let login = self.credentials.as_ref().filter(|_| at_home);
        login
            .map(|(user, password)| format!("Authorization: Basic {}", base64(&format!("{user}:{password}"))))
            .into_iter()
            .collect()
    }

    /// Answers a server that asks who we are. Servers that were redirected to are asked about under their own name.
    fn answer(&self, login: Arc<Login>) -> impl FnMut(Action) -> gix::Result<Option<Outcome>> + 'static {
        let credentials = self.credentials.clone();
        let home = self.home.origin();
        move |action| {
            let Action::Get(context) = action else { return Ok(None) };
            login.asked.store(true, Ordering::SeqCst);
            let asking = context.url.as_ref().and_then(|url| Url::parse(&url.to_string()).ok());
            let (Some((username, password)), Some(true)) = (&credentials, asking.map(|url| url.origin() == home))
            else {
                return Err(gix::error::unauthenticated("there are no credentials for this server").into());
            };
            login.shown.store(true, Ordering::SeqCst);
            let identity =
                Account { username: username.clone(), password: password.clone(), oauth_refresh_token: None };
            Ok(Some(Outcome { identity, next: NextAction::from(context) }))
        }
    }
}

/// Whether an answer 401 is among the causes.
fn unauthorized(error: &gix::Error) -> bool {
    error.downcast_any_ref::<gix::protocol::transport::client::AuthenticationRequired>().is_some()
}

/// RFC 4648, section 4.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(text.len().div_ceil(3) * 4);
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = char::from(ALPHABET[bits >> (18 - 6 * place) & 63]);
            out.push(if place > chunk.len() { '=' } else { digit });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("auth:to?ken~", "YXV0aDp0bz9rZW5+")]
        {
            assert_eq!(base64(text), expected);
        }
    }

    #[test]
    fn credentials_are_answered_to_their_own_host_alone() {
        let home = Url::parse("https://host:444/a").unwrap();
        let transport = TransportOptions::default();
        let credentials = Some(("auth".to_owned(), "token".to_owned()));
        let server = Server::new(&transport, &GitOptions::default(), &home, credentials);
        let ask = |url: &str| {
            let login = Arc::new(Login::default());
            let context = gix::credentials::protocol::Context { url: Some(url.into()), ..Default::default() };
            server.answer(login)(Action::Get(context)).ok().flatten().map(|outcome| outcome.identity.password)
        };
        assert_eq!(ask("https://host:444/a").as_deref(), Some("token"));
        assert_eq!(ask("https://host:444/elsewhere").as_deref(), Some("token"));
        for other in ["https://host/a", "https://other:444/a", "http://host:444/a", "no address"] {
            assert_eq!(ask(other), None, "{other}");
        }
    }

    /// Answers one request with 404. Gives its address, and what was asked.
    fn listen() -> (Url, std::thread::JoinHandle<String>) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/a", listener.local_addr().unwrap())).unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut asked, mut piece) = (Vec::new(), [0; 1024]);
            while !asked.ends_with(b"\r\n\r\n") {
                let length = stream.read(&mut piece).unwrap();
                assert!(length > 0, "the request has no end");
                asked.extend_from_slice(&piece[..length]);
            }
            stream.write_all(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            String::from_utf8(asked).unwrap().to_lowercase()
        });
        (url, asked)
    }

    #[test]
    fn the_clear_text_login_goes_to_the_contexts_own_host_and_no_submodules() {
        let ((home, at_home), (other, elsewhere)) = (listen(), listen());
        let folder = tempfile::tempdir().unwrap();
        let repository = gix::init_bare(folder.path()).unwrap();
        let transport = TransportOptions::default();
        let credentials = Some(("auth".to_owned(), "token".to_owned()));
        let server = Server::new(&transport, &GitOptions::default(), &home, credentials);
        for url in [&home, &other] {
            let remote = repository.remote_at(url.as_str()).unwrap();
            let (connection, _) = server.connect(&remote).unwrap();
            assert!(connection.ref_map(gix::progress::Discard, gix::remote::ref_map::Options::default()).is_err());
        }
        let login = format!("authorization: basic {}", base64("auth:token").to_lowercase());
        let (at_home, elsewhere) = (at_home.join().unwrap(), elsewhere.join().unwrap());
        assert!(at_home.contains(&login), "{at_home}");
        assert!(!elsewhere.contains("authorization"), "{elsewhere}");
    }
}
