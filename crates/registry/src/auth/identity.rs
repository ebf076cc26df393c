//! What the built-in identities share: the surroundings they know, requests to whoever hands out credentials, and what was
//! handed out, kept until it expires.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::kept_file::KeptFile;
use super::{Credential, Resolved};
use crate::client::message_of;
use crate::client::transport::{Proxies, TlsTrust, TransportOptions, client_builder};

/// What a cloud's identity is found in: variables, the files they name, and the network. Taken down once: later, what lies
/// under a file's path might be an image's. The files that were there are read anew through the folders that held them.
#[derive(Clone, Default)]
pub struct Surroundings {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, KeptFile>,
    transport: TransportOptions,
}

/// Variables that name a file which is part of an identity.
const FILES: [&str; 5] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
];

/// Files below `HOME` that are part of an identity.
const FILES_AT_HOME: [&str; 2] = [".aws/credentials", ".config/gcloud/application_default_credentials.json"];

impl Surroundings {
    /// Keeps these variables, and reads the files they name.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>, transport: TransportOptions) -> Surroundings {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        let mut surroundings = Surroundings { variables, files: BTreeMap::new(), transport };
        let named: Vec<PathBuf> = FILES.iter().filter_map(|name| surroundings.get(name)).map(PathBuf::from).collect();
        let at_home: Vec<PathBuf> = FILES_AT_HOME.iter().filter_map(|name| surroundings.at_home(name)).collect();
        for path in named.into_iter().chain(at_home) {
            surroundings.read(&path);
        }
        // A workload's identity at Google says in its file where its own token lies.
        let sources: Vec<PathBuf> =
            surroundings.files.values().filter_map(|file| token_file(&file.content().ok()?)).collect();
        for path in sources {
            surroundings.read(&path);
        }
        surroundings
    }

    fn read(&mut self, path: &Path) {
        self.files.entry(path.to_owned()).or_insert_with(|| KeptFile::read(path));
    }

    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first of these that is set.
    pub(super) fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// A path below the home folder.
    pub(super) fn at_home(&self, name: &str) -> Option<PathBuf> {
        self.get("HOME").map(|home| Path::new(home).join(name))
    }

    /// What a file holds; `Err` says why it could not be read.
    pub(super) fn file(&self, path: &Path) -> Result<String, String> {
        let kept = self.files.get(path).ok_or_else(|| format!("{} was not read", path.display()))?;
        kept.content().map_err(|reason| format!("{} cannot be read: {reason}", path.display()))
    }

    /// Asks somebody on the network. What went wrong is told in words that hold no secret.
    pub(super) fn ask(&self, question: &Question<'_>) -> Result<String, String> {
        let server = server_of(&question.url);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("{server} cannot be asked: {error}"))?;
        let mut tries = 0;
        loop {
            tries += 1;
            match runtime.block_on(self.ask_once(question)) {
                Err(Trouble { passing: true, .. }) if tries < question.tries => {
                    std::thread::sleep(Duration::from_millis(200 << tries));
                }
                answer => return answer.map_err(|trouble| trouble.reason),
            }
        }
    }

    /// As [`Surroundings::ask`], for an answer that is JSON.
    pub(super) fn ask_json(&self, question: &Question<'_>) -> Result<Value, String> {
        let answer = self.ask(question)?;
        // The parser's message may quote what it could not read.
        serde_json::from_str(&answer).map_err(|_| format!("{} did not answer with JSON", server_of(&question.url)))
    }

    async fn ask_once(&self, question: &Question<'_>) -> Result<String, Trouble> {
        let server = server_of(&question.url);
        let trouble = |passing: bool, reason: String| Trouble { passing, reason: format!("{server} {reason}") };
        let mut transport = self.transport.clone();
        if question.this_machine {
            transport.proxies = Proxies::default();
        }
        transport.connect_timeout = question.patience;
        let client = client_builder(&transport, &TlsTrust::default())
            .map_err(|error| error.to_string())
            .and_then(|builder| {
                let builder = builder.redirect(reqwest::redirect::Policy::none()).timeout(question.patience);
                builder.build().map_err(|error| error.to_string())
            })
            .map_err(|error| trouble(false, format!("cannot be asked: {error}")))?;
        let mut request = client.request(question.method.clone(), &question.url);
        for (name, value) in &question.headers {
            request = request.header(*name, value);
        }
        if let Some((kind, body)) = &question.body {
            request = request.header(CONTENT_TYPE, *kind).body(body.clone());
        }
        let unreachable = |error: reqwest::Error| {
            let reason = crate::client::innermost(&error.without_url());
            trouble(true, format!("cannot be reached: {reason}"))
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_ANSWER {
                return Err(trouble(false, "gave an answer without an end".to_owned()));
            }
        }
        if status != StatusCode::OK {
            let said = message_of(&body);
            let said = if said.is_empty() { said } else { format!(": {said}") };
            let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(trouble(passing, format!("answered {}{said}", crate::client::status_text(status))));
        }
        String::from_utf8(body).map_err(|_| trouble(false, "did not answer with text".to_owned()))
    }
}

/// A request to whoever hands out credentials.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(&'a str, String)>,
    /// Content type and content.
    pub(super) body: Option<(&'a str, String)>,
    /// How long all of it may take.
    pub(super) patience: Duration,
    /// How often it is asked at most.
    pub(super) tries: u32,
    /// It is part of the machine, and no proxy leads to it.
    this_machine: bool,
}

