//! ADD of web addresses and git repositories, and what is sent to a web address: against servers on loopback.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use zuwai_lab::command::{self, must};
use zuwai_lab::layout::{Layout, sha256, text};
use zuwai_lab::tar::{self, Entry};
use zuwai_lab::web_server::Request;
use zuwai_lab::{Answer, Authority, GitServer, Output, Person, Registry, Scratch, WebServer, Who, registry};

const LIMIT: Duration = Duration::from_mins(1);

/// Somebody who builds on this machine and trusts an authority by a variable.
struct Bench {
    authority: Authority,
    person: Person,
    _scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let scratch = Scratch::new().unwrap();
        let authority = Authority::new(&scratch.folder("authority").unwrap()).unwrap();
        let person = Person::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), Who::Root).unwrap();
        // The whole folder is trusted, whatever else lies in it.
        let trusted = person.folder("certificates").unwrap();
        fs::copy(authority.certificate(), trusted.join("lab.crt")).unwrap();
        fs::write(trusted.join("README"), "no certificate").unwrap();
        Self { authority, person, _scratch: scratch }
    }

    fn serve(&self, answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> WebServer {
        WebServer::start(&self.authority, answer).unwrap()
    }

    fn layout(&self) -> PathBuf {
        self.person.home().join("context/layout")
    }

    /// `zuwai build` of a Dockerfile, into a layout.
    fn zuwai(&self, dockerfile: &str) -> Command {
        let folder = self.person.folder("context").unwrap();
        fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        let mut zuwai = self.person.zuwai(&folder);
        zuwai.env("SSL_CERT_DIR", format!("/nowhere:{}", self.person.home().join("certificates").display()));
        zuwai.args(["build", "-t", "app:1", "--oci-layout-path=layout", "."]);
        zuwai
    }

    fn build(&self, dockerfile: &str) -> Output {
        command::run(&mut self.zuwai(dockerfile), LIMIT).unwrap()
    }

    /// What the build adds to an empty image: folders left out, by their names.
    fn added(&self, dockerfile: &str) -> Vec<Entry> {
        self.build(dockerfile).success().unwrap();
        let layout = Layout::open(&self.layout()).unwrap();
        let manifest = layout.document(text(&layout.index().unwrap()[0], "digest").unwrap()).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        let entries = layers.flat_map(|layer| tar::read(&layout.layer(layer).unwrap()).unwrap());
        entries.filter(|entry| entry.kind != b'5').collect()
    }

    /// The build fails, says these words, and leaves nothing.
    fn fails(&self, dockerfile: &str, words: &[&str]) -> Output {
        let output = self.build(dockerfile);
        assert_eq!(output.code(), 1, "{output}");
        for word in words {
            assert!(output.err().contains(word), "`{word}` is not said: {output}");
        }
        assert!(!self.layout().exists(), "{output}");
        output
    }
}

/// Name, mode, owner, time and content.
fn facts(entry: &Entry) -> (String, u32, u64, i64, String) {
    let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (owned(&entry.name), entry.mode & 0o7777, entry.uid, entry.mtime, owned(&entry.data))
}

fn fact(name: &str, mode: u32, mtime: i64, content: &str) -> (String, u32, u64, i64, String) {
    (name.to_owned(), mode, 0, mtime, content.to_owned())
}

#[test]
fn a_file_of_a_web_server_gets_its_name_its_time_and_mode_0600_whatever_stands_behind_a_question_mark() {
    let bench = Bench::new();
    let server = bench.serve(|request, _| match request.target.split('?').next().unwrap() {
        "/dated/one.txt" => {
            Answer::new(200, "one").header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT").header("etag", "\"x\"")
        }
        "/two%20words.txt" | "/elsewhere/real.txt" => Answer::new(200, "two"),
        "/moved.txt" => Answer::new(302, "").header("location", "/elsewhere/real.txt"),
        "/folder/" => Answer::new(200, "list"),
        _ => Answer::new(404, ""),
    });
    let (plain, encrypted) = (server.plain(), server.encrypted());
    let added = bench.added(&format!(
        "FROM scratch\nADD https://{encrypted}/dated/one.txt?token=x#y /a/\nADD http://{plain}/two%20words.txt /b/\n\
         ADD https://{encrypted}/moved.txt /c/\nADD http://{plain}/folder/ /d/\nADD http://{plain}/dated/one.txt /e\n\
         ADD --chmod=0755 --chown=7:8 http://{plain}/dated/one.txt /f\n"
    ));
    let facts: Vec<_> = added.iter().map(facts).collect();
    assert_eq!(
        facts[..5],
        [
            fact("a/one.txt", 0o600, 784_111_777, "one"),
            fact("b/two words.txt", 0o600, 0, "two"),
            fact("c/moved.txt", 0o600, 0, "two"),
            fact("d/folder", 0o600, 0, "list"),
            fact("e", 0o600, 784_111_777, "one"),
        ]
    );
    assert_eq!((&facts[5].0[..], facts[5].1, facts[5].2, added[5].gid), ("f", 0o755, 7, 8));
}

