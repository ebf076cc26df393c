//! Several builds in one container, as CI jobs and Jenkins Pods run them: each like a first one, and the container's own
//! files where they were, whatever became of a build.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use zuwai_lab::base::{Base, mirror};
use zuwai_lab::layout::Layout;
use zuwai_lab::registry::Options;
use zuwai_lab::{Executor, Output, Scratch};

/// The container's own files; some where the image has files too, one in a folder that the image replaces by a link.
const PREPARE: &str = "
set -eu
mkdir -p /opt/own /etc/mine /var/run && echo first > /opt/own/file && echo second > /etc/mine/file
echo third > /etc/passwd && ln -s /opt/own /link && chmod 0700 /opt/own && echo fourth > /var/run/pid
touch -d @1000000000 /opt/own
list() { find / -xdev -path /kaniko/work -prune -o -path /proc -prune -o -print | sort | xargs stat -c '%A %u %g %n' ; cat /etc/passwd /etc/mine/file /link/file /var/run/pid; stat -c '%Y %n' /opt/own; }
build() {
  name=$1; file=$2; shift 2
  code=0
  /kaniko/executor --dockerfile=$file --context=dir:///context --no-push --oci-layout-path=/out/$name \
    --registry-mirror=$MIRROR --insecure-registry=$MIRROR --skip-default-registry-fallback \"$@\" || code=$?
  echo \"$name: $code\"
}
list > /out/before
";

/// Nothing in it depends on when it is built.
const DOCKERFILE: &str = "FROM busybox AS other\nRUN echo hi > /made && touch -d @1000000000 /made\nFROM busybox\n\
    COPY --from=other /made /made\nRUN rm -r /opt /srv 2>/dev/null; echo x > /x && touch -d @1000000000 /x\n";

fn run(script: &str) -> (Output, Scratch) {
    let mirror = mirror(&[Base::Busybox], &Options::default()).unwrap();
    let executor = Executor::new(Path::new(env!("CARGO_BIN_EXE_zuwai"))).unwrap();
    let scratch = Scratch::new().unwrap();
    let context = scratch.folder("context").unwrap();
    for (name, text) in [
        ("Dockerfile", DOCKERFILE),
        ("fails", "FROM busybox\nRUN rm -rf /opt /etc/passwd; exit 3\n"),
        ("now", "FROM busybox\nCOPY now /\nRUN echo x > /x && mkdir /y\n"),
        ("waits", "FROM busybox\nRUN echo started; sleep 600\n"),
    ] {
        fs::write(context.join(name), text).unwrap();
    }
    let out = scratch.folder("out").unwrap();
    let tools = scratch.folder("tools").unwrap();
    fs::copy("/bin/busybox", tools.join("busybox")).unwrap();
    for tool in [
        "sh", "find", "sort", "xargs", "stat", "cat", "mkdir", "ln", "chmod", "touch", "sleep", "kill", "grep", "cmp",
        "diff",
    ] {
        std::os::unix::fs::symlink("busybox", tools.join(tool)).unwrap();
    }
    let container = executor
        .container()
        .mount(&context, "/context")
        .mount(&tools, "/tools")
        .mount_writable(&out, "/out")
        .tmpfs("/small", 3 << 20)
        .env("PATH", "/tools")
        .env("NO_COLOR", "1")
        .env("MIRROR", &mirror.host())
        .entrypoint("/tools/sh");
    let output = container.time_limit(Duration::from_mins(3)).run(["-c", &format!("{PREPARE}{script}")]).unwrap();
    (output, scratch)
}

/// The layers of an image in the folder for results.
fn layers(scratch: &Scratch, name: &str) -> Value {
    let layout = Layout::open(&scratch.path().join("out").join(name)).unwrap();
    let digest = layout.index().unwrap()[0]["digest"].as_str().unwrap().to_owned();
    layout.document(&digest).unwrap()["layers"].clone()
}

fn assert_as_before(output: &Output, scratch: &Scratch) {
    let read = |name: &str| fs::read_to_string(scratch.path().join("out").join(name)).unwrap();
    assert_eq!(read("after"), read("before"), "{output}");
}

#[test]
fn builds_in_one_container_are_alike_and_leave_its_files_alone() {
    let (output, scratch) = run("
build one Dockerfile; build bad fails; build two Dockerfile; build three Dockerfile --single-snapshot; list > /out/after");
    let codes: Vec<_> = output.out().lines().filter(|line| line.contains(": ")).map(str::to_owned).collect();
    assert_eq!(codes, ["one: 0", "bad: 3", "two: 0", "three: 0"], "{output}");
    assert_as_before(&output, &scratch);
    assert_eq!(layers(&scratch, "one"), layers(&scratch, "two"), "{output}");
}

#[test]
fn a_build_that_is_asked_to_stop_puts_everything_back() {
    let (output, scratch) = run("
build stopped waits > /out/log 2>&1 & builder=$!
tries=0; until grep -q started /out/log || test $tries = 200; do sleep 0.1; tries=$((tries + 1)); done
kill -TERM $(cat /proc/$builder/task/$builder/children); wait; cat /out/log; list > /out/after");
    assert!(output.out().contains("stopped: 143"), "{output}");
    assert_as_before(&output, &scratch);
}

#[test]
fn the_build_after_one_that_was_killed_puts_everything_back() {
    let (output, scratch) = run("
build one Dockerfile
build killed waits > /out/log 2>&1 & builder=$!
tries=0; until grep -q started /out/log || test $tries = 200; do sleep 0.1; tries=$((tries + 1)); done
kill -KILL $(cat /proc/$builder/task/$builder/children); wait; cat /out/log
build two Dockerfile; list > /out/after");
    assert!(output.out().contains("killed: 137") && output.out().contains("two: 0"), "{output}");
    assert_as_before(&output, &scratch);
    assert_eq!(layers(&scratch, "one"), layers(&scratch, "two"), "{output}");
}

#[test]
fn a_work_folder_too_small_loses_none_of_the_containers_files() {
    let (output, scratch) = run("
for number in 1 2 3 4 5 6 7 8; do cat /tools/busybox > /opt/own/$number; done; list > /out/before
build small Dockerfile --kaniko-dir=/small 2>&1; list > /out/after");
    assert!(output.out().contains("small: 1") && output.out().contains("No space left"), "{output}");
    assert_as_before(&output, &scratch);
}

#[test]
fn a_reproducible_build_gives_the_same_image_at_any_time() {
    let (output, scratch) = run("
build one now --reproducible --annotation=org.example.a=1; build plain now; sleep 1.1
build two now --reproducible --annotation=org.example.a=1");
    let manifest = |name: &str| {
        let layout = Layout::open(&scratch.path().join("out").join(name)).unwrap();
        layout.document(layout.index().unwrap()[0]["digest"].as_str().unwrap()).unwrap()
    };
    assert_eq!(manifest("one"), manifest("two"), "{output}");
    assert_eq!(manifest("one")["annotations"]["org.example.a"], "1", "{output}");
    assert_ne!(manifest("plain")["layers"], manifest("one")["layers"], "{output}");
}
