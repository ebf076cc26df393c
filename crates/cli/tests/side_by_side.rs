//! Stages that do not need each other, in `namespace`: at the same time, told apart, and with the same images.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use zuwai_lab::{Who, command};

mod laptop;

use laptop::{LIMIT, Laptop, both, runs, stop};

/// Where commands of two stages wait until both are there: who is alone waits for ever.
fn meeting() -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let meet = move || {
        let guests = [listener.accept().unwrap(), listener.accept().unwrap()];
        drop(guests);
    };
    (port, thread::spawn(meet))
}

#[test]
fn stages_that_do_not_need_each_other_are_built_at_the_same_time_and_told_apart() {
    for laptop in both() {
        let (port, met) = meeting();
        let wait = format!("busybox nc 127.0.0.1 {port} < /dev/null");
        let output = laptop
            .build(&format!(
                "FROM busybox AS one\nRUN {wait}; echo of one; echo more; printf 'no end'; echo wrong >&2; echo x > /one\n\
                 FROM busybox\nRUN {wait}; echo of the other; echo x > /two\n\
                 FROM busybox AS last\nCOPY --from=one /one /\nCOPY --from=1 /two /\nRUN cat /one /two\n"
            ))
            .success()
            .unwrap();
        met.join().unwrap();
        let out = output.out();
        let of = |name: &str| out.lines().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>();
        assert_eq!(of("[one] "), ["of one", "more", "no end"], "{output}");
        assert_eq!(of("[stage-1] "), ["of the other"], "{output}");
        assert_eq!(of("[last] "), ["x", "x"], "{output}");
        assert_eq!(out.lines().count(), 6, "{output}");
        let said = output.err();
        assert!(said.lines().any(|line| line == "[one] wrong"), "{output}");
        assert!(said.contains("] [one] RUN busybox nc") && said.contains("] [last] COPY --from=one"), "{output}");
    }
}

#[test]
fn stages_in_a_row_are_told_as_ever() {
    let laptop = Laptop::new(Who::Root);
    let output = laptop.build("FROM busybox AS one\nRUN echo plain\nFROM one\nRUN echo too\n").success().unwrap();
    assert_eq!(output.out(), "plain\ntoo\n", "{output}");
    assert!(output.err().contains("] RUN echo plain\n"), "{output}");
}

#[test]
fn a_stage_that_fails_ends_the_others_at_once() {
    for laptop in both() {
        let (port, met) = meeting();
        let wait = format!("busybox nc 127.0.0.1 {port} < /dev/null");
        let output = laptop.build(&format!(
            "FROM busybox AS one\nRUN {wait}; sleep 987661\nFROM busybox AS two\nRUN {wait}; echo sorry; exit 42\n\
             FROM busybox\nCOPY --from=one /x /\nCOPY --from=two /x /\n"
        ));
        assert_eq!(output.code(), 42, "{output}");
        met.join().unwrap();
        assert!(output.took < Duration::from_secs(30), "{output}");
        assert!(output.err().contains("Dockerfile:4: RUN") && output.err().contains("exit code 42"), "{output}");
        assert!(!runs("987661"), "the other stage still runs");
        let left = fs::read_dir(laptop.person.home().join(".cache/zuwai")).unwrap().count();
        assert_eq!(left, 0, "nothing of the build is left");
    }
}

#[test]
fn a_signal_ends_all_stages() {
    let laptop = Laptop::new(Who::User);
    let (port, met) = meeting();
    let wait = format!("busybox nc 127.0.0.1 {port} < /dev/null");
    let mut zuwai = laptop.zuwai(&format!(
        "FROM busybox AS one\nRUN {wait}; sleep 987662\nFROM busybox AS two\nRUN {wait}; sleep 987663\n\
         FROM busybox\nCOPY --from=one /x /\nCOPY --from=two /x /\n"
    ));
    let mut child = zuwai.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    met.join().unwrap();
    stop(&mut child);
    assert!(!runs("987662") && !runs("987663"), "something of the build still runs");
}

#[test]
fn caches_that_stages_name_in_another_order_do_not_make_them_wait_for_ever() {
    let laptop = Laptop::new(Who::Root);
    let run = |first: &str, second: &str| {
        let mount = |id| format!("--mount=type=cache,id={id},target=/{id}");
        format!("RUN {} {} sleep 0.2; echo x >> /{first}/x; echo x > /made\n", mount(first), mount(second)).repeat(3)
    };
    let dockerfile = format!(
        "FROM busybox AS one\n{}FROM busybox AS two\n{}FROM busybox\nCOPY --from=one /made /\nCOPY --from=two /made /\n\
         RUN --mount=type=cache,id=a,target=/a --mount=type=cache,id=b,target=/b cat /a/x /b/x | wc -l\n",
        run("a", "b"),
        run("b", "a")
    );
    let output = laptop.build(&dockerfile).success().unwrap();
    assert!(output.out().ends_with("6\n"), "{output}");
    let output =
        laptop.build("FROM busybox\nRUN --mount=type=cache,id=a,target=/a --mount=type=cache,id=a,target=/b true\n");
    assert!(output.err().contains("the cache a is mounted twice in one command"), "{output}");
}

