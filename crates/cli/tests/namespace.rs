//! `namespace`: what a RUN finds around it and what it does not, as root and as a user of this machine.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use zuwai_lab::base::{Base, apt_of_the_machine, mirror};
use zuwai_lab::layout::Layout;
use zuwai_lab::registry::Options;
use zuwai_lab::{Person, Who, command};

mod laptop;

use laptop::{LIMIT, Laptop, both, layers, runs, stop};

#[test]
fn a_user_builds_an_image_with_nothing_but_a_dockerfile() {
    let bench = Laptop::new(Who::User);
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
             (echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo kept; ps > /dev/shm/all; wc -l < /dev/shm/all; hostname\n",
        );
        let lines: Vec<_> = printed.lines().collect();
        // Process 1, the shell, ps, and the head of the list.
        let expected = ["4", "4", "to-stdout", "x", "1777", "1777", "no disk", "read-only", "kept", "4", "zuwai"];
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
        let layout = Layout::open(&bench.person.home().join("context/image")).unwrap();
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
fn a_command_has_namespaces_of_its_own_but_for_the_network() {
    for bench in both() {
        let printed =
            bench.printed("FROM busybox\nRUN for name in mnt pid ipc uts net; do readlink /proc/self/ns/$name; done\n");
        let own: Vec<_> = printed.lines().collect();
        assert_eq!(own.len(), 5, "{printed}");
        for (own, name) in own.into_iter().zip(["mnt", "pid", "ipc", "uts", "net"]) {
            let machines = fs::read_link(Path::new("/proc/self/ns").join(name)).unwrap();
            assert_eq!(Path::new(own) == machines, name == "net", "{printed}");
        }
    }
}

#[test]
fn a_command_has_nothing_of_its_launchers_umask_signals_descriptors_and_terminal() {
    for bench in both() {
        let zuwai = bench.zuwai(
            "FROM busybox\nCOPY Dockerfile /new/\nWORKDIR /work\nRUN umask; grep -E 'Sig(Ign|Blk)' /proc/self/status | tr -d '\\t'; \
             ls /proc/self/fd | wc -l; echo x > file; mkdir folder; stat -c %a file folder /new /new/Dockerfile /work; \
             (yes 2>/dev/null; echo $? > /ended) | head -n 1; cat /ended\n",
        );
        // Everything that a process hands on to what it starts, as a careless launcher has it.
        let launch = "umask 077; trap '' HUP INT QUIT PIPE CHLD; exec 7</dev/null 8>/dev/null; exec \"$@\"";
        let mut launcher = Command::new("sh");
        launcher.args(["-c", launch, "sh"]).arg(zuwai.get_program()).args(zuwai.get_args());
        launcher.env_clear().envs(zuwai.get_envs().filter_map(|(name, value)| Some((name, value?))));
        launcher.current_dir(zuwai.get_current_dir().unwrap());
        let output = command::run(&mut launcher, LIMIT).unwrap().success().unwrap();
        // The three streams, and the listing itself. Who writes to nobody is ended by it.
        let expected = "0022\nSigBlk:0000000000000000\nSigIgn:0000000000000000\n4\n644\n755\n755\n644\n755\ny\n141\n";
        assert_eq!(output.out(), expected, "{output}");
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
        stop(&mut child);
        assert!(!runs("987666") && !runs("987667"), "something of the build still runs");
        let left = fs::read_dir(bench.person.home().join(".cache/zuwai")).unwrap().count();
        assert_eq!(left, 0, "nothing of the build is left");
    }
}

#[test]
fn a_command_without_a_network_reaches_nobody_and_the_next_one_does() {
    for bench in both() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let printed = bench.printed(&format!(
            "FROM busybox\nRUN --network=none ls /sys/class/net; busybox nc -w 2 127.0.0.1 {port} < /dev/null || echo nobody; \
             (busybox nc -l -p 4711 -e echo itself & until busybox nc -w 2 127.0.0.1 4711 < /dev/null; do sleep 0.1; done; wait)\n\
             RUN busybox nc -w 2 127.0.0.1 {port} < /dev/null && echo somebody\n"
        ));
        assert_eq!(printed, "lo\nnobody\nitself\nsomebody\n");
    }
}

