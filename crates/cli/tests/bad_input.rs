//! Input that is wrong beyond its text (the wrong text has cases: `testdata/cases/error-…`): images that lie, a disk that
//! is full, no container around. Exit code non-zero, one clear message, no partial output.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use zuwai_lab::base::Base;
use zuwai_lab::command::{must, run};
use zuwai_lab::layout::{Layout, text};
use zuwai_lab::packing::Packing;
use zuwai_lab::registry::Options;
use zuwai_lab::{Executor, Output, Registry, Scratch};

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_zuwai"))
}

/// Builds a Dockerfile on images of this registry, which must fail with the code of zuwai's own failures.
fn failure(executor: &Executor, mirror: &Registry, dockerfile: &str) -> (Output, Scratch) {
    let (output, scratch) = failure_of_any_kind(executor, mirror, dockerfile);
    assert_eq!(output.code(), 1, "{output}");
    (output, scratch)
}

/// Builds a Dockerfile on images of this registry. Whatever it says, nothing may be left in the folder for the results.
fn failure_of_any_kind(executor: &Executor, mirror: &Registry, dockerfile: &str) -> (Output, Scratch) {
    let scratch = Scratch::new().unwrap();
    let out = scratch.folder("out").unwrap();
    let context = scratch.folder("context").unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let host = mirror.host();
    let arguments = [
        "--context=dir:///workspace".to_owned(),
        "--no-push".to_owned(),
        "--destination=example.com/app:1".to_owned(),
        "--oci-layout-path=/out/layout".to_owned(),
        "--tar-path=/out/image.tar".to_owned(),
        "--digest-file=/out/digest".to_owned(),
        format!("--registry-mirror={host}"),
        format!("--insecure-registry={host}"),
        "--skip-default-registry-fallback".to_owned(),
    ];
    let container =
        executor.container().mount(&context, "/workspace").mount_writable(&out, "/out").env("NO_COLOR", "1");
    let output = container.time_limit(Duration::from_mins(3)).run(arguments).unwrap();
    assert_ne!(output.code(), 0, "{output}");
    let left: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?} is left: {output}");
    (output, scratch)
}

/// A registry with the image `library/bad:1`, made of these layers' tars.
fn registry_with(tars: &[Vec<u8>]) -> (Registry, Layout, Value, Scratch) {
    let scratch = Scratch::new().unwrap();
    let layout = Layout::create(&scratch.folder("layout").unwrap()).unwrap();
    let layers: Vec<_> = tars.iter().map(|tar| layout.put_layer(&mut tar.as_slice(), Packing::Gzip).unwrap()).collect();
    let config = json!({"created": "2020-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": {},
        "history": vec![json!({"created": "2020-01-01T00:00:00Z", "created_by": "bad"}); layers.len()]});
    let image = layout.put_image(config, &layers).unwrap();
    let registry = Registry::start(&Options::default()).unwrap();
    registry.push_layout(&layout, &image, "library/bad", "1").unwrap();
    (registry, layout, image, scratch)
}