#[test]
fn an_archive_of_a_web_server_stays_packed_unless_it_is_asked_for() {
    let bench = Bench::new();
    let scratch = Scratch::new().unwrap();
    fs::write(scratch.path().join("inner"), "inner").unwrap();
    let archive = scratch.path().join("x.tgz");
    must(Command::new("tar").arg("-C").arg(scratch.path()).arg("-czf").arg(&archive).arg("inner")).unwrap();
    let bytes = fs::read(&archive).unwrap();
    let served = bytes.clone();
    let server = bench.serve(move |_, _| Answer::new(200, served.clone()));
    let host = server.encrypted();
    let added = bench.added(&format!(
        "FROM scratch\nADD https://{host}/x.tgz /packed/\nADD --unpack=true https://{host}/x.tgz /unpacked/\n\
         ADD --checksum=sha256:{} https://{host}/x.tgz /checked/\n",
        sha256(&bytes)
    ));
    let names: Vec<_> = added.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
    assert_eq!(names, ["packed/x.tgz", "unpacked/inner", "checked/x.tgz"]);
    assert!(added[0].data == bytes && added[1].data == b"inner");
}

#[test]
fn what_a_web_server_refuses_is_told_at_once_and_what_passes_is_asked_for_again() {
    let bench = Bench::new();
    let server = bench.serve(|request, before| match (request.target.split('?').next().unwrap(), before) {
        ("/busy", 0) => Answer::new(429, "").header("retry-after", "1"),
        ("/busy", 1) => Answer::new(503, ""),
        ("/broken", 0 | 1) => Answer { cut: Some(40_000), ..Answer::new(200, vec![b'x'; 100_000]) },
        ("/broken", _) => Answer::new(200, vec![b'y'; 100_000]),
        ("/busy", _) => Answer::new(200, "busy"),
        ("/loop", _) => Answer::new(302, "").header("location", "/loop"),
        _ => Answer::new(403, "no"),
    });
    let (plain, encrypted) = (server.plain(), server.encrypted());
    let added = bench.added(&format!("FROM scratch\nADD https://{encrypted}/busy /\nADD http://{plain}/broken /\n"));
    assert_eq!(added[0].data, b"busy");
    assert!(added[1].data == vec![b'y'; 100_000], "two halves were put together");
    fs::remove_dir_all(bench.layout()).unwrap();

    let count = |path: &str| server.seen().iter().filter(|request| request.target.starts_with(path)).count();
    let refused = format!("FROM scratch\nADD http://me:pa55@{plain}/private?signature=s3cret /\n");
    let output = bench.fails(&refused, &["Dockerfile:2", "/private: the server answers 403"]);
    assert_eq!(count("/private"), 1);
    let said: String = output.err().lines().filter(|line| !line.contains("ADD ")).collect();
    assert!(!said.contains("s3cret") && !said.contains("pa55"), "{output}");
    let shown = server.seen().iter().find(|request| request.target.starts_with("/private")).unwrap().clone();
    assert_eq!(shown.headers["authorization"], "Basic bWU6cGE1NQ==");

    bench.fails(&format!("FROM scratch\nADD http://{plain}/loop /\n"), &["Dockerfile:2", "redirect"]);
    assert_eq!(count("/loop"), 11, "ten redirects are followed");
    let wrong = format!("FROM scratch\nADD --checksum=sha256:{} http://{plain}/busy /\n", "0".repeat(64));
    bench.fails(&wrong, &["Dockerfile:2", &format!("sha256:{}", sha256(b"busy")), &"0".repeat(64)]);
}

#[test]
fn a_web_server_that_is_not_trusted_is_asked_once() {
    let bench = Bench::new();
    let server = bench.serve(|_, _| Answer::new(200, "x"));
    let dockerfile = format!("FROM scratch\nADD https://{}/x /\n", server.encrypted());
    let mut zuwai = bench.zuwai(&dockerfile);
    zuwai.env_remove("SSL_CERT_DIR");
    let output = command::run(&mut zuwai, LIMIT).unwrap();
    assert_eq!(output.code(), 1, "{output}");
    assert!(output.err().to_lowercase().contains("certificate"), "{output}");
    assert!(server.seen().is_empty() && output.took < Duration::from_secs(5), "{output}");
}