struct Trouble {
    passing: bool,
    reason: String,
}

const LONGEST_ANSWER: usize = 1024 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";

impl<'a> Question<'a> {
    /// For a service somewhere.
    pub(super) fn to_service(method: Method, url: impl Into<String>) -> Question<'a> {
        let patience = Duration::from_secs(20);
        Question { method, url: url.into(), headers: Vec::new(), body: None, patience, tries: 3, this_machine: false }
    }

    /// For the metadata service of the machine. Where there is none, nobody answers: that must not take long.
    pub(super) fn to_machine(method: Method, url: impl Into<String>) -> Question<'a> {
        Question { patience: Duration::from_secs(2), tries: 1, this_machine: true, ..Question::to_service(method, url) }
    }

    pub(super) fn header(mut self, name: &'a str, value: impl Into<String>) -> Question<'a> {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn form(self, pairs: &[(&str, &str)]) -> Question<'a> {
        let mut url = reqwest::Url::parse("http://form/").expect("it is a URL");
        url.query_pairs_mut().extend_pairs(pairs);
        Question { body: Some((FORM, url.query().unwrap_or_default().to_owned())), ..self }
    }

    pub(super) fn json(self, body: &Value) -> Question<'a> {
        Question { body: Some(("application/json", body.to_string())), ..self }
    }
}

/// Scheme, host and port.
fn server_of(url: &str) -> String {
    reqwest::Url::parse(url)
        .map_or_else(|_| "a service without an address".to_owned(), |url| crate::client::server_of_url(&url))
}

/// A place where an identity may be found: `None` when there is nothing, `Err` says why it is of no use.
pub(super) type Source<'a, T> = &'a dyn Fn() -> Option<Result<T, String>>;

/// What an identity was handed out.
#[derive(Clone)]
pub(super) struct Granted {
    pub(super) credential: Credential,
    /// By what it was found, in words.
    pub(super) source: String,
    /// How long it may be shown.
    pub(super) life: Duration,
}

/// What was handed out for each registry.
#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<HashMap<String, (Resolved, Instant)>>);

/// A credential counts as expired this much earlier.
const SKEW: Duration = Duration::from_mins(2);

impl Grants {
    /// What was handed out for this registry and has not expired, or what is handed out now. `tried` is told what was tried.
    pub(super) fn get(&self, registry: &str, hand_out: impl FnOnce(&mut Vec<String>) -> Option<Granted>) -> Resolved {
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((resolved, until)) = grants.get(registry)
            && *until > Instant::now()
        {
            return resolved.clone();
        }
        let mut tried = Vec::new();
        let Some(granted) = hand_out(&mut tried) else { return Resolved::anonymous(tried) };
        tried.push(format!("{}: {}", granted.source, granted.credential.describe()));
        let until = Instant::now() + granted.life.saturating_sub(SKEW.min(granted.life / 4));
        let Granted { credential, source, .. } = granted;
        let resolved = Resolved { credential, source, tried, until: Some(until) };
        grants.insert(registry.to_owned(), (resolved.clone(), until));
        resolved
    }

    /// Whether something was handed out for this registry before.
    pub(super) fn has(&self, registry: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(registry)
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (variables, files) = (self.variables.keys().collect::<Vec<_>>(), self.files.keys().collect::<Vec<_>>());
        formatter
            .debug_struct("Surroundings")
            .field("variables", &variables)
            .field("files", &files)
            .finish_non_exhaustive()
    }
}

/// Where a workload's own token lies, by the file that describes its identity.
fn token_file(content: &str) -> Option<PathBuf> {
    let value: Value = serde_json::from_str(content).ok()?;
    value["credential_source"]["file"].as_str().map(PathBuf::from)
}

#[cfg(test)]
pub(super) mod fake {
    //! A fake of whoever hands out credentials, on loopback: the real ones are reached from inside their clouds alone.

    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    /// A request: the first line without its version, the headers in lower case, the body.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Seen {
        pub(crate) line: String,
        pub(crate) headers: Vec<(String, String)>,
        pub(crate) body: String,
    }

    impl Seen {
        pub(crate) fn header(&self, name: &str) -> Option<&str> {
            self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        }
    }

    pub(crate) struct FakeService {
        pub(crate) url: String,
        seen: Arc<Mutex<Vec<Seen>>>,
    }

    impl FakeService {
        /// Answers each request as `answer` says: status and body. It lives as long as the test's process.
        pub(crate) fn start(answer: impl Fn(&Seen) -> (u16, String) + Send + 'static) -> FakeService {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let seen = Arc::new(Mutex::new(Vec::new()));
            let log = Arc::clone(&seen);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let _ = converse(&stream, &answer, &log);
                }
            });
            FakeService { url, seen }
        }

        pub(crate) fn seen(&self) -> Vec<Seen> {
            self.seen.lock().unwrap().clone()
        }
    }

    fn converse(
        mut stream: &TcpStream,
        answer: &impl Fn(&Seen) -> (u16, String),
        log: &Mutex<Vec<Seen>>,
    ) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut seen = Seen { line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(), ..Seen::default() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            seen.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut body = vec![0; seen.header("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body)?;
        seen.body = String::from_utf8(body).unwrap();
        let (status, body) = answer(&seen);
        log.lock().unwrap().push(seen);
        write!(stream, "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }
}
