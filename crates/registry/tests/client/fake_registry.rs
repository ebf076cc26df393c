//! Faults on the way to a registry: a proxy in front of a real one that resets connections in the middle of a blob, flips
//! bytes, answers in the registry's place or redirects to strangers at the moment a test wants it.
//!
//! Without a registry behind it, it plays one in memory by the distribution spec: a fake, for what Debian's registry cannot
//! be made to do (keep a part of an upload that broke, serve documents that make no sense, be one of two hosts).

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zuwai_registry::Digest;

use super::docker_registry::DockerRegistry;

/// A request before its body is read.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HashMap<String, String>,
}

/// What the registry does with a request.
pub(crate) enum Action {
    /// What the spec says.
    Serve,
    /// This instead.
    Reply(Reply),
    /// Closes the connection after this many bytes of the request's body.
    Reset(usize),
    /// What the spec says, but the connection ends after this many bytes of the answer's body.
    Cut(usize),
    /// What the spec says, with the byte at this place of the answer's body changed.
    Flip(usize),
    /// What the spec says, after a pause.
    Late(Duration),
    /// What the spec says, with a pause after this many bytes of the answer's body.
    Slow(usize, Duration),
    /// What the spec says is done, but nobody is told: the connection ends in place of the answer.
    Mute,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body is repeated until the other side has had enough.
    pub endless: bool,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }

    pub(crate) fn error(status: u16, code: &str) -> Reply {
        Reply::status(status).body(format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#))
    }
}

type Fault = Box<dyn Fn(&Head, usize) -> Action + Send + Sync>;

#[derive(Default)]
struct Store {
    blobs: HashMap<(String, String), Vec<u8>>,
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    next: usize,
    seen: Vec<Head>,
}

struct Shared {
    /// The port of the registry behind it.
    upstream: Option<u16>,
    store: Mutex<Store>,
    fault: Mutex<Fault>,
    stopped: AtomicBool,
    address: SocketAddr,
}

pub(crate) struct FakeRegistry(Arc<Shared>);

impl FakeRegistry {
    /// A fake one, in memory.
    pub(crate) fn start() -> FakeRegistry {
        FakeRegistry::with(None)
    }

    /// A proxy in front of this one.
    pub(crate) fn in_front_of(registry: &DockerRegistry) -> FakeRegistry {
        FakeRegistry::with(Some(registry.port()))
    }

    fn with(upstream: Option<u16>) -> FakeRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            upstream,
            store: Mutex::default(),
            fault: Mutex::new(Box::new(|_, _| Action::Serve)),
            stopped: AtomicBool::new(false),
            address: listener.local_addr().unwrap(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, Ok(stream)) = (Arc::clone(&accepting), stream) else { continue };
                std::thread::spawn(move || drop(shared.converse(&stream)));
            }
        });
        FakeRegistry(shared)
    }

    /// `host:port`
    pub(crate) fn name(&self) -> String {
        self.0.address.to_string()
    }

    /// From now on each request is shown to this with its number, from 0, and treated as it says.
    pub(crate) fn fault(&self, fault: impl Fn(&Head, usize) -> Action + Send + Sync + 'static) {
        self.0.store.lock().unwrap().seen.clear();
        *self.0.fault.lock().unwrap() = Box::new(fault);
    }

    /// The requests since the last fault was set.
    pub(crate) fn seen(&self) -> Vec<Head> {
        self.0.store.lock().unwrap().seen.clone()
    }

    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|head| head.method == method && head.target.contains(part)).count()
    }

    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.0.store.lock().unwrap().blobs.insert((repository.to_owned(), digest.to_string()), bytes.to_vec());
        digest
    }

    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut store = self.0.store.lock().unwrap();
        for name in [tag.to_owned(), digest.to_string()] {
            store.manifests.insert((repository.to_owned(), name), (media_type.to_owned(), bytes.to_vec()));
        }
        digest
    }

    pub(crate) fn manifest(&self, repository: &str, tag: &str) -> Option<Vec<u8>> {
        if let Some(port) = self.0.upstream {
            let accept =
                "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
            let head = Head {
                method: "GET".to_owned(),
                target: format!("/v2/{repository}/manifests/{tag}"),
                headers: HashMap::from([("accept".to_owned(), accept.to_owned()), ("host".to_owned(), self.name())]),
            };
            let reply = forward(port, &head, &[]).unwrap();
            return (reply.status == 200).then_some(reply.body);
        }
        let store = self.0.store.lock().unwrap();
        store.manifests.get(&(repository.to_owned(), tag.to_owned())).map(|(_, bytes)| bytes.clone())
    }

    pub(crate) fn lose_blobs(&self) {
        self.0.store.lock().unwrap().blobs.clear();
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.0.address);
    }
}

