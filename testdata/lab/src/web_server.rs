//! A web server that answers as a test wants it: in the clear, and over TLS with nginx in front of it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::authority::Authority;
use crate::server::Server;
use crate::{Scratch, nginx};

/// What somebody asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `PUT` and so on.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// What came with it.
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Besides the length.
    pub headers: Vec<(&'static str, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// The connection ends after this many bytes of it.
    pub cut: Option<usize>,
}

impl Answer {
    /// An answer with a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    /// With one header more.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct WebServer {
    seen: Arc<Mutex<Vec<Request>>>,
    port: u16,
    encrypted: (Server, u16),
    _scratch: Scratch,
}

impl WebServer {
    /// Starts one. `answer` is told each request and how many of the same method and target came before it.
    pub fn start(
        authority: &Authority,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
        let port = listener.local_addr().context("listen on loopback")?.port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                // A connection that breaks is the client's to notice.
                thread::spawn(move || drop(converse(&stream, &*answer, &log)));
            }
        });
        let issued = authority.issue(&format!("web-{port}"))?;
        let location = format!(
            "      proxy_pass http://127.0.0.1:{port};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_next_upstream off;
"
        );
        let encrypted = nginx::start(scratch.path(), &issued, &location).context("start a web server")?;
        Ok(Self { seen, port, encrypted, _scratch: scratch })
    }

    /// `127.0.0.1:<port>`, in the clear.
    pub fn plain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:<port>`, with TLS.
    pub fn encrypted(&self) -> String {
        format!("127.0.0.1:{}", self.encrypted.1)
    }

    /// What was asked for so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn converse(
    stream: &TcpStream,
    answer: &dyn Fn(&Request, usize) -> Answer,
    log: &Mutex<Vec<Request>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        let before = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |other: &&Request| other.method == request.method && other.target == request.target;
            let before = log.iter().filter(same).count();
            log.push(request.clone());
            before
        };
        let answer = answer(&request, before);
        let body = &answer.body[..answer.cut.unwrap_or(answer.body.len()).min(answer.body.len())];
        let mut out = io::BufWriter::new(stream);
        write!(out, "HTTP/1.1 {} x\r\ncontent-length: {}\r\n", answer.status, answer.body.len())?;
        for (name, value) in &answer.headers {
            write!(out, "{name}: {value}\r\n")?;
        }
        out.write_all(b"\r\n")?;
        out.write_all(body)?;
        out.flush()?;
        if answer.cut.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut request = Request { method, target, ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = request.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut request.body)?;
    Ok(Some(request))
}
