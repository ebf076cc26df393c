//! The servers are what they stand for: a private registry and a private git server.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::process::Command;
use std::time::Duration;

use zuwai_lab::base::{self, Base};
use zuwai_lab::command::{must, run};
use zuwai_lab::registry::{self, Options};
use zuwai_lab::{Authority, GitServer, Registry, Scratch, places};

#[test]
fn the_mirror_serves_the_base_images_to_everyone() {
    let mirror = base::mirror(&[Base::Busybox], &Options::default()).unwrap();
    let index = mirror.manifest("library/busybox:latest").unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let scratch = Scratch::new().unwrap();
    for tag in ["latest", "layers", "rich"] {
        let layout = mirror.pull(&format!("library/busybox:{tag}"), &scratch.path().join(tag)).unwrap();
        assert_eq!(layout.index().unwrap().len(), 1, "{tag}");
    }
    assert!(mirror.requests().iter().any(|line| line.contains("GET /v2/library/busybox/manifests/latest")));
}

#[test]
fn the_mirror_takes_nothing() {
    let mirror = base::mirror(&[Base::Busybox], &Options::default()).unwrap();
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["copy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    skopeo.arg(format!("docker://{}/library/busybox:rich", mirror.host()));
    skopeo.arg(format!("docker://{}/library/busybox:pushed", mirror.host()));
    let output = run(&mut skopeo, Duration::from_mins(1)).unwrap();
    assert!(!output.status.success());
    assert!(mirror.manifest("library/busybox:pushed").is_err());
}

#[test]
fn the_private_registry_wants_its_authority_and_its_password() {
    let scratch = Scratch::new().unwrap();
    let authority = Authority::new(&scratch.path().join("authority")).unwrap();
    let registry = Registry::start(&Options {
        authority: Some(&authority),
        login: Some(("robot", "pass word")),
        ..Options::default()
    })
    .unwrap();
    let layout = Base::Busybox.layout().unwrap();
    registry.push_layout(&layout, &layout.index().unwrap()[2], "team/app", "1.0").unwrap();
    assert_eq!(registry.manifest("team/app:1.0").unwrap()["schemaVersion"], 2);

    let fetch = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]).args(arguments);
        curl.arg(format!("https://{}/v2/", registry.host()));
        run(&mut curl, Duration::from_secs(30)).unwrap()
    };
    let authority = authority.certificate();
    let authority = authority.to_str().unwrap();
    assert_eq!(fetch(&["--cacert", authority, "--user", "robot:pass word"]).out(), "200");
    assert_eq!(fetch(&["--cacert", authority, "--user", "robot:other"]).out(), "401");
    assert_eq!(fetch(&["--cacert", authority]).out(), "401");
    assert_eq!(fetch(&[]).code(), 60, "curl trusts a certificate of an authority that it does not know");
}

#[test]
fn a_config_json_is_as_docker_login_writes_it() {
    let text = registry::docker_config(&[("127.0.0.1:5000", "robot", "pass word")]);
    assert_eq!(text, r#"{"auths":{"127.0.0.1:5000":{"auth":"cm9ib3Q6cGFzcyB3b3Jk"}}}"#);
}

#[test]
fn the_git_server_wants_its_token_and_serves_the_branch() {
    let scratch = Scratch::new().unwrap();
    let authority = Authority::new(&scratch.path().join("authority")).unwrap();
    let server = GitServer::start(&authority, "s3cret-token").unwrap();
    server.add("test/test-application.git", &places::testdata().join("maven")).unwrap();
    let clone = |context: &str, target: &str, reference: &str| {
        let mut git = Command::new("git");
        git.env("GIT_SSL_CAINFO", authority.certificate()).env("GIT_TERMINAL_PROMPT", "0").env("HOME", scratch.path());
        git.args(["clone", "--quiet", "--depth=1", "--branch", reference]);
        git.arg(context.replacen("git://", "https://", 1)).arg(scratch.path().join(target));
        run(&mut git, Duration::from_mins(1)).unwrap()
    };
    let context = server.context("test/test-application.git");
    assert!(context.starts_with("git://auth:s3cret-token@127.0.0.1:"));
    clone(&context, "production", "production")
        .success()
        .map_err(|error| format!("{error}\n{}", server.errors()))
        .unwrap();
    let original = fs::read(places::testdata().join("maven/Dockerfile")).unwrap();
    assert_eq!(fs::read(scratch.path().join("production/Dockerfile")).unwrap(), original);
    clone(&context, "tag", "v1.0").success().unwrap();
    clone(&context, "main", "main").success().unwrap();
    assert!(!scratch.path().join("main/Dockerfile").exists());
    let refused = clone(&server.context_with("other", "test/test-application.git"), "refused", "production");
    assert!(refused.err().contains("Authentication failed"), "{refused}");
    assert_eq!(server.commit("test/test-application.git", "production").unwrap().len(), 40);
}

#[test]
fn the_example_is_the_one_in_the_article() {
    let text = "FROM maven:3.5-jdk-11 as maven\nCOPY . .\nRUN mvn clean package -Dmaven.test.skip=true\n\
                FROM adoptopenjdk/openjdk11:jdk-11.0.9_11\nCOPY --from=maven target/app.jar app.jar\n\
                CMD [\"java\", \"-jar\", \"/app.jar\"]\n";
    assert_eq!(fs::read_to_string(places::testdata().join("maven/Dockerfile")).unwrap(), text);
}

#[test]
fn nothing_listens_after_the_servers_are_dropped() {
    let mirror = Registry::start(&Options::default()).unwrap();
    let port = mirror.port();
    drop(mirror);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    must(&mut Command::new("true")).unwrap();
}
