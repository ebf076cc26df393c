//! `namespace`: what a RUN finds around it and what it does not, as root and as a user of this machine.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use zuwai_lab::base::{Base, mirror};
use zuwai_lab::registry::Options;
use zuwai_lab::{Output, Person, Registry, Who, command};

const LIMIT: Duration = Duration::from_mins(2);

struct Bench {
    person: Person,
    mirror: Registry,
}

impl Bench {
    fn new(who: Who) -> Self {
        let mirror = mirror(&[Base::Busybox], &Options::default()).unwrap();
        Self { person: Person::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), who).unwrap(), mirror }
    }

    /// `zuwai build` of a Dockerfile in the person's home.
    fn zuwai(&self, dockerfile: &str) -> Command {
        let folder = self.person.folder("context").unwrap();
        fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        self.person.own(&folder).unwrap();
        let mirror = self.mirror.host();
        let mut zuwai = self.person.zuwai(&folder);
        zuwai.args(["build", "-t", "app:1", "--tar-path", "app.tar"]);
        zuwai.args([format!("--registry-mirror={mirror}"), format!("--insecure-registry={mirror}")]);
        zuwai.args(["--skip-default-registry-fallback", "."]);
        zuwai
    }

    fn build(&self, dockerfile: &str) -> Output {
        command::run(&mut self.zuwai(dockerfile), LIMIT).unwrap()
    }

    /// What the commands of a build print.
    fn printed(&self, dockerfile: &str) -> String {
        self.build(dockerfile).success().unwrap().out()
    }
}

fn both() -> [Bench; 2] {
    [Bench::new(Who::Root), Bench::new(Who::User)]
}

#[test]
fn a_user_builds_an_image_with_nothing_but_a_dockerfile() {
    let bench = Bench::new(Who::User);
    let output =
        bench.build("FROM busybox\nCOPY Dockerfile /\nRUN chown app /Dockerfile && id -u\n").success().unwrap();
    assert_eq!(output.out(), "0\n");
    let archive = bench.person.home().join("context/app.tar");
    let facts = fs::metadata(&archive).unwrap();
    assert_eq!(facts.uid(), fs::metadata(bench.person.home()).unwrap().uid(), "the archive is the user's own");
    let left: Vec<_> = fs::read_dir(bench.person.home().join(".cache/zuwai")).unwrap().flatten().collect();
    assert!(left.is_empty(), "nothing of the build is left: {left:?}");
}

#[test]
fn a_command_finds_the_devices_and_folders_of_a_container() {
    for bench in both() {
        let printed = bench.printed(
            "FROM busybox\nRUN for device in null zero full random urandom; do test -c /dev/$device; done; \
             head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x > /dev/null; \
             echo to-stdout > /dev/stdout; test -d /dev/fd/; echo x > /dev/shm/x && cat /dev/shm/x; \
             test -c /dev/ptmx || test -L /dev/ptmx; stat -c %a /dev/shm /tmp; \
             test -e /dev/sda -o -e /dev/vda || echo no disk; mkdir /sys/x 2>/dev/null || echo read-only; \
             (echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo kept; ps | wc -l; hostname\n",
        );
        let lines: Vec<_> = printed.lines().collect();
        // Process 1, the shell, ps, wc, and the head of the list.
        let expected = ["4", "4", "to-stdout", "x", "1777", "1777", "no disk", "read-only", "kept", "5", "zuwai"];
        assert_eq!(lines, expected, "{printed}");
    }
}

#[test]
fn a_command_sees_nothing_of_the_machine_or_of_zuwai() {
    for bench in both() {
        let dockerfile = "FROM busybox\nRUN find / -xdev -name '*secret-of-the-machine*'; ls /; cat /proc/*/cmdline /proc/*/environ \
            2>/dev/null | tr '\\0' '\\n'; ls /proc/*/fd /proc/*/root/ /proc/*/cwd/ 2>/dev/null; mount; cat /proc/net/unix | wc -l\n";
        let secret = bench.person.home().join("secret-of-the-machine");
        fs::write(&secret, "secret-of-the-machine").unwrap();
        let mut zuwai = bench.zuwai(dockerfile);
        zuwai.env("REGISTRY_PASSWORD", "word-of-the-environment").arg("--label=a=word-of-an-argument");
        let output = command::run(&mut zuwai, LIMIT).unwrap().success().unwrap();
        let printed = output.out();
        for hidden in ["secret-of-the-machine\n", "word-of-the-environment", "word-of-an-argument", "blobs", "provided"]
        {
            assert!(
                !printed.replace("find / -xdev -name '*secret-of-the-machine*'", "").contains(hidden),
                "{hidden}: {output}"
            );
        }
        assert!(printed.contains("busybox") || printed.contains("bin\n"), "{output}");
    }
}

