//! A gate in front of a server: hands requests on, and answers those itself that it does not let through. What real
//! registries refuse and Debian's does not: to move a tag, to make a repository.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// What is answered to a request in the server's place: a status and a body; `None` hands it on.
pub type Rule = dyn Fn(&str, &str) -> Option<(u16, String)> + Send + Sync;

/// A port that leads to another one, one request a connection. It ends with this value.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Gate {
    /// Starts one in front of a port of this machine. The rule gets the method and the path of each request.
    pub fn start(
        target: u16,
        rule: impl Fn(&str, &str) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
        let port = listener.local_addr().context("listen on loopback")?.port();
        let (ended, rule): (_, Arc<Rule>) = (Arc::new(AtomicBool::new(false)), Arc::new(rule));
        let over = Arc::clone(&ended);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let rule = Arc::clone(&rule);
                // A connection that breaks is the client's to notice.
                thread::spawn(move || drop(pass(&client, target, &*rule)));
            }
        });
        Ok(Self { port, ended })
    }

    /// `127.0.0.1:<port>`, as it stands in references.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn pass(client: &TcpStream, target: u16, rule: &Rule) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(text) = lower.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap_or_default();
        }
        if line == "\r\n" {
            break;
        }
        if !lower.starts_with("connection:") {
            head.push(line);
        }
    }
    let mut words = head.first().map(|line| line.split(' ')).into_iter().flatten();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if let Some((status, body)) = rule(method, path) {
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let body = if method == "HEAD" { String::new() } else { body };
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
        return write!(&*client, "{head}Connection: close\r\n\r\n{body}");
    }
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    write!(&server, "{}Connection: close\r\n\r\n", head.concat())?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let sent = io::copy(&mut reader, &mut &server);
            let _ = server.shutdown(Shutdown::Write);
            sent
        });
        let answered = io::copy(&mut &server, &mut &*client);
        let _ = client.shutdown(Shutdown::Both);
        answered.map(drop)
    })
}