#[test]
fn a_repository_is_added_at_any_ref_and_any_folder_of_it() {
    let bench = Bench::new();
    let git = GitServer::start(&bench.authority, "t0ken").unwrap();
    let files = bench.person.folder("files/docs").unwrap();
    fs::write(files.join("page"), "page").unwrap();
    fs::write(files.parent().unwrap().join("top"), "top").unwrap();
    git.add("app.git", files.parent().unwrap()).unwrap();
    let commit = git.commit("app.git", "production").unwrap();
    let address = format!("https://auth:t0ken@{}/app.git", git.host());
    let names = |dockerfile: &str| -> Vec<String> {
        let added = bench.added(dockerfile);
        added.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
    };
    for (source, expected) in [
        (address.clone(), &["x/README"][..]),
        (format!("{address}#production"), &["x/README", "x/docs/page", "x/top"]),
        (format!("{address}#v1.0:docs"), &["x/page"]),
        (format!("{address}#refs/merge-requests/1/head:docs"), &["x/page"]),
        (format!("{address}#{commit}:docs"), &["x/page"]),
        (format!("{address}?branch=production&subdir=docs"), &["x/page"]),
        (format!("--checksum={commit} {address}#production:docs"), &["x/page"]),
    ] {
        assert_eq!(names(&format!("FROM scratch\nADD {source} /x/\n")), expected, "{source}");
    }
    let kept = names(&format!("FROM scratch\nADD --keep-git-dir=true {address}#production /x/\n"));
    assert!(kept.contains(&"x/.git/HEAD".to_owned()) && kept.contains(&"x/top".to_owned()), "{kept:?}");
    fs::remove_dir_all(bench.layout()).unwrap();

    let (main, host) = (git.commit("app.git", "main").unwrap(), git.host());
    for (source, words) in [
        (format!("{address}#nothing"), vec!["nothing"]),
        (format!("{address}#production:nowhere"), vec!["nowhere"]),
        (format!("--checksum={main} {address}#production"), vec![main.as_str(), commit.as_str()]),
        (format!("https://auth:wrong@{host}/app.git"), vec![host.as_str(), "authentication failed"]),
    ] {
        let output = bench.fails(&format!("FROM scratch\nADD {source} /x/\n"), &words);
        assert!(output.err().contains("Dockerfile:2"), "{output}");
        let said: String = output.err().lines().filter(|line| !line.contains("ADD ")).collect();
        assert!(!said.contains("t0ken") && !said.contains("wrong@"), "{output}");
    }
}

#[test]
fn a_repository_is_a_named_context_and_its_commit_can_be_the_time_of_the_image() {
    let bench = Bench::new();
    let git = GitServer::start(&bench.authority, "t0ken").unwrap();
    let files = bench.person.folder("files/docs").unwrap();
    for (name, content) in [("page", "page"), ("hidden", "hidden"), (".dockerignore", "hidden")] {
        fs::write(files.join(name), content).unwrap();
    }
    git.add("app.git", files.parent().unwrap()).unwrap();
    let commit = git.commit("app.git", "production").unwrap();
    let host = git.host();
    let build = |dockerfile: &str, context: &str| {
        let output =
            command::run(bench.zuwai(dockerfile).arg(format!("--build-context=app={context}")), LIMIT).unwrap();
        assert!(!format!("{output}").contains("t0ken"), "{output}");
        output
    };
    let read = || {
        let layout = Layout::open(&bench.layout()).unwrap();
        let manifest = layout.document(text(&layout.index().unwrap()[0], "digest").unwrap()).unwrap();
        let entries = tar::read(&layout.layer(&manifest["layers"][0]).unwrap()).unwrap();
        let names = entries.iter().filter(|entry| entry.kind != b'5');
        let names: Vec<String> = names.map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
        let config = layout.document(text(&manifest["config"], "digest").unwrap()).unwrap();
        (names, config)
    };
    // A repository's ignore file is meant for those who build it, and holds for nobody else.
    let all = ["README", "docs/.dockerignore", "docs/hidden", "docs/page"];
    for (context, folder) in [
        (format!("https://auth:t0ken@{host}/app.git#production"), ""),
        (format!("https://auth:t0ken@{host}/app.git?ref={commit}&subdir=docs"), "docs/"),
        (format!("https://auth:t0ken@{host}/app.git?ref=production&commit={commit}#:docs"), "docs/"),
        (format!("git://auth:t0ken@{host}/app.git#refs/heads/production"), ""),
    ] {
        build("FROM scratch\nCOPY --from=app . /\n", &context).success().unwrap();
        let (names, _) = read();
        let names: Vec<String> = names.into_iter().filter(|name| !name.starts_with(".git/")).collect();
        let expected: Vec<&str> = all.iter().filter_map(|name| name.strip_prefix(folder)).collect();
        assert_eq!(names, expected, "{context}");
    }
    let address = format!("https://auth:t0ken@{host}/app.git#production");
    build("ARG SOURCE_DATE_EPOCH=app\nFROM app\nARG SOURCE_DATE_EPOCH\n", &address).success().unwrap();
    let (names, config) = read();
    assert_eq!(names, all);
    assert_eq!(config["created"], "2020-01-01T00:00:00Z");
    assert_eq!(config["history"][0]["created_by"], "local source for app");
    assert_eq!(config["history"][1]["created_by"], "ARG SOURCE_DATE_EPOCH=1577836800");
    fs::remove_dir_all(bench.layout()).unwrap();

    let other = git.commit("app.git", "main").unwrap();
    for (context, words) in [
        (format!("{address}:nowhere"), vec!["--build-context app", "nowhere"]),
        (format!("https://auth:t0ken@{host}/app.git?ref=production&commit={other}"), vec![&other, commit.as_str()]),
        (format!("https://auth:wrong@{host}/app.git"), vec!["authentication failed"]),
    ] {
        let output = build("FROM scratch\nCOPY --from=app . /\n", &context);
        assert!(output.code() == 1 && words.iter().all(|word| output.err().contains(word)), "{output}");
        assert!(!bench.layout().exists(), "{output}");
    }
}

