//! The container in which zuwai is tested is as unprivileged as it is said to be.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::collections::BTreeMap;
use std::path::Path;

use zuwai_lab::base::Base;
use zuwai_lab::{Capabilities, Engine, Output};

fn engine() -> (Engine, String) {
    let engine = Engine::new(&[]).unwrap();
    let layout = Base::Busybox.layout().unwrap();
    // The second image of the layout: the first is an index, and podman 4.3 pulls no index out of a layout.
    let image = engine.pull(&format!("oci:{}", single(&engine, &layout).display())).unwrap();
    (engine, image)
}

/// A layout with the image `busybox:rich` alone.
fn single(engine: &Engine, layout: &zuwai_lab::layout::Layout) -> std::path::PathBuf {
    let folder = engine.scratch().path().join("single");
    let mut copy = std::process::Command::new("cp");
    zuwai_lab::command::must(copy.arg("-a").arg(layout.folder()).arg(&folder)).unwrap();
    zuwai_lab::layout::Layout::open(&folder).unwrap().point_to(&layout.index().unwrap()[2..3]).unwrap();
    folder
}

fn probe(engine: &Engine, image: &str, strict: bool) -> BTreeMap<String, String> {
    let container = engine
        .container(image)
        .option("--user=0")
        .mount(Path::new(env!("CARGO_BIN_EXE_zuwai-lab-probe")), "/probe")
        .entrypoint("/probe");
    let container = if strict { container } else { container.lenient() };
    let output = container.run::<&str>([]).unwrap().success().unwrap();
    let pair = |line: &str| line.split_once(' ').map(|(name, answer)| (name.to_owned(), answer.to_owned())).unwrap();
    output.out().lines().map(pair).collect()
}

#[test]
fn namespaces_and_mounts_are_refused_to_the_strict_container() {
    let (engine, image) = engine();
    let answers = probe(&engine, &image, true);
    for (call, answer) in &answers {
        let expected = match call.as_str() {
            "clone-plain" | "chroot" => "allowed",
            "clone3" | "fanotify_init" | "bpf" | "userfaultfd" => "ENOSYS",
            _ => "EPERM",
        };
        assert_eq!(answer, expected, "{call}");
    }
    assert_eq!(answers.len(), 24);
}

#[test]
fn the_refusals_are_the_filters_doing_and_not_for_want_of_capabilities_alone() {
    let (engine, image) = engine();
    let answers = probe(&engine, &image, false);
    assert_eq!(answers["clone-newuser"], "allowed", "podman's own profile lets user namespaces through: {answers:?}");
}

fn shell(engine: &Engine, image: &str, capabilities: Capabilities, script: &str) -> Output {
    let container = engine.container(image).option("--user=0").capabilities(capabilities).entrypoint("/bin/sh");
    container.run(["-c", script]).unwrap()
}

#[test]
fn its_root_has_the_default_capabilities_or_fewer() {
    let (engine, image) = engine();
    let line = "grep CapEff /proc/self/status | cut -f2; grep Seccomp: /proc/self/status | cut -f2";
    let output = shell(&engine, &image, Capabilities::Default, line);
    assert_eq!(output.out(), "00000000a80425fb\n2\n");
    let output = shell(&engine, &image, Capabilities::Fewer, line);
    assert_eq!(output.out(), "00000000000005fb\n2\n");
}

#[test]
fn its_root_file_system_is_its_own_and_gone_afterwards() {
    let (engine, image) = engine();
    let output = shell(&engine, &image, Capabilities::Default, "echo x > /left-behind; ls /; hostname; exit 5");
    assert_eq!(output.code(), 5);
    assert!(output.out().contains("left-behind"));
    let output = shell(&engine, &image, Capabilities::Default, "ls /left-behind");
    assert_eq!(output.code(), 1, "{output}");
    let containers = zuwai_lab::command::must(engine.podman().args(["ps", "--all", "--quiet"])).unwrap();
    assert_eq!(containers, "");
}

#[test]
fn a_container_that_takes_too_long_is_ended() {
    let (engine, image) = engine();
    let container = engine.container(&image).entrypoint("/bin/sh").time_limit(std::time::Duration::from_secs(1));
    let start = std::time::Instant::now();
    let output = container.run(["-c", "sleep 300"]).unwrap();
    assert!(!output.status.success(), "{output}");
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
}
