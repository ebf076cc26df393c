//! Git repositories as the build context, from a real server that asks for a token over TLS.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use zuwai_builder::context::{self, ContextError};
use zuwai_builder::event::{Event, Observer};
use zuwai_builder::{ContextRequest, GitOptions};
use zuwai_lab::{Authority, GitServer};
use zuwai_registry::TransportOptions;
use zuwai_registry::transport::certificates_from_pem;

const REPOSITORY: &str = "test/test-application.git";
const TOKEN: &str = "s3cret-to/ken";

/// A server with one repository: branch `production`, tag `v1.0`, `refs/merge-requests/1/head`, and `main`.
struct Lab {
    server: GitServer,
    transport: TransportOptions,
    scratch: tempfile::TempDir,
}

/// Remembers what was said.
#[derive(Default)]
struct Said(std::sync::Mutex<Vec<String>>);

impl Observer for Said {
    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

impl Lab {
    fn start() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let files = scratch.path().join("files");
        fs::create_dir_all(files.join("sub/deeper")).unwrap();
        fs::write(files.join("Dockerfile"), "FROM scratch\n").unwrap();
        fs::write(files.join("sub/run.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(files.join("sub/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(files.join("sub/deeper/name with ☺"), "smile\n").unwrap();
        fs::write(files.join("dos.txt"), "one\ntwo\n").unwrap();
        fs::write(files.join(".gitattributes"), "dos.txt text eol=crlf\n").unwrap();
        symlink("sub/run.sh", files.join("link")).unwrap();
        symlink("/nowhere/at/all", files.join("dangling")).unwrap();
        let authority = Authority::new(&scratch.path().join("authority")).unwrap();
        let server = GitServer::start(&authority, TOKEN).unwrap();
        server.add(REPOSITORY, &files).unwrap();
        let pem = fs::read(authority.certificate()).unwrap();
        let transport =
            TransportOptions { root_certificates: certificates_from_pem(&pem), ..TransportOptions::default() };
        Self { server, transport, scratch }
    }

    /// The location with user and token as given, and what follows the repository.
    fn location(&self, login: &str, rest: &str) -> String {
        format!("git://{login}{}/{REPOSITORY}{rest}", self.server.host())
    }

    fn fetch(&self, location: &str, git: GitOptions) -> Result<(PathBuf, Vec<String>), ContextError> {
        let request = ContextRequest {
            location: location.to_owned(),
            sub_path: None,
            git,
            transport: self.transport.clone(),
            standard_input: None,
        };
        self.fetch_request(&request)
    }

    fn fetch_request(&self, request: &ContextRequest) -> Result<(PathBuf, Vec<String>), ContextError> {
        let into = tempfile::tempdir_in(self.scratch.path()).unwrap().keep().join("context");
        let said = Said::default();
        let context = context::fetch(request, Path::new("/"), &into, &said, &AtomicBool::new(false))?;
        Ok((context.root, said.0.into_inner().unwrap()))
    }

    /// With the right token.
    fn good(&self, rest: &str, git: GitOptions) -> PathBuf {
        let (root, said) = self.fetch(&self.location("auth:s3cret-to%2Fken@", rest), git).unwrap();
        assert!(!said.concat().contains("s3cret"), "{said:?}");
        assert_eq!(said.len(), 1);
        root
    }
}

fn git(root: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(root).args(["-c", "safe.directory=*"]).args(arguments);
    let output = command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent").output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn branch(name: &str) -> GitOptions {
    GitOptions { branch: Some(name.to_owned()), ..GitOptions::default() }
}

/// The error and all that is below it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

#[test]
fn a_branch_is_checked_out_alone_and_git_understands_the_clone() {
    let lab = Lab::start();
    let root = lab.good("", branch("production"));
    assert_eq!(fs::read_to_string(root.join("Dockerfile")).unwrap(), "FROM scratch\n");
    assert_eq!(fs::metadata(root.join("sub/run.sh")).unwrap().mode() & 0o111, 0o111);
    assert_eq!(fs::metadata(root.join("Dockerfile")).unwrap().mode() & 0o111, 0);
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("sub/run.sh"));
    assert_eq!(fs::read_link(root.join("dangling")).unwrap(), Path::new("/nowhere/at/all"));
    assert_eq!(fs::read_to_string(root.join("sub/deeper/name with ☺")).unwrap(), "smile\n");
    assert_eq!(fs::read_to_string(root.join("dos.txt")).unwrap(), "one\r\ntwo\r\n");