#[test]
fn a_digest_is_put_to_an_address_before_the_push_and_its_signature_is_told_to_nobody() {
    let bench = Bench::new();
    let server = bench.serve(|request, before| match (request.target.split('?').next().unwrap(), before) {
        ("/digest", 0) => Answer::new(503, ""),
        ("/digest", _) => Answer::new(200, ""),
        ("/names", _) => Answer::new(201, ""),
        ("/moved", _) => Answer::new(307, "").header("location", "http://127.0.0.1:9/digest"),
        _ => Answer::new(403, "expired"),
    });
    let options = registry::Options { authority: Some(&bench.authority), ..Default::default() };
    let registry = Registry::start(&options).unwrap();
    let (host, image) = (server.encrypted(), format!("{}/app", registry.host()));
    let build = |place: &str| {
        let folder = bench.person.folder("context").unwrap();
        fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
        let mut zuwai = bench.person.zuwai(&folder);
        zuwai.env("SSL_CERT_DIR", bench.person.home().join("certificates"));
        zuwai.args(["build", "-d", &format!("{image}:1"), "-d", &format!("{image}:2"), "."]);
        zuwai.arg(format!("--digest-file={place}?X-Amz-Signature=s3cret"));
        zuwai.arg(format!("--image-name-with-digest-file=https://{host}/names"));
        command::run(&mut zuwai, LIMIT).unwrap()
    };
    let output = build(&format!("https://{host}/digest")).success().unwrap();
    let digest = registry.storage().tag("app", "1").unwrap();
    let puts: Vec<Request> = server.seen();
    let bodies: Vec<_> = puts.iter().map(|put| (&put.method[..], String::from_utf8_lossy(&put.body))).collect();
    let names = format!("{image}@{digest}\n").repeat(2);
    assert_eq!(bodies, [("PUT", digest.clone().into()), ("PUT", digest.clone().into()), ("PUT", names.into())]);
    assert!(puts.iter().all(|put| put.headers["content-type"] == "text/plain"));
    assert!(puts[1].target.ends_with("?X-Amz-Signature=s3cret"));
    assert!(!output.err().contains("s3cret") && output.err().contains(&format!("https://{host}/digest")), "{output}");

    let pushed = registry.requests().len();
    for (place, word) in [("expired", "the server answers 403"), ("moved", "send to")] {
        let output = build(&format!("https://{host}/{place}"));
        assert_eq!(output.code(), 1, "{output}");
        assert!(output.err().contains(word) && output.err().contains("digest-file"), "{output}");
        assert!(!output.err().contains("s3cret"), "{output}");
    }
    let manifests = registry.requests()[pushed..].iter().filter(|line| line.contains("PUT /v2/app/manifests")).count();
    assert_eq!(manifests, 0, "what cannot be told is not pushed");
    let _: Value = registry.manifest("app:2").unwrap();
}