#[test]
fn an_id_that_a_user_cannot_have_is_named_with_what_would_give_it() {
    let bench = Laptop::new(Who::User);
    for (line, said) in [
        ("COPY --chown=70000 Dockerfile /", "there is no user 70000 here: those of this user namespace are 0 to 65536"),
        ("COPY --chown=0:80000 Dockerfile /new/", "there is no group 80000 here"),
        ("USER 90000\nWORKDIR /new", "there is no user 90000 here"),
        ("USER 90000\nRUN true", "the id 90000 cannot be had here"),
    ] {
        let output = bench.build(&format!("FROM busybox\n{line}\n"));
        assert_eq!(output.code(), 1, "{output}");
        assert!(output.err().contains(said) && output.err().contains("usermod --add-subuids"), "{said}: {output}");
    }
    let folder = bench.person.folder("context").unwrap();
    let script = "mkdir tree && echo x > tree/file && tar --owner=100000 --group=5 -C tree -cf big.tar . && rm -r tree";
    command::run(Command::new("sh").args(["-ec", script]).current_dir(&folder), LIMIT).unwrap().success().unwrap();
    let output = bench.build("FROM busybox\nADD big.tar /\n");
    assert!(output.err().contains("there is no user 100000 here"), "{output}");
    assert!(output.err().contains("--add-subuids 100000-200000"), "{output}");
}

#[test]
fn a_user_without_ids_gives_files_to_anybody() {
    let bench = Laptop::new(Who::UserAlone);
    let mut zuwai =
        bench.zuwai("FROM busybox\nCOPY --chown=70000:26 --chmod=4750 Dockerfile /made/\nUSER app\nWORKDIR /work\n");
    zuwai.arg("--oci-layout-path=image");
    command::run(&mut zuwai, LIMIT).unwrap().success().unwrap();
    let image = bench.person.home().join("context/image");
    let (layout, layers) = (Layout::open(&image).unwrap(), layers(&image));
    let shown = |number: usize| {
        let entries = zuwai_lab::tar::read(&layout.layer(&layers[number]).unwrap()).unwrap().into_iter();
        let line = |entry: zuwai_lab::tar::Entry| {
            format!("{:o} {}:{} {}", entry.mode, entry.uid, entry.gid, String::from_utf8_lossy(&entry.name))
        };
        entries.map(line).collect::<Vec<_>>()
    };
    assert_eq!(shown(1), ["4750 70000:26 made/", "4750 70000:26 made/Dockerfile"]);
    assert_eq!(shown(2), ["755 1000:1000 work/"]);
}

#[test]
fn a_user_without_ids_builds_what_runs_nothing_and_is_told_what_to_install() {
    let bench = Laptop::new(Who::UserAlone);
    let begin = Instant::now();
    let output = bench.build("FROM busybox\nCOPY Dockerfile /\nRUN true\n");
    assert_eq!(output.code(), 1);
    assert!(begin.elapsed() < Duration::from_secs(2), "it took {:?}", begin.elapsed());
    let said = output.err();
    assert!(said.contains("/etc/subuid gives no subordinate ids to user builder"), "{said}");
    assert!(said.contains("hint: ") && said.contains("uidmap") && said.contains("usermod"), "{said}");
    assert!(!said.contains("busybox:"), "nothing was asked of a registry: {said}");
}