impl Shared {
    /// Requests on one connection until it ends.
    fn converse(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(head) = read_head(&mut reader)? {
            let number = {
                let mut store = self.store.lock().unwrap();
                store.seen.push(head.clone());
                store.seen.len() - 1
            };
            let action = (self.fault.lock().unwrap())(&head, number);
            if let Action::Reset(after) = action {
                let mut part = vec![0; body_length(&head).unwrap_or(0).min(after)];
                reader.read_exact(&mut part)?;
                return self.take_part(&head, &part);
            }
            let body = read_body(&mut reader, &head)?;
            let (reply, limit, pause) = match action {
                Action::Reply(reply) => (reply, None, None),
                Action::Cut(limit) => (self.serve(&head, &body), Some(limit), None),
                Action::Slow(after, pause) => (self.serve(&head, &body), None, Some((after, pause))),
                Action::Flip(at) => {
                    let mut reply = self.serve(&head, &body);
                    if let Some(byte) = reply.body.get_mut(at) {
                        *byte ^= 0x20;
                    }
                    (reply, None, None)
                }
                Action::Late(pause) => {
                    std::thread::sleep(pause);
                    (self.serve(&head, &body), None, None)
                }
                Action::Mute => {
                    self.serve(&head, &body);
                    return Ok(());
                }
                Action::Serve | Action::Reset(_) => (self.serve(&head, &body), None, None),
            };
            answer(stream, &head, &reply, limit, pause)?;
            if limit.is_some() || reply.endless {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A body that ends too early reaches the registry so.
    fn take_part(&self, head: &Head, part: &[u8]) -> std::io::Result<()> {
        if let Some(port) = self.upstream {
            if !part.is_empty() {
                drop(ask(port, head, part)?);
            }
            return Ok(());
        }
        // The fake one keeps what it got.
        let id = head.target.split_once("/blobs/uploads/").map(|(_, id)| id.split('?').next().unwrap_or_default());
        if let Some(bytes) = id.and_then(|id| self.store.lock().unwrap().uploads.get_mut(id).map(std::mem::take)) {
            let id = id.unwrap().to_owned();
            self.store.lock().unwrap().uploads.insert(id, [bytes, part.to_vec()].concat());
        }
        Ok(())
    }

    fn serve(&self, head: &Head, body: &[u8]) -> Reply {
        if let Some(port) = self.upstream {
            return forward(port, head, body)
                .unwrap_or_else(|error| panic!("the registry behind the proxy: {}: {error}", head.target));
        }
        let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
        // As a proxy it is given whole addresses.
        let path = path.strip_prefix("http://").map_or(path, |rest| rest.find('/').map_or("", |at| &rest[at..]));
        let Some(path) = path.strip_prefix("/v2/") else { return Reply::status(404) };
        if path.is_empty() {
            return Reply::status(200);
        }
        let query: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes())
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        let mut store = self.store.lock().unwrap();
        if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
            return store.upload(head, repository, id, &query, body);
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            let Some(blob) = store.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
                return Reply::error(404, "BLOB_UNKNOWN");
            };
            let range = head
                .headers
                .get("range")
                .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            return match range {
                Some(start) if start < blob.len() => Reply::status(206)
                    .header("content-range", format!("bytes {start}-{}/{}", blob.len() - 1, blob.len()))
                    .body(&blob[start..]),
                Some(_) => Reply::status(416),
                None => Reply::status(200).body(blob.clone()),
            };
        }
        let Some((repository, tag)) = path.split_once("/manifests/") else { return Reply::status(404) };
        if head.method == "PUT" {
            let digest = Digest::of(body).to_string();
            let media_type = head.headers.get("content-type").cloned().unwrap_or_default();
            for name in [tag, &digest] {
                store.manifests.insert((repository.to_owned(), name.to_owned()), (media_type.clone(), body.to_vec()));
            }
            return Reply::status(201).header("docker-content-digest", digest);
        }
        match store.manifests.get(&(repository.to_owned(), tag.to_owned())) {
            Some((media_type, bytes)) => Reply::status(200)
                .header("content-type", media_type)
                .header("docker-content-digest", Digest::of(bytes).to_string())
                .body(bytes.clone()),
            None => Reply::error(404, "MANIFEST_UNKNOWN"),
        }
    }
}

