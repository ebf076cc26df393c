//! A token service for a real registry: it signs tokens with a key of its own, by the distribution project's token
//! specification. The registry believes it; whom it believes is up to the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::tls::self_signed;

/// What a client asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub method: String,
    pub authorization: Option<String>,
    pub pairs: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.pairs.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    }
}

pub(crate) struct TokenService {
    folder: tempfile::TempDir,
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
}

/// A user, a password and a refresh token: who shows these is given every scope asked for.
pub(crate) const USER: (&str, &str, &str) = ("builder", "s3cret", "refresh-me");

impl TokenService {
    /// Tokens last this many seconds.
    pub(crate) fn start(life: i64) -> TokenService {
        let folder = tempfile::tempdir().unwrap();
        let (_, key) = self_signed(folder.path(), "tokens", "");
        let certificate = Command::new("openssl")
            .args(["x509", "-in", "tokens.pem", "-outform", "DER"])
            .current_dir(folder.path())
            .output()
            .unwrap()
            .stdout;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stop) = (Arc::clone(&asked), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _ = answer(&stream, &key, &certificate, life, &log);
            }
        });
        TokenService { folder, port, asked, stopped }
    }

    pub(crate) fn realm(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What the registry must trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("tokens.pem")
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for TokenService {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn answer(
    mut stream: &TcpStream,
    key: &Path,
    certificate: &[u8],
    life: i64,
    log: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut asked = Asked { method: words.next().unwrap_or_default().to_owned(), ..Asked::default() };
    let query = words.next().unwrap_or_default().split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => asked.authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let pairs = url::form_urlencoded::parse(query.as_bytes()).chain(url::form_urlencoded::parse(&body));
    asked.pairs = pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    log.lock().unwrap().push(asked.clone());

    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", USER.0, USER.1)));
    let known = asked.authorization.as_deref() == Some(&basic) || asked.all("refresh_token") == [USER.2];
    let refused = !known && (asked.authorization.is_some() || asked.method == "POST");
    let (status, body) = if refused {
        ("401 Unauthorized", json!({"details": "incorrect username or password"}))
    } else {
        let token = token(&asked, known, key, certificate, life);
        let name = if asked.method == "POST" { "access_token" } else { "token" };
        ("200 OK", json!({name: token, "expires_in": life}))
    };
    let body = body.to_string();
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A JSON Web Token for the scopes; strangers may pull what is public.
fn token(asked: &Asked, known: bool, key: &Path, certificate: &[u8], life: i64) -> String {
    let scopes = asked.all("scope").iter().flat_map(|scope| scope.split(' ').map(str::to_owned)).collect::<Vec<_>>();
    let access: Vec<_> = scopes
        .iter()
        .filter(|scope| known || scope.contains(":public/"))
        .map(|scope| {
            let parts: Vec<&str> = scope.split(':').collect();
            let actions: Vec<&str> = parts[2].split(',').filter(|action| known || *action == "pull").collect();
            json!({"type": parts[0], "name": parts[1], "actions": actions})
        })
        .collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [STANDARD.encode(certificate)]});
    let claims = json!({
        "iss": "tests", "sub": "x", "aud": "registry.test", "exp": now + life, "nbf": now - 10, "iat": now,
        "jti": format!("{:?}", std::time::Instant::now()), "access": access,
    });
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    let signature = openssl.wait_with_output().unwrap().stdout;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