#[test]
fn nobody_waits_for_a_stage_of_which_all_is_in_the_cache() {
    let laptop = Laptop::new(Who::User);
    let build = |version: &str| {
        let mut zuwai = laptop.zuwai(&format!(
            "FROM busybox AS tools\nRUN echo tool > /tool && touch -d @1000000000 /tool\n\
             FROM busybox AS one\nCOPY --from=tools /tool /\nRUN cat /tool > /one && echo one {version}\n\
             FROM busybox AS two\nCOPY --from=tools /tool /\nRUN cat /tool > /two && echo two {version}\n\
             FROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
        ));
        zuwai.args(["--cache=true", "--cache-copy-layers", "--cache-repo=oci:cache"]);
        command::run(&mut zuwai, LIMIT).unwrap().success().unwrap()
    };
    build("1");
    let output = build("2");
    assert!(!output.err().contains("RUN echo tool"), "{output}");
    assert!(output.out().contains("[one] one 2\n") && output.out().contains("[two] two 2\n"), "{output}");
}

/// A stage that several begin with, stages in a row, an image that two stages copy from, and a heredoc in each.
const MANY: &str = "FROM busybox AS base
RUN echo base > /base && touch -d @1000000000 /base
FROM base AS one
COPY <<one /etc/one
of one
one
RUN cat /base /etc/one > /one && touch -d @1000000000 /one
FROM base AS two
COPY <<two /etc/two
of two
two
COPY --from=busybox:layers /opt /opt
RUN cat /base /etc/two > /two && touch -d @1000000000 /two
FROM two AS three
COPY --from=busybox:layers /opt /more
RUN rm /two && mkdir /three && touch -d @1000000000 /three
LABEL three=3
FROM scratch AS files
COPY --from=busybox:layers /opt /opt
COPY --chown=7:8 --from=one /one /one
FROM three
COPY --from=one /one /
COPY --from=files / /files
ENV A=b
RUN echo end > /end && touch -d @1000000000 /end
";

#[test]
fn what_comes_out_is_what_comes_out_one_after_the_other() {
    let laptop = Laptop::new(Who::User);
    let folder = laptop.person.folder("context").unwrap();
    fs::write(folder.join("Dockerfile"), MANY).unwrap();
    laptop.person.own(&folder).unwrap();
    let image = |program: &Path, before: &[&str], name: &str| {
        let mut command = laptop.person.start(program, &folder);
        command.args(before);
        laptop.flags(&mut command);
        command.args(["--reproducible", &format!("--oci-layout-path={name}")]);
        let output = command::run(&mut command, LIMIT).unwrap().success().unwrap();
        (fs::read(folder.join(name).join("index.json")).unwrap(), output)
    };
    let zuwai = laptop.person.program();
    let (first, output) = image(&zuwai, &[], "first");
    assert!(output.err().contains("[stage-5] "), "it was built side by side: {output}");
    let (again, _) = image(&zuwai, &[], "again");
    // With one core there is nothing to be built beside anything.
    let path = zuwai.display().to_string();
    let (alone, output) = image(&taskset(), &["--cpu-list", "0", &path], "alone");
    assert!(!output.err().contains("[stage-5] "), "it was built one after the other: {output}");
    assert_eq!(first, again);
    assert_eq!(first, alone);
}

fn taskset() -> std::path::PathBuf {
    let found = Command::new("sh").args(["-c", "command -v taskset"]).output().unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    assert!(!path.is_empty(), "taskset is not installed: it is in the Debian package util-linux");
    path.trim().into()
}

#[test]
fn a_stage_that_is_only_copied_from_gets_no_layer_unless_a_cache_is_to_have_it() {
    let laptop = Laptop::new(Who::Root);
    // `base` is in the image; `made` and what it begins with are only read.
    let dockerfile = "FROM busybox AS base\nRUN echo 1 > /one\nFROM busybox AS before\nRUN echo 2 > /two\n\
                      FROM before AS made\nRUN cp /two /three\nFROM base\nCOPY --from=made /three /\nRUN cat /one /three\n";
    for (words, layers) in [(&[][..], 3), (&["--cache=true", "--cache-repo=oci:cache"], 5)] {
        let output = command::run(laptop.zuwai(dockerfile).args(words), LIMIT).unwrap().success().unwrap();
        let made =
            output.err().lines().filter(|line| line.contains("Layer sha256:") && line.contains("packed in")).count();
        assert_eq!(made, layers, "{output}");
        assert!(output.out().ends_with(" 1\n[stage-3] 2\n"), "{output}");
    }
}