/// One header of a tar, and a content.
fn entry(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000755\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

const RUN: &str = "FROM bad:1\nRUN [\"/true\"]\n";

#[test]
fn a_blob_whose_bytes_do_not_match_its_digest_is_refused() {
    let (registry, layout, image, _scratch) = registry_with(&[archive(&[entry("a", b'0', "", b"content")])]);
    let manifest = layout.document(text(&image, "digest").unwrap()).unwrap();
    let digest = text(&manifest["layers"][0], "digest").unwrap().to_owned();
    registry.storage().corrupt(&digest, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    let executor = Executor::new(binary()).unwrap();
    let (output, _scratch) = failure(&executor, &registry, RUN);
    assert!(output.err().contains(&digest), "the digest {digest} is not named: {output}");
}

#[test]
fn a_config_whose_bytes_do_not_match_its_digest_is_refused() {
    let (registry, layout, image, _scratch) = registry_with(&[]);
    let manifest = layout.document(text(&image, "digest").unwrap()).unwrap();
    let digest = text(&manifest["config"], "digest").unwrap().to_owned();
    registry.storage().corrupt(&digest, |bytes| bytes.push(b' ')).unwrap();
    let executor = Executor::new(binary()).unwrap();
    let (output, _scratch) = failure(&executor, &registry, "FROM bad:1\nLABEL a=b\n");
    assert!(output.err().contains(&digest), "the digest {digest} is not named: {output}");
}

#[test]
fn a_layer_that_tries_to_write_outside_the_root_is_refused_or_stays_inside() {
    let executor = Executor::new(binary()).unwrap();
    let refused = [
        ("climbing", vec![entry("../../out/evil", b'0', "", b"evil")]),
        ("climbing-within", vec![entry("a", b'5', "", b""), entry("a/../../out/evil", b'0', "", b"evil")]),
    ];
    for (name, entries) in refused {
        let (registry, _layout, _image, _scratch) = registry_with(&[archive(&entries)]);
        let (output, _scratch) = failure(&executor, &registry, RUN);
        assert!(output.err().contains("out/evil"), "{name}: the entry is not named: {output}");
    }
    // These stay inside: the build fails later, since there is no program /true.
    let confined = [
        ("through-a-link", vec![entry("link", b'2', "/out", b""), entry("link/evil", b'0', "", b"evil")]),
        (
            "through-a-climbing-link",
            vec![entry("link", b'2', "../../../out", b""), entry("link/evil", b'0', "", b"evil")],
        ),
        ("absolute", vec![entry("/out/evil", b'0', "", b"evil")]),
    ];
    for (name, entries) in confined {
        let (registry, _layout, _image, _scratch) = registry_with(&[archive(&entries)]);
        let (output, scratch) = failure_of_any_kind(&executor, &registry, RUN);
        assert_eq!(output.code(), 127, "{name}: {output}");
        assert!(!scratch.path().join("out/evil").exists(), "{name}: {output}");
    }
}

#[test]
fn a_disk_that_is_full_while_unpacking_is_named_with_the_file() {
    let executor = Executor::in_little_space(binary(), 160 << 20).unwrap();
    let mirror = zuwai_lab::base::mirror(&[Base::Debian], &Options::default()).unwrap();
    let (output, _scratch) = failure(&executor, &mirror, "FROM debian:12\nRUN echo never > /never\n");
    let said = output.err().to_lowercase();
    assert!(said.contains("no space left") || said.contains("disk full"), "{output}");
    assert!(said.contains("usr/"), "the entry that did not fit is not named: {output}");
}

#[test]
fn it_refuses_to_build_in_the_root_of_what_is_no_container() {
    // In a root of its own, so that nothing is lost if it does not refuse.
    let scratch = Scratch::new().unwrap();
    let root = scratch.folder("root").unwrap();
    let layout = Base::Busybox.layout().unwrap();
    let manifest = layout.document(text(&layout.index().unwrap()[2], "digest").unwrap()).unwrap();
    let layer = layout.blob_path(text(&manifest["layers"][0], "digest").unwrap()).unwrap();
    must(Command::new("tar").arg("-xzf").arg(layer).arg("-C").arg(&root)).unwrap();
    fs::copy(binary(), root.join("zuwai")).unwrap();
    fs::create_dir(root.join("context")).unwrap();
    fs::write(root.join("context/Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--fork", "--mount-proc"]).arg(format!("--root={}", root.display()));
    unshare.args(["/zuwai", "--context=/context", "--no-push", "--tar-path=/image.tar"]);
    // By itself it would choose a private root, were this one not a chroot, which cannot be left for another.
    for (isolation, expected) in [
        ("--isolation=direct", "container"),
        ("--isolation=auto", "container"),
        ("--isolation=namespace", "the kernel does not allow namespaces here"),
    ] {
        let mut zuwai = Command::new("unshare");
        zuwai.args(unshare.get_args()).arg(isolation).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let output = run(&mut zuwai, Duration::from_mins(1)).unwrap();
        assert_eq!(output.code(), 1, "{output}");
        assert!(output.err().contains(expected), "{isolation}: {output}");
        assert!(root.join("bin/busybox").exists() && root.join("etc/passwd").exists());
        assert!(!root.join("image.tar").exists());
    }
}

#[test]
fn a_refused_flag_is_named_before_anything_is_downloaded() {
    let mirror = zuwai_lab::base::mirror(&[Base::Busybox], &Options::default()).unwrap();
    let executor = Executor::new(binary()).unwrap();
    for flag in ["--dryrun", "--bucket=b"] {
        let output = executor.container().run([flag, "--no-push", "--context=dir:///workspace"]).unwrap();
        assert_eq!(output.code(), 1, "{output}");
        assert!(output.err().contains(flag.split('=').next().unwrap()), "{output}");
    }
    assert!(mirror.requests().is_empty());
}

#[test]
fn help_and_version_need_neither_context_nor_container() {
    for (word, said) in [("--help", "--destination"), ("version", "version")] {
        let output = run(Command::new(binary()).arg(word), Duration::from_mins(1)).unwrap();
        assert!(output.status.success(), "{output}");
        assert!(output.out().contains(said), "{output}");
    }
}
