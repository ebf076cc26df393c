//! The commands about images that are there already: `push`, and `login` and `logout` that it needs.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zuwai_lab::authority::Authority;
use zuwai_lab::command::{must, run};
use zuwai_lab::layout::{Layout, text};
use zuwai_lab::packing::Packing;
use zuwai_lab::registry::Options;
use zuwai_lab::{Output, Registry, Scratch};

/// A layout with an image of layers that do not compress; the image's descriptor.
fn layout(scratch: &Scratch, name: &str, layers: usize, length: usize) -> (Layout, Value) {
    let layout = Layout::create(&scratch.folder(name).unwrap()).unwrap();
    let mut state = name.len() as u64 + 7;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let layers: Vec<_> = (0..layers)
        .map(|_| {
            let content: Vec<u8> = (0..length / 8).flat_map(|_| random()).collect();
            let folder = scratch.folder("content").unwrap();
            fs::write(folder.join("file"), content).unwrap();
            let tar = scratch.path().join("layer.tar");
            must(Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&tar).arg("file")).unwrap();
            layout.put_layer(&mut fs::File::open(&tar).unwrap(), Packing::Gzip).unwrap()
        })
        .collect();
    // Fields that nobody knows come out as they went in.
    let config = json!({"created": "2020-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "x-kept": [1, 2],
        "config": {"Healthcheck": {"Test": ["CMD", "true"]}, "OnBuild": ["RUN x"], "Shell": ["/bin/x"]}});
    let image = layout.put_image(config, &layers).unwrap();
    let mut named = image.clone();
    named["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    layout.point_to(&[named]).unwrap();
    (layout, image)
}

fn zuwai(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zuwai"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).env("NO_COLOR", "1").current_dir(home);
    command.env("TMPDIR", home.join("tmp"));
    command
}

/// Runs it with a text on standard input.
fn told(command: &mut Command, input: &str) -> Output {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Output { status: output.status, stdout: output.stdout, stderr: output.stderr, took: start.elapsed() }
}

const LIMIT: Duration = Duration::from_mins(2);

#[test]
fn after_a_login_a_layout_and_an_archive_are_pushed_with_their_digests_and_after_logout_nothing_is() {
    let scratch = Scratch::new().unwrap();
    let authority = Authority::new(&scratch.folder("authority").unwrap()).unwrap();
    let options = Options { authority: Some(&authority), login: Some(("me", "pa:ss word")), ..Options::default() };
    let registry = Registry::start(&options).unwrap();
    let host = registry.host();
    let trust = format!("--registry-certificate={host}={}", registry.ca_path().unwrap().display());
    let home = scratch.folder("home").unwrap();
    let (layout, image) = layout(&scratch, "one", 2, 100_000);
    let digest = text(&image, "digest").unwrap();
    let folder = layout.folder().display().to_string();
    let push = |words: &[&str]| run(zuwai(&home).arg("push").args(words).arg(&trust), LIMIT).unwrap();
    let login = |password: &str| {
        told(zuwai(&home).args(["login", &host, "--username=me", "--password-stdin"]).arg(&trust), password)
    };

    let output = push(&[&folder, &format!("{host}/app:1")]);
    assert_eq!(output.code(), 1, "{output}");
    assert!(output.err().starts_with("error checking push permissions: "), "{output}");
    assert!(output.err().contains("no credential was found"), "{output}");

    let output = login("wrong\n");
    assert_eq!(output.code(), 1, "{output}");
    assert!(output.err().contains("401 Unauthorized") && !output.err().contains("wrong"), "{output}");
    assert!(!home.join(".docker").exists(), "a wrong password was kept");
    let output = login("pa:ss word\n").success().unwrap();
    assert!(output.err().contains(".docker/config.json") && !output.err().contains("pa:ss"), "{output}");

    let output =
        push(&[&folder, &format!("{host}/app:1"), &format!("--destination={host}/other:1")]).success().unwrap();
    assert_eq!(output.out(), format!("{digest}\n"));
    for (number, name) in ["app:1", "other:1"].iter().enumerate() {
        let pulled = registry.pull(name, &scratch.path().join(format!("pulled{number}"))).unwrap();
        assert_eq!(text(&pulled.index().unwrap()[0], "digest").unwrap(), digest);
    }

    let archive = scratch.path().join("image.tar");
    must(Command::new("skopeo").args([
        "copy",
        &format!("oci:{folder}"),
        &format!("docker-archive:{}:app:2", archive.display()),
    ]))
    .unwrap();
    must(Command::new("gzip").arg(&archive)).unwrap();
    let packed = archive.with_extension("tar.gz").display().to_string();
    let output = push(&[&packed, &format!("{host}/app:2")]).success().unwrap();
    let manifest = registry.manifest("app:2").unwrap();
    assert!(output.out().starts_with("sha256:"), "{output}");
    let config = registry.pull("app:2", &scratch.path().join("two")).unwrap();
    let config = config.document(text(&manifest["config"], "digest").unwrap()).unwrap();
    assert_eq!((&config["x-kept"], &config["config"]["Shell"]), (&json!([1, 2]), &json!(["/bin/x"])));
    assert_eq!(fs::read_dir(home.join("tmp")).unwrap().count(), 0, "what it worked with is left behind");

    run(zuwai(&home).args(["logout", &host]), LIMIT).unwrap().success().unwrap();
    let output = push(&[&folder, &format!("{host}/app:3")]);
    assert!(output.err().contains("401 Unauthorized"), "{output}");
}