    assert_eq!(git(&root, &["rev-parse", "HEAD"]), lab.server.commit(REPOSITORY, "production").unwrap());
    assert_eq!(git(&root, &["symbolic-ref", "HEAD"]), "refs/heads/production");
    assert_eq!(git(&root, &["status", "--porcelain"]), "");
    assert_eq!(git(&root, &["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(git(&root, &["rev-parse", "--is-shallow-repository"]), "true");
    assert_eq!(git(&root, &["rev-parse", "origin/production"]), git(&root, &["rev-parse", "HEAD"]));
    git(&root, &["fsck"]);
    let config = fs::read_to_string(root.join(".git/config")).unwrap();
    assert!(config.contains(&format!("https://{}/{REPOSITORY}", lab.server.host())), "{config}");
    let everything = Command::new("grep").args(["-r", "-a", "s3cret"]).arg(&root).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&everything.stdout), "", "the token was written into the clone");
}

#[test]
fn every_way_to_name_a_commit_finds_it() {
    let lab = Lab::start();
    let (production, main) =
        (lab.server.commit(REPOSITORY, "production").unwrap(), lab.server.commit(REPOSITORY, "main").unwrap());
    let short = &main[..9];
    for (rest, git_options, expected, head) in [
        ("", GitOptions::default(), &main, "main"),
        ("#", GitOptions::default(), &main, "main"),
        ("#production", GitOptions::default(), &production, "production"),
        ("#refs/heads/production", GitOptions::default(), &production, "production"),
        ("#v1.0", GitOptions::default(), &production, "HEAD"),
        ("#refs/tags/v1.0", GitOptions::default(), &production, "HEAD"),
        ("#refs/merge-requests/1/head", GitOptions::default(), &production, "HEAD"),
        ("#merge-requests/1/head", GitOptions::default(), &production, "HEAD"),
        (&format!("#{production}"), GitOptions::default(), &production, "HEAD"),
        (&format!("#{short}"), GitOptions::default(), &main, "HEAD"),
        (&format!("#production#{main}"), GitOptions::default(), &main, "HEAD"),
        (&format!("#production#{short}"), GitOptions::default(), &main, "HEAD"),
        (&format!("##{production}"), GitOptions::default(), &production, "HEAD"),
        ("#main", branch("production"), &production, "production"),
        ("", branch("v1.0"), &production, "HEAD"),
    ] {
        let root = lab.good(rest, git_options);
        assert_eq!(&git(&root, &["rev-parse", "HEAD"]), expected, "{rest}");
        assert_eq!(git(&root, &["rev-parse", "--abbrev-ref", "HEAD"]), head, "{rest}");
        assert_eq!(git(&root, &["status", "--porcelain"]), "", "{rest}");
    }
}

#[test]
fn more_history_comes_when_it_is_asked_for() {
    let lab = Lab::start();
    let depth = |depth, single_branch| GitOptions { depth: Some(depth), single_branch, ..branch("production") };
    let root = lab.good("", depth(2, false));
    assert_eq!(git(&root, &["rev-list", "--count", "HEAD"]), "2");
    let root = lab.good("", depth(0, false));
    assert_eq!(git(&root, &["rev-parse", "--is-shallow-repository"]), "false");
    assert_eq!(git(&root, &["branch", "--remotes", "--format=%(refname:short)"]), "origin/main\norigin/production");
    assert_eq!(git(&root, &["describe", "--tags"]), "v1.0");
    let root = lab.good("", depth(0, true));
    assert_eq!(git(&root, &["branch", "--remotes", "--format=%(refname:short)"]), "origin/production");
}

#[test]
fn the_token_is_taken_from_the_location_or_from_outside() {
    let lab = Lab::start();
    let outside = |user: &str, password: &str| GitOptions {
        credentials: Some((user.to_owned(), password.to_owned())),
        ..branch("production")
    };
    assert!(lab.fetch(&lab.location("", ""), outside("auth", TOKEN)).is_ok());
    assert!(lab.fetch(&lab.location("auth:wrong@", ""), outside("auth", TOKEN)).is_ok());
    for (location, git) in [
        (lab.location("auth:wr0ng@", ""), branch("production")),
        (lab.location("wr0ng@", ""), branch("production")),
        (lab.location("auth:s3cret-to%2Fken@", ""), outside("auth", "wr0ng")),
    ] {
        let error = lab.fetch(&location, git).unwrap_err();
        let text = format!("{} {error:?} {}", chain(&error), error.hint().unwrap());
        assert!(
            text.starts_with(&format!("authentication failed: the git server {} does not accept", lab.server.host())),
            "{text}"
        );
        assert!(!text.contains("wr0ng") && !text.contains("s3cret"), "{text}");
    }
    let error = lab.fetch(&lab.location("", ""), branch("production")).unwrap_err();
    assert_eq!(
        chain(&error),
        format!("authentication required: the git server {} asks for a token, and there is none", lab.server.host())
    );
    assert!(error.hint().unwrap().contains("GIT_TOKEN"));
}

#[test]
fn what_is_not_there_is_named() {
    let lab = Lab::start();
    let text = |location: &str, git| chain(&lab.fetch(location, git).unwrap_err());
    let good = |rest: &str| lab.location("auth:s3cret-to%2Fken@", rest);
    assert_eq!(text(&good(""), branch("nope")), "invalid branch: nope");
    assert_eq!(text(&good("#nope"), GitOptions::default()), "the repository has no branch or tag nope");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    for rest in [format!("#{commit}"), format!("#production#{commit}"), format!("#{}", &commit[..8])] {
        let error = text(&good(&rest), GitOptions::default());
        assert!(error.starts_with(&format!("commit {}", &commit[..8])), "{error}");
        assert!(error.ends_with(" is not in the repository"), "{error}");
    }
    let elsewhere = format!("git://auth:s3cret-to%2Fken@{}/no/such.git", lab.server.host());
    let error = lab.fetch(&elsewhere, GitOptions::default()).unwrap_err();
    let text = chain(&error);
    assert!(text.starts_with(&format!("list the branches of https://{}/no/such.git: ", lab.server.host())), "{text}");
    assert!(text.contains("404") && !text.contains("s3cret"), "{text}");
    assert!(error.hint().unwrap().contains("the token may not see the repository"));
}

#[test]
fn a_server_that_cannot_be_trusted_or_found_is_named() {
    let lab = Lab::start();
    let request = |location: String, insecure_skip_tls| ContextRequest {
        location,
        sub_path: None,
        git: GitOptions { insecure_skip_tls, ..branch("production") },
        transport: TransportOptions::default(),
        standard_input: None,
    };
    let location = lab.location("auth:s3cret-to%2Fken@", "");
    let text = chain(&lab.fetch_request(&request(location.clone(), false)).unwrap_err());
    assert!(text.contains("certificate") && !text.contains("s3cret"), "{text}");
    assert!(lab.fetch_request(&request(location, true)).is_ok());
    let nowhere = "git://auth:s3cret@does-not-exist.invalid/a".to_owned();
    let text = chain(&lab.fetch_request(&request(nowhere, false)).unwrap_err());
    assert!(text.contains("does-not-exist.invalid") && !text.contains("s3cret"), "{text}");
    let closed = "git://auth:s3cret@127.0.0.1:9/a".to_owned();
    let text = chain(&lab.fetch_request(&request(closed, false)).unwrap_err());
    assert!(text.contains("127.0.0.1:9") && text.contains("onnection refused"), "{text}");
}

#[test]
fn a_folder_of_the_repository_can_be_the_context() {
    let lab = Lab::start();
    let mut request = ContextRequest {
        location: lab.location("auth:s3cret-to%2Fken@", "#production"),
        sub_path: Some("sub/deeper".into()),
        git: GitOptions::default(),
        transport: lab.transport.clone(),
        standard_input: None,
    };
    let (root, _) = lab.fetch_request(&request).unwrap();
    assert!(root.ends_with("context/sub/deeper") && root.join("name with ☺").exists());
    request.sub_path = Some("dangling".into());
    let error = lab.fetch_request(&request).unwrap_err();
    assert_eq!(error.to_string(), "--context-sub-path: the build context has no folder dangling");
}

#[test]
fn submodules_come_with_theirs_when_they_are_asked_for() {
    let lab = Lab::start();
    let work = lab.scratch.path().join("modules");
    let run = |folder: &Path, arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(folder).args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "protocol.file.allow=always",
        ]);
        let output = command.args(arguments).env("HOME", "/nonexistent").output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    // A repository whose submodule is the first one, named by a relative address, and one that holds that.
    for (name, module) in [("middle", "test-application.git"), ("outer", "middle.git")] {
        let files = work.join(name);
        fs::create_dir_all(&files).unwrap();
        let bare = lab.server.path(&format!("test/{module}"));
        let scratch = work.join(format!("{name}-work"));
        fs::create_dir_all(&scratch).unwrap();
        run(&scratch, &["init", "--quiet", "--initial-branch=production"]);
        run(&scratch, &["submodule", "--quiet", "add", "-b", "production", &bare.display().to_string(), "lib/inner"]);
        run(&scratch, &["config", "--file=.gitmodules", "submodule.lib/inner.url", &format!("../{module}")]);
        run(&scratch, &["commit", "--quiet", "-a", "-m", "a submodule"]);
        let target = lab.server.path(&format!("test/{name}.git"));
        run(&work, &["clone", "--quiet", "--bare", &scratch.display().to_string(), &target.display().to_string()]);
    }
    let location = format!("git://auth:s3cret-to%2Fken@{}/test/outer.git#production", lab.server.host());
    let (root, _) = lab.fetch(&location, GitOptions::default()).unwrap();
    assert!(root.join("lib/inner").is_dir() && !root.join("lib/inner/lib").exists());
    let with = GitOptions { recurse_submodules: true, ..GitOptions::default() };
    let (root, _) = lab.fetch(&location, with).unwrap();
    let inner = root.join("lib/inner/lib/inner");
    assert_eq!(fs::read_to_string(inner.join("Dockerfile")).unwrap(), "FROM scratch\n");
    assert_eq!(git(&inner, &["status", "--porcelain"]), "");
    assert_eq!(git(&root, &["status", "--porcelain"]), "");
    assert_eq!(git(&inner, &["rev-parse", "HEAD"]), lab.server.commit(REPOSITORY, "production").unwrap());
}