/// An archive with one file of seven gigabytes, none of which is on the disk.
fn huge_archive() -> ([u8; 512], u64) {
    let mut header = [0; 512];
    for (place, text) in [
        (0, "huge"),
        (100, "0000644\0"),
        (108, "0000000\0"),
        (116, "0000000\0"),
        (124, "70000000000\0"),
        (136, "00000000000\0"),
        (148, "        "),
        (156, "0"),
        (257, "ustar\x0000"),
    ] {
        header[place..place + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    (header, 512 + (7 << 30) + 1024)
}

#[test]
fn a_signal_ends_the_copy_and_the_unpacking_of_a_huge_file() {
    for (who, line) in [(Who::Root, "COPY huge.tar /huge"), (Who::User, "ADD huge.tar /")] {
        let bench = Laptop::new(who);
        let folder = bench.person.folder("context").unwrap();
        let (header, length) = huge_archive();
        fs::write(folder.join("huge.tar"), header).unwrap();
        fs::File::options().write(true).open(folder.join("huge.tar")).unwrap().set_len(length).unwrap();
        let mut zuwai = bench.zuwai(&format!("FROM scratch\n{line}\n"));
        let mut child = zuwai.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let work = bench.person.home().join(".cache/zuwai");
        let begun = || {
            let builds = fs::read_dir(&work).into_iter().flatten().flatten();
            let mut sizes = builds.filter_map(|build| fs::metadata(build.path().join("stages/0/huge")).ok());
            sizes.any(|facts| facts.len() > 0)
        };
        let begin = Instant::now();
        while !begun() {
            assert!(begin.elapsed() < LIMIT, "{line} does not begin");
            std::thread::sleep(Duration::from_millis(2));
        }
        stop(&mut child);
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0, "nothing of the build is left");
    }
}

#[test]
fn a_signal_ends_a_push_that_gets_no_answer() {
    let bench = Laptop::new(Who::User);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = bench.person.folder("context").unwrap();
    fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    bench.person.own(&folder).unwrap();
    let mut zuwai = bench.person.zuwai(&folder);
    zuwai.args(["--context=.", "--insecure", "--skip-push-permission-check", "--verbosity=error"]);
    zuwai.arg(format!("--destination={}/app:1", silent.local_addr().unwrap()));
    let mut child = zuwai.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _asked = silent.accept().unwrap();
    stop(&mut child);
}

/// What people do in a RUN, with a package manager that changes users, forks and asks for its own folders; and nothing in it
/// depends on when it is done.
const PACKAGES: &str = "FROM debian:12
COPY apt.tar /
RUN touch /begin && sleep 1 && tar -C /etc/apt -xf /apt.tar && apt-get -qq update && apt-get -qq install --yes --no-install-recommends tree && \\
    rm -rf /usr/share/doc /var/lib/apt/lists /var/cache /var/log && TIMELESS
RUN touch /begin && sleep 1 && useradd --system --create-home --uid 999 service && \\
    setcap cap_net_bind_service=ep /usr/bin/tree && chown -R service:daemon /srv && \\
    (setsid sleep 600 > /dev/null 2>&1 &) ; dd if=/dev/zero of=/tmp/filled bs=1M count=8 2> /dev/null; \\
    ! mv /etc/resolv.conf /etc/resolv.old 2> /dev/null && TIMELESS
USER service
RUN tree --version | grep -c '^tree' && touch -d @1000000000 /srv/mine /srv
";

/// Gives everything that is younger than `/begin` a time of its own, but for what is mounted.
const TIMELESS_END: &str = "find / -xdev -newer /begin ! -path '/etc/resolv.conf' ! -path '/etc/hosts' ! -path '/etc/hostname' \
    ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/kaniko*' ! -path '/lab*' ! -path '/run/.containerenv' \
    | xargs -d '\\n' touch -h -d @1000000000 && rm /begin && touch -d @1000000000 /";

#[test]
fn packages_are_installed_users_made_and_capabilities_set_alike_in_every_isolation() {
    let dockerfile = PACKAGES.replace("TIMELESS", TIMELESS_END);
    let scratch = in_every_isolation(|context| {
        fs::write(context.join("Dockerfile"), &dockerfile).unwrap();
        apt_of_the_machine(&context.join("apt")).unwrap();
        let pack = "tar --mtime=@1000000000 --sort=name --owner=0 --group=0 -C apt -cf apt.tar . && rm -r apt";
        command::run(Command::new("sh").args(["-ec", pack]).current_dir(context), LIMIT).unwrap().success().unwrap();
        timeless(&context.join("apt.tar"));
    });
    let image = scratch.path().join("out/image");
    let (layout, layers) = (Layout::open(&image).unwrap(), layers(&image));
    let entries = |number: usize| zuwai_lab::tar::read(&layout.layer(&layers[number]).unwrap()).unwrap();
    let find = |number: usize, name: &str| entries(number).into_iter().find(|entry| entry.name == name.as_bytes());
    assert!(find(2, "usr/bin/tree").is_some() && find(2, "usr/share/.wh.doc").is_some());
    let tree = find(3, "usr/bin/tree").unwrap();
    assert_eq!(tree.xattrs.get(b"security.capability".as_slice()).map(Vec::len), Some(20), "{:?}", tree.xattrs);
    assert_eq!(find(3, "home/service/").map(|entry| (entry.uid, entry.gid)), Some((999, 999)));
    assert_eq!(find(3, "srv/").map(|entry| (entry.uid, entry.gid)), Some((999, 1)));
    assert!(find(3, "tmp/filled").is_some() && find(3, "etc/passwd").is_some());
    assert!(find(3, "etc/resolv.conf").is_none() && find(3, "etc/.wh.resolv.conf").is_none());
    assert_eq!(find(4, "srv/mine").map(|entry| entry.uid), Some(999));
}

/// Gives a tree of files a time that does not depend on when it was made.
fn timeless(tree: &Path) {
    let find = "find \"$0\" -print0 | xargs -0 touch -h -d @1000000000";
    command::run(Command::new("sh").args(["-c", find]).arg(tree), LIMIT).unwrap().success().unwrap();
}

/// Everything in it has a time that does not depend on when it is built.
const TIMELESS: &str = "FROM debian:12\nCOPY --chown=1000:26 fixed /\nRUN mkdir /made && \
    cp /bin/true /made/capable && setcap cap_chown=ep /made/capable && chown -R 7:8 /made && ln /made/capable /made/again && \
    mkfifo /made/pipe && rm -r /srv && chmod 4711 /made/again && find /made | xargs touch -h -d @1000000000\n";

#[test]
fn the_same_input_gives_the_same_bytes_in_every_isolation() {
    in_every_isolation(|context| {
        fs::write(context.join("Dockerfile"), TIMELESS).unwrap();
        fs::write(context.join("fixed"), "fixed").unwrap();
        timeless(&context.join("fixed"));
    });
}

/// Builds a context in the container, as root and as a user, and sees to it that the layers are the same. The container's
/// image is in the folder `out/image` of what comes back.
fn in_every_isolation(fill: impl Fn(&Path)) -> zuwai_lab::Scratch {
    const LONG: Duration = Duration::from_mins(5);
    let mirror = mirror(&[Base::Debian], &Options::default()).unwrap();
    let host = mirror.host();
    let flags = |context: &str, out: &str| {
        [
            format!("--context=dir://{context}"),
            "--no-push".to_owned(),
            format!("--oci-layout-path={out}/image"),
            format!("--registry-mirror={host}"),
            format!("--insecure-registry={host}"),
            "--skip-default-registry-fallback".to_owned(),
        ]
    };
    let scratch = zuwai_lab::Scratch::new().unwrap();
    let (context, out) = (scratch.folder("context").unwrap(), scratch.folder("out").unwrap());
    fill(&context);
    let executor = zuwai_lab::Executor::new(Path::new(env!("CARGO_BIN_EXE_zuwai"))).unwrap();
    let container = executor.container().mount(&context, "/lab/context").mount_writable(&out, "/lab/out");
    container.time_limit(LONG).run(flags("/lab/context", "/lab/out")).unwrap().success().unwrap();
    let expected = layers(&out.join("image"));
    for who in [Who::Root, Who::User] {
        let person = Person::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), who).unwrap();
        let folder = person.folder("context").unwrap();
        fill(&folder);
        person.own(&folder).unwrap();
        let folder_text = folder.display().to_string();
        let mut zuwai = person.zuwai(&folder);
        zuwai.arg("--isolation=namespace").args(flags(&folder_text, &person.home().display().to_string()));
        let output = command::run(&mut zuwai, LONG).unwrap().success().unwrap();
        assert_eq!(layers(&person.home().join("image")), expected, "{who:?}: {output}");
    }
    scratch
}