#[test]
fn what_cannot_be_pushed_is_named_before_anything_is_sent() {
    let scratch = Scratch::new().unwrap();
    let registry = Registry::start(&Options::default()).unwrap();
    let (layout, image) = layout(&scratch, "one", 1, 1000);
    let folder = layout.folder().display().to_string();
    layout.point_to(&[image.clone(), image]).unwrap();
    let name = format!("{}/app:1", registry.host());
    let insecure = format!("--insecure-registry={}", registry.host());
    for (words, said) in [
        (vec!["push"], "what is to be pushed is not named"),
        (vec!["push", &folder], "where it is to be pushed is not named"),
        (vec!["push", "/nowhere", &name], "cannot read archive /nowhere"),
        (vec!["push", &folder, &name, &insecure], "it has 2 images, and one must be chosen"),
        (vec!["push", &folder, "Example/App", &insecure], "must be lower case"),
        (vec!["push", &folder, &name, "--label=a=b"], "--label is no flag of push"),
        (vec!["push", "/etc/passwd", &name], "cannot read archive /etc/passwd"),
        (vec!["login", &name, "--password-stdin"], "username required"),
        (vec!["login", &name, "-u", "x"], "a password must be supplied via --password or --password-stdin"),
        (vec!["login", &name, "-u", "x", "-p", "y", "--password-stdin"], "only one of --password or --password-stdin"),
        (vec!["login", &name, "-u", "x", "-p", ""], "password is blank"),
    ] {
        let output = run(zuwai(scratch.path()).args(&words), LIMIT).unwrap();
        assert_eq!(output.code(), 1, "{words:?}: {output}");
        assert!(output.err().contains(said), "{words:?}: {output}");
    }
    assert!(registry.requests().is_empty());
}

#[test]
fn a_push_that_is_killed_at_any_moment_leaves_the_tag_as_it_was_or_whole() {
    let scratch = Scratch::new().unwrap();
    let registry = Registry::start(&Options::default()).unwrap();
    let (old, old_image) = layout(&scratch, "old", 1, 1000);
    let (new, new_image) = layout(&scratch, "newer", 20, 60_000);
    let name = |tag: usize| format!("{}/app{tag}:1", registry.host());
    let push = |tag: usize| {
        let mut command = zuwai(scratch.path());
        command.arg("push").arg(new.folder()).arg(name(tag));
        command.arg(format!("--insecure-registry={}", registry.host())).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let start = Instant::now();
    assert!(push(0).status().unwrap().success());
    let whole = start.elapsed();
    let mut as_it_was = 0;
    for moment in 1..=16_u32 {
        // Each into a repository of its own, where nothing of the image is yet.
        let repository = format!("app{moment}");
        registry.push_layout(&old, &old_image, &repository, "1").unwrap();
        let mut child = push(moment as usize).spawn().unwrap();
        std::thread::sleep(whole * moment / 16);
        child.kill().unwrap();
        child.wait().unwrap();
        let pulled = registry.pull(&format!("{repository}:1"), &scratch.path().join(&repository)).unwrap();
        let digest = text(&pulled.index().unwrap()[0], "digest").unwrap().to_owned();
        as_it_was += u32::from(digest == text(&old_image, "digest").unwrap());
        assert!(digest == text(&old_image, "digest").unwrap() || digest == text(&new_image, "digest").unwrap());
    }
    assert!(as_it_was > 0, "every push was done before it was killed");
    assert!(push(16).status().unwrap().success(), "what a killed push left does not disturb the next");
    let pulled = registry.pull("app16:1", &scratch.path().join("last")).unwrap();
    assert_eq!(text(&pulled.index().unwrap()[0], "digest").unwrap(), text(&new_image, "digest").unwrap());
}