impl Store {
    fn upload(
        &mut self,
        head: &Head,
        repository: &str,
        id: &str,
        query: &HashMap<String, String>,
        body: &[u8],
    ) -> Reply {
        let begins_at =
            head.headers.get("content-range").and_then(|range| range.split('-').next()?.parse::<usize>().ok());
        let held = self.uploads.get(id).map_or(0, Vec::len);
        match head.method.as_str() {
            "PUT" | "PATCH" if begins_at.is_some_and(|at| at != held) => Reply::error(416, "RANGE_INVALID"),
            "POST" => {
                if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from"))
                    && let Some(blob) = self.blobs.get(&(from.clone(), digest.clone())).cloned()
                {
                    self.blobs.insert((repository.to_owned(), digest.clone()), blob);
                    return Reply::status(201).header("docker-content-digest", digest);
                }
                self.next += 1;
                let id = format!("u{}", self.next);
                self.uploads.insert(id.clone(), Vec::new());
                Reply::status(202).header("location", format!("/v2/{repository}/blobs/uploads/{id}?state=x%2Fy"))
            }
            "PUT" => {
                let Some(mut bytes) = self.uploads.remove(id) else { return Reply::error(404, "BLOB_UPLOAD_UNKNOWN") };
                bytes.extend_from_slice(body);
                let digest = Digest::of(&bytes).to_string();
                if query.get("digest") != Some(&digest) || query.get("state").map(String::as_str) != Some("x/y") {
                    return Reply::error(400, "DIGEST_INVALID");
                }
                self.blobs.insert((repository.to_owned(), digest.clone()), bytes);
                Reply::status(201).header("docker-content-digest", digest)
            }
            "PATCH" => {
                let Some(bytes) = self.uploads.get_mut(id) else { return Reply::error(404, "BLOB_UPLOAD_UNKNOWN") };
                bytes.extend_from_slice(body);
                Reply::status(202)
                    .header("location", format!("/v2/{repository}/blobs/uploads/{id}?state=x%2Fy"))
                    .header("range", format!("0-{}", bytes.len().saturating_sub(1)))
            }
            "GET" => match self.uploads.get(id) {
                Some(bytes) => Reply::status(204)
                    .header("location", format!("/v2/{repository}/blobs/uploads/{id}?state=x%2Fy"))
                    .header("range", format!("0-{}", bytes.len().saturating_sub(1))),
                None => Reply::error(404, "BLOB_UPLOAD_UNKNOWN"),
            },
            "DELETE" => {
                self.uploads.remove(id);
                Reply::status(204)
            }
            _ => Reply::status(405),
        }
    }
}

/// What the registry on this port answers.
fn forward(port: u16, head: &Head, body: &[u8]) -> std::io::Result<Reply> {
    let mut reader = BufReader::new(ask(port, head, body)?);
    let Some(answer) = read_head(&mut reader)? else { return Err(std::io::ErrorKind::UnexpectedEof.into()) };
    let mut reply = Reply::status(answer.target.parse().unwrap());
    let without_body = head.method == "HEAD" || reply.status == 204;
    if answer.headers.contains_key("transfer-encoding") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let mut piece = vec![0; usize::from_str_radix(line.trim(), 16).unwrap() + 2];
            reader.read_exact(&mut piece)?;
            piece.truncate(piece.len() - 2);
            if piece.is_empty() {
                break;
            }
            reply.body.extend(piece);
        }
    } else if !without_body {
        reply.body = vec![0; body_length(&answer).unwrap_or(0)];
        reader.read_exact(&mut reply.body)?;
    }
    reply.headers = answer.headers.into_iter().collect();
    reply.headers.retain(|(name, _)| !matches!(name.as_str(), "connection" | "transfer-encoding"));
    Ok(reply)
}

/// Sends a request; its body may be shorter than its headers say.
fn ask(port: u16, head: &Head, body: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut text = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", head.method, head.target);
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != "connection") {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    stream.write_all(text.as_bytes())?;
    stream.write_all(body)?;
    Ok(stream)
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Head { method, target, headers }))
}

fn body_length(head: &Head) -> Option<usize> {
    head.headers.get("content-length")?.parse().ok()
}

fn read_body(reader: &mut impl Read, head: &Head) -> std::io::Result<Vec<u8>> {
    assert!(!head.headers.contains_key("transfer-encoding"), "bodies have a length: {head:?}");
    let mut body = vec![0; body_length(head).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn answer(
    mut stream: &TcpStream,
    head: &Head,
    reply: &Reply,
    limit: Option<usize>,
    pause: Option<(usize, Duration)>,
) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {} x\r\n", reply.status);
    for (name, value) in &reply.headers {
        text += &format!("{name}: {value}\r\n");
    }
    if reply.endless {
        text += "connection: close\r\n\r\n";
        stream.write_all(text.as_bytes())?;
        loop {
            stream.write_all(&reply.body)?;
        }
    }
    if reply.status != 204 && !reply.headers.iter().any(|(name, _)| name == "content-length") {
        text += &format!("content-length: {}\r\n", reply.body.len());
    }
    text += "\r\n";
    stream.write_all(text.as_bytes())?;
    if head.method == "HEAD" || reply.status == 204 {
        return Ok(());
    }
    let body = &reply.body[..limit.unwrap_or(reply.body.len()).min(reply.body.len())];
    match pause {
        Some((after, pause)) if after < body.len() => {
            stream.write_all(&body[..after])?;
            std::thread::sleep(pause);
            stream.write_all(&body[after..])
        }
        _ => stream.write_all(body),
    }
}
