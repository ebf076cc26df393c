//! ADD of what servers have: found again where they say that it is what it was.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use zuwai_lab::layout::sha256;
use zuwai_lab::{Authority, GitServer, command};

use super::stand::Stand;

/// A server with one file, which may be called something by an `ETag`; it notes what it is asked.
#[derive(Clone)]
struct Web {
    port: u16,
    file: Arc<Mutex<(String, Option<String>)>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start(content: &str, etag: Option<&str>) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let web = Web { port, file: Arc::default(), asked: Arc::default() };
        web.put(content, etag);
        let serving = web.clone();
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| serving.answer(&stream)));
        web
    }

    fn put(&self, content: &str, etag: Option<&str>) {
        *self.file.lock().unwrap() = (content.to_owned(), etag.map(str::to_owned));
    }

    fn answer(&self, stream: &TcpStream) {
        let head: Vec<String> =
            BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let method = head.first().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
        let (content, etag) = self.file.lock().unwrap().clone();
        let etag = etag.map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
        let length = content.len();
        let body = if method == "HEAD" { "" } else { content.as_str() };
        self.asked.lock().unwrap().push(method);
        let _ =
            write!(&*stream, "HTTP/1.1 200 OK\r\n{etag}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[test]
fn a_file_that_is_called_what_it_was_is_not_fetched_again() {
    let stand = Stand::new("");
    let web = Web::start("first", Some("\"1\""));
    let address = format!("http://127.0.0.1:{}/f", web.port);
    stand.write("Dockerfile", &format!("FROM busybox\nADD {address} /f\nRUN cat /f > /g\n"));
    stand.build("one", &[]);
    web.asked();
    let two = stand.build("two", &[]);
    assert_eq!((two.misses().len(), web.asked()), (0, vec!["HEAD".to_owned()]), "{}", two.output);
    web.put("second", Some("\"2\""));
    let three = stand.build("three", &[]);
    assert_eq!(three.misses()[0], format!("ADD {address} /f: content of {address} changed"), "{}", three.output);
    assert_eq!(stand.file("three", "g"), "second");
    // A weak name may stand for other bytes.
    web.put("third", Some("W/\"2\""));
    for tag in ["four", "five"] {
        let build = stand.build(tag, &[]);
        assert!(build.misses()[0].contains("gives it no strong ETag"), "{}", build.output);
        assert_eq!((build.hits().len(), stand.file(tag, "g").as_str()), (0, "third"));
    }
}

#[test]
fn a_file_with_a_checksum_is_found_without_a_server() {
    let stand = Stand::new("");
    let web = Web::start("first", None);
    let digest = sha256(b"first");
    let address = format!("http://127.0.0.1:{}/f", web.port);
    stand.write("Dockerfile", &format!("FROM busybox\nADD --checksum=sha256:{digest} {address} /f\nRUN cat /f > /g\n"));
    stand.build("one", &[]);
    web.asked();
    let two = stand.build("two", &[]);
    assert_eq!((two.misses().len(), web.asked().len()), (0, 0), "{}", two.output);
}

#[test]
fn a_repository_is_found_again_until_its_branch_moves() {
    const NAME: &str = "test/app.git";
    let stand = Stand::new("");
    let authority = Authority::new(&stand.scratch.path().join("authority")).unwrap();
    let server = GitServer::start(&authority, "t0ken").unwrap();
    server.add(NAME, &stand.context).unwrap();
    std::fs::copy(authority.certificate(), stand.certificates().join("lab.pem")).unwrap();
    let point = |to: &str| {
        let mut git = Command::new("git");
        git.arg("-C").arg(server.path(NAME)).args(["update-ref", "refs/heads/moving", to]);
        command::must(&mut git).unwrap();
    };
    point("main");
    let address = format!("https://auth:t0ken@{}/{NAME}#moving", server.host());
    stand.write("Dockerfile", &format!("FROM busybox\nADD {address} /src/\nRUN ls /src > /list\n"));
    stand.build("one", &[]);
    let two = stand.build("two", &[]);
    assert_eq!(two.misses(), [""; 0], "{}", two.output);
    assert!(!two.output.err().contains("Downloading") && stand.file("two", "list") == "README\n", "{}", two.output);
    point("production");
    let three = stand.build("three", &[]);
    assert_eq!(three.misses().len(), 2, "{}", three.output);
    assert!(three.misses()[0].contains("changed"), "{}", three.output);
    assert!(stand.file("three", "list").contains("lock.json"));
}