#[test]
fn names_of_hosts_are_provided_and_never_in_a_layer() {
    for bench in both() {
        let dockerfile = "FROM busybox\nRUN test -s /etc/resolv.conf && grep -q localhost /etc/hosts && \
            ! rm /etc/resolv.conf 2>/dev/null; echo 127.9.9.9 mine >> /etc/hosts\nRUN grep -c mine /etc/hosts\n";
        let mut zuwai = bench.zuwai(dockerfile);
        zuwai.arg("--oci-layout-path=image");
        let output = command::run(&mut zuwai, LIMIT).unwrap().success().unwrap();
        assert_eq!(output.out(), "1\n", "{output}");
        let layout = zuwai_lab::layout::Layout::open(&bench.person.home().join("context/image")).unwrap();
        let manifest = layout.document(layout.index().unwrap()[0]["digest"].as_str().unwrap()).unwrap();
        for layer in manifest["layers"].as_array().unwrap().iter().skip(1) {
            let entries = zuwai_lab::tar::read(&layout.layer(layer).unwrap()).unwrap();
            assert!(entries.is_empty(), "{:?}", entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_command_gets_the_identity_and_the_ends_of_a_shell() {
    for bench in both() {
        let printed = bench.printed(
            "FROM busybox\nUSER app\nWORKDIR /home/app\nRUN id -u; id -G; umask; pwd; echo $HOME; cat; echo said > /dev/stdout; \
             grep -q 0000000000000000 /proc/self/status && grep SigIgn /proc/self/status | tr -d '\\t'\n\
             USER root\nRUN grep CapEff /proc/self/status | tr -d '\\t'\n",
        );
        let expected = "1000\n1000 26 29\n0022\n/home/app\n/home/app\nsaid\nSigIgn:0000000000000000\n\
            CapEff:00000000a80425fb\n";
        assert_eq!(printed, expected);
        for (dockerfile, code) in [
            ("FROM busybox\nRUN exit 42\n", 42),
            ("FROM busybox\nRUN kill -9 $$\n", 137),
            ("FROM busybox\nRUN [\"/etc/passwd\"]\n", 126),
            ("FROM busybox\nRUN [\"no-such-program\"]\n", 127),
        ] {
            let output = bench.build(dockerfile);
            assert_eq!(output.code(), code, "{output}");
        }
    }
}

#[test]
fn a_command_has_no_terminal_and_leaves_nothing_running() {
    for bench in both() {
        let begin = Instant::now();
        let printed = bench.printed(
            "FROM busybox\nRUN (setsid sleep 600 > /dev/null 2>&1 &) ; nohup sleep 601 & (sleep 602 &); true\n\
             RUN ps | grep -c '[s]leep 60'; (echo x > /dev/tty) 2>/dev/null || echo no terminal; \
             awk '{print $7}' /proc/self/stat\n",
        );
        assert_eq!(printed, "0\nno terminal\n0\n");
        assert!(begin.elapsed() < Duration::from_mins(1));
    }
}

#[test]
fn a_signal_ends_the_build_and_all_of_it() {
    for bench in both() {
        let mut zuwai = bench.zuwai("FROM busybox\nRUN echo started; sleep 987666 & sleep 987667\n");
        let mut child = zuwai.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line, "started\n");
        let begin = Instant::now();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(143));
        assert!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
        let running = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).any(|word| word == b"987666" || word == b"987667")
        });
        assert!(!running, "something of the build still runs");
        let left = fs::read_dir(bench.person.home().join(".cache/zuwai")).unwrap().count();
        assert_eq!(left, 0, "nothing of the build is left");
    }
}

#[test]
fn a_user_without_ids_builds_what_runs_nothing_and_is_told_what_to_install() {
    let bench = Bench::new(Who::UserAlone);
    let begin = Instant::now();
    let output = bench.build("FROM busybox\nCOPY Dockerfile /\nRUN true\n");
    assert_eq!(output.code(), 1);
    assert!(begin.elapsed() < Duration::from_secs(2), "it took {:?}", begin.elapsed());
    let said = output.err();
    assert!(said.contains("/etc/subuid gives no subordinate ids to user builder"), "{said}");
    assert!(said.contains("hint: ") && said.contains("uidmap") && said.contains("usermod"), "{said}");
    assert!(!said.contains("busybox:"), "nothing was asked of a registry: {said}");
}
