//! Builds that wait for somebody who does not answer, and are asked to stop meanwhile: they do, within five seconds, and leave
//! nothing. In containers the same is seen in `same_container.rs`.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use zuwai_lab::base::{Base, mirror};
use zuwai_lab::registry::Options;
use zuwai_lab::{Stuck, Tarpit, Who};

mod laptop;

use laptop::{LIMIT, Laptop, runs, stop};

/// A server that hears what is asked and says nothing; one that says something and then nothing more; and one that has all the
/// time of the world.
const SILENT: Stuck = Stuck { after: 0, pause: None };
const STUCK: Stuck = Stuck { after: 16 << 10, pause: None };
const SLOW: Stuck = Stuck { after: 16 << 10, pause: Some(Duration::from_millis(100)) };

fn tarpit(target: u16, stuck: Stuck) -> (Tarpit, Receiver<()>) {
    let (told, held) = channel();
    // Who has seen enough may be gone.
    let tarpit = Tarpit::start(target, stuck, move || {
        let _ = told.send(());
    })
    .unwrap();
    (tarpit, held)
}

/// Starts it, and asks it to stop once an answer got stuck.
fn stopped(laptop: &Laptop, mut zuwai: Command, held: &Receiver<()>) {
    let mut child = zuwai.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    held.recv_timeout(LIMIT).unwrap();
    stop(&mut child);
    let work = laptop.person.home().join(".cache/zuwai");
    let left: Vec<_> = fs::read_dir(work).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?} is left of the build");
}

/// `zuwai` in the person's home, told of no registry but what its arguments name.
fn zuwai(laptop: &Laptop, dockerfile: &str, arguments: &[String]) -> Command {
    let folder = laptop.person.folder("context").unwrap();
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    laptop.person.own(&folder).unwrap();
    let mut zuwai = laptop.person.zuwai(&folder);
    zuwai.args(["--verbosity=error", "--skip-default-registry-fallback"]).args(arguments);
    zuwai
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[test]
fn for_a_registry_that_says_nothing_or_stops_in_the_middle_or_is_slow() {
    for (who, stuck) in [(Who::Root, SILENT), (Who::User, STUCK), (Who::Root, SLOW)] {
        let laptop = Laptop::new(who);
        let (tarpit, held) = tarpit(laptop.mirror.port(), stuck);
        let host = tarpit.host();
        let more = [format!("--registry-mirror={host}"), format!("--insecure-registry={host}")];
        let arguments = [words(["--context=.", "--no-push", "--tar-path=a.tar"]), more.to_vec()].concat();
        stopped(&laptop, zuwai(&laptop, "FROM busybox\nRUN true\n", &arguments), &held);
    }
}

#[test]
fn for_a_web_server_that_a_file_is_added_from() {
    let laptop = Laptop::new(Who::User);
    for stuck in [SILENT, STUCK] {
        let (tarpit, held) = tarpit(laptop.mirror.port(), stuck);
        let digest = largest_blob(&laptop);
        let address = format!("http://{}/v2/library/busybox/blobs/{digest}", tarpit.host());
        let arguments = words(["--context=.", "--no-push", "--tar-path=a.tar"]);
        stopped(&laptop, zuwai(&laptop, &format!("FROM scratch\nADD {address} /\n"), &arguments), &held);
    }
}

/// The digest of a blob in the mirror that is longer than what a tarpit lets through.
fn largest_blob(laptop: &Laptop) -> String {
    let manifest = laptop.mirror.manifest("library/busybox:rich").unwrap();
    manifest["layers"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn for_a_git_server_that_is_to_give_the_context_or_files_for_add() {
    let laptop = Laptop::new(Who::User);
    let (tarpit, held) = tarpit(0, SILENT);
    let out = words(["--no-push", "--tar-path=a.tar"]);
    let context = vec![format!("--context=git://{}/team/app.git", tarpit.host())];
    stopped(&laptop, zuwai(&laptop, "FROM scratch\n", &[out.clone(), context].concat()), &held);
    let dockerfile = format!("FROM scratch\nADD https://{}/team/app.git /\n", tarpit.host());
    stopped(&laptop, zuwai(&laptop, &dockerfile, &[out.clone(), words(["--context=."])].concat()), &held);
    let cached = words(["--context=.", "--cache=true", "--cache-repo=oci:cache"]);
    stopped(&laptop, zuwai(&laptop, &dockerfile, &[out, cached].concat()), &held);
}

#[test]
fn for_a_registry_that_keeps_the_cache() {
    let laptop = Laptop::new(Who::User);
    let (tarpit, held) = tarpit(0, SILENT);
    let cache = [format!("--cache-repo={}/cache", tarpit.host()), format!("--insecure-registry={}", tarpit.host())];
    let arguments = words(["--context=.", "--no-push", "--tar-path=a.tar", "--cache=true"]);
    let dockerfile = "FROM scratch\nCOPY Dockerfile /\n";
    stopped(&laptop, zuwai(&laptop, dockerfile, &[arguments, cache.to_vec()].concat()), &held);
}

#[test]
fn for_a_server_that_is_to_take_the_digest() {
    let laptop = Laptop::new(Who::User);
    let (tarpit, held) = tarpit(0, SILENT);
    let arguments = words(["--context=.", "--no-push", "--tar-path=a.tar"]);
    let digest = vec![format!("--digest-file=https://{}/digest", tarpit.host())];
    let dockerfile = "FROM scratch\nCOPY Dockerfile /\n";
    stopped(&laptop, zuwai(&laptop, dockerfile, &[arguments, digest].concat()), &held);
}

#[test]
fn for_somebody_who_is_to_write_the_context_to_its_input() {
    let laptop = Laptop::new(Who::User);
    let arguments = words(["--context=tar://stdin", "--no-push", "--tar-path=a.tar"]);
    let mut zuwai = zuwai(&laptop, "FROM scratch\n", &arguments);
    let mut child = zuwai.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let work = laptop.person.home().join(".cache/zuwai");
    let begin = Instant::now();
    while fs::read_dir(&work).into_iter().flatten().next().is_none() {
        assert!(begin.elapsed() < LIMIT, "the build does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    stop(&mut child);
    assert_eq!(fs::read_dir(&work).unwrap().count(), 0, "nothing of the build is left");
}

#[test]
fn for_a_credential_helper_which_goes_with_it() {
    let login = Some(("robot", "password"));
    let laptop = Laptop::with(Who::User, mirror(&[Base::Busybox], &Options { login, ..Options::default() }).unwrap());
    let programs = laptop.person.folder("programs").unwrap();
    let helper = programs.join("docker-credential-patient");
    fs::write(&helper, "#!/bin/sh\nexec sleep 987671\n").unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let host = laptop.mirror.host();
    let config = format!(r#"{{"credHelpers":{{"{host}":"patient"}}}}"#);
    fs::write(laptop.person.folder(".docker").unwrap().join("config.json"), config).unwrap();
    laptop.person.own(&laptop.person.home()).unwrap();
    let more = [format!("--registry-mirror={host}"), format!("--insecure-registry={host}")];
    let arguments = [words(["--context=.", "--no-push", "--tar-path=a.tar"]), more.to_vec()].concat();
    let mut zuwai = zuwai(&laptop, "FROM busybox\nRUN true\n", &arguments);
    let path = std::env::var("PATH").unwrap();
    zuwai.env("PATH", format!("{}:{path}", programs.display()));
    let mut child = zuwai.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while !runs("987671") {
        assert!(begin.elapsed() < LIMIT, "the helper is not asked");
        std::thread::sleep(Duration::from_millis(10));
    }
    stop(&mut child);
    assert!(!runs("987671"), "the helper still runs");
}
