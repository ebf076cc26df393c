//! Several builds in one container, as CI jobs and Jenkins Pods run them: each like a first one, and the container's own
//! files where they were, whatever became of a build.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use zuwai_lab::base::{Base, mirror};
use zuwai_lab::layout::Layout;
use zuwai_lab::registry::Options;
use zuwai_lab::{Capabilities, Container, Executor, Output, Registry, Scratch, Stuck, Tarpit};

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
    run_in(script, |container, _| container)
}

/// The same in a container that something more is said about; the folder is for what is mounted into it.
fn run_in(script: &str, more: impl for<'a> Fn(Container<'a>, &Path) -> Container<'a>) -> (Output, Scratch) {
    let mirror = mirror(&[Base::Busybox], &Options::default()).unwrap();
    run_with(&mirror.host(), script, more)
}

/// The same with base images from elsewhere.
fn run_with(
    mirror: &str,
    script: &str,
    more: impl for<'a> Fn(Container<'a>, &Path) -> Container<'a>,
) -> (Output, Scratch) {
    let executor = Executor::new(Path::new(env!("CARGO_BIN_EXE_zuwai"))).unwrap();
    let scratch = Scratch::new().unwrap();
    let context = scratch.folder("context").unwrap();
    for (name, text) in [
        ("Dockerfile", DOCKERFILE),
        ("fails", "FROM busybox\nRUN rm -rf /opt /etc/passwd; exit 3\n"),
        ("now", "FROM busybox\nCOPY now /\nRUN echo x > /x && mkdir /y\n"),
        ("waits", "FROM busybox\nRUN echo started; sleep 600\n"),
        ("runtime", "FROM busybox\nRUN mkdir /var/run/app && echo x > /var/run/app/pid && test -L /var/run\n"),
        ("nothing", "FROM busybox\nLABEL a=b\n"),
        (
            "contexts",
            "FROM base\nCOPY --from=own . /own/\nRUN --mount=from=own,target=/m cmp /m/file /own/file && \
             test \"$(cat /own/file /made)\" = \"$(echo first; echo hi)\"\n",
        ),
        ("var-run", "FROM busybox\nRUN rm /var/run && ln -s /else /var/run\n"),
        ("sees", "FROM busybox\nRUN cat /seen/token\n"),
        ("other", "FROM busybox\nRUN echo x > /x && touch -d @1000000000 /x\n"),
        (
            "patterns",
            "FROM busybox\nRUN cat /srv/cache1/own && mkdir /srv/cache2 && echo x > /srv/cache2/x && echo x > /srv/cache1/new && \
             echo x > /srv/kept && echo x > /tmp/x && echo x > /tmp/xy\n",
        ),
    ] {
        fs::write(context.join(name), text).unwrap();
    }
    let out = scratch.folder("out").unwrap();
    let tools = scratch.folder("tools").unwrap();
    fs::copy("/bin/busybox", tools.join("busybox")).unwrap();
    for tool in [
        "sh", "find", "sort", "xargs", "stat", "cat", "mkdir", "ln", "chmod", "touch", "sleep", "kill", "grep", "cmp",
        "diff", "rm", "cut",
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
        .env("MIRROR", mirror)
        .entrypoint("/tools/sh");
    let container = more(container, &scratch.folder("more").unwrap());
    let output = container.time_limit(Duration::from_mins(3)).run(["-c", &format!("{PREPARE}{script}")]).unwrap();
    (output, scratch)
}

/// The layers of an image in the folder for results.
fn layers(scratch: &Scratch, name: &str) -> Value {
    let layout = Layout::open(&scratch.path().join("out").join(name)).unwrap();
    let digest = layout.index().unwrap()[0]["digest"].as_str().unwrap().to_owned();
    layout.document(&digest).unwrap()["layers"].clone()
}

/// `executor doctor` with what more is said about the container.
fn doctor(more: impl Fn(Container<'_>) -> Container<'_>) -> String {
    let executor = Executor::new(Path::new(env!("CARGO_BIN_EXE_zuwai"))).unwrap();
    more(executor.container().env("KANIKO_EXAMPLE_COM_PASSWORD", "hunter2"))
        .run(["doctor"])
        .unwrap()
        .success()
        .unwrap()
        .out()
}

#[test]
fn the_doctor_tells_which_isolation_and_why_and_no_secret() {
    let page = doctor(|container| container);
    for line in ["a filter", "not allowed: make mount, process", "direct: this is a container's root", "/etc/hosts"] {
        assert!(page.contains(line), "{line}: {page}");
    }
    assert!(page.contains("KANIKO_EXAMPLE_COM") && !page.contains("hunter2"), "{page}");
    let page = doctor(restricted);
    for line in ["1000680000, group 0", "files alone, no RUN", "runAsUser: 0", "no new privileges yes"] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

/// What OpenShift and the profile "restricted" leave to a container.
fn restricted(container: Container<'_>) -> Container<'_> {
    container.option("--user=1000680000:0").capabilities(Capabilities::None).option("--security-opt=no-new-privileges")
}

/// Owners of every kind, and nothing that runs.
const OWNERS: &str = "FROM busybox AS first\nCOPY --chown=1000:26 --chmod=4750 Dockerfile /made/owned\nUSER app\n\
    WORKDIR /work/of/app\nFROM busybox\nCOPY --from=first /made /made\nCOPY --from=first /opt/odd/owned /opt/odd/grouped /copied/\n\
    COPY --from=first /home /home2\nCOPY --from=first /work /work\nCOPY Dockerfile /root/\nCOPY Dockerfile /opt/odd/grouped/\n";

/// Builds what has many owners, with more said about the container, into a layout, an archive and a registry.
fn build_owners(more: impl Fn(Container<'_>) -> Container<'_>, dockerfile: &str) -> (Output, Scratch, Registry) {
    let mirror = mirror(&[Base::Busybox], &Options::default()).unwrap();
    let registry = Registry::start(&Options::default()).unwrap();
    let executor = Executor::new(Path::new(env!("CARGO_BIN_EXE_zuwai"))).unwrap();
    let scratch = Scratch::new().unwrap();
    let (context, out) = (scratch.folder("context").unwrap(), scratch.folder("out").unwrap());
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let host = mirror.host();
    let container =
        executor.container().mount(&context, "/workspace").mount_writable(&out, "/out").env("NO_COLOR", "1");
    let output = more(container).time_limit(Duration::from_mins(2)).run([
        "--oci-layout-path=/out/image".to_owned(),
        "--tar-path=/out/image.tar".to_owned(),
        format!("--registry-mirror={host}"),
        format!("--insecure-registry={host}"),
        format!("--insecure-registry={}", registry.host()),
        format!("--destination={}/app:1", registry.host()),
        "--skip-default-registry-fallback".to_owned(),
    ]);
    (output.unwrap(), scratch, registry)
}

#[test]
fn a_container_without_rights_builds_with_the_right_owners_what_runs_nothing() {
    let shown = |scratch: &Scratch| {
        let layout = Layout::open(&scratch.path().join("out/image")).unwrap();
        let layers = layers(scratch, "image");
        let mut shown = Vec::new();
        for layer in layers.as_array().unwrap().iter().skip(1) {
            for entry in zuwai_lab::tar::read(&layout.layer(layer).unwrap()).unwrap() {
                let name = String::from_utf8_lossy(&entry.name).into_owned();
                shown.push(format!("{} {:o} {}:{} {name}", char::from(entry.kind), entry.mode, entry.uid, entry.gid));
            }
        }
        shown
    };
    let (usual, usual_scratch, _registry) = build_owners(|container| container, OWNERS);
    assert!(usual.status.success(), "{usual}");
    let (output, scratch, _registry) = build_owners(restricted, OWNERS);
    assert!(output.status.success(), "{output}");
    assert_eq!(shown(&scratch), shown(&usual_scratch), "{output}");
    assert!(shown(&scratch).contains(&"0 4750 1000:26 made/owned".to_owned()), "{:?}", shown(&scratch));
    assert!(scratch.path().join("out/image.tar").is_file(), "{output}");
}

#[test]
fn a_run_in_a_container_without_rights_is_refused_at_once_with_what_would_help() {
    let (output, scratch, _registry) = build_owners(restricted, "FROM busybox\nCOPY Dockerfile /\nRUN true\n");
    assert_eq!(output.code(), 1, "{output}");
    let said = output.err();
    assert!(said.contains("it needs root, and this is user 1000680000") && said.contains("runAsUser: 0"), "{output}");
    assert!(said.contains("Dockerfile:3") && !said.contains("Retrieving"), "nothing was downloaded: {output}");
    assert_eq!(fs::read_dir(scratch.path().join("out")).unwrap().count(), 0);
    let (output, _scratch, _registry) = build_owners(
        |container| container.capabilities(Capabilities::None).option("--user=0"),
        "FROM busybox\nRUN true\n",
    );
    assert!(output.err().contains("root has not the capabilities CHOWN, DAC_OVERRIDE"), "{output}");
    assert!(output.err().contains("securityContext.capabilities"), "{output}");
}

#[test]
fn a_run_in_a_container_without_rights_is_refused_within_two_seconds() {
    let executor = Executor::new(Path::new(env!("CARGO_BIN_EXE_zuwai"))).unwrap();
    let scratch = Scratch::new().unwrap();
    let (context, tools) = (scratch.folder("context").unwrap(), scratch.folder("tools").unwrap());
    fs::write(context.join("Dockerfile"), "FROM unreachable.example.com/base\nRUN true\n").unwrap();
    fs::copy("/bin/busybox", tools.join("busybox")).unwrap();
    let container = restricted(executor.container()).mount(&context, "/workspace").mount(&tools, "/tools");
    let script = "/tools/busybox cat /proc/uptime; /kaniko/executor --context=dir:///workspace --no-push; /tools/busybox cat /proc/uptime";
    let output = container.entrypoint("/tools/busybox").run(["sh", "-c", script]).unwrap();
    let moments: Vec<f64> = output.out().lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(output.err().contains("it needs root"), "{output}");
    assert!(moments[1] - moments[0] < 2.0, "{output}");
}

fn assert_as_before(output: &Output, scratch: &Scratch) {
    let read = |name: &str| fs::read_to_string(scratch.path().join("out").join(name)).unwrap();
    assert_eq!(read("after"), read("before"), "{output}");
}

#[test]
fn ten_builds_in_one_container_are_alike_and_leave_its_files_alone() {
    let (output, scratch) = run("
build one Dockerfile; build bad fails; build two Dockerfile; build three Dockerfile --single-snapshot
for number in 5 6 7 8 9 10; do build $number Dockerfile; done; list > /out/after");
    let codes: Vec<_> = output.out().lines().filter(|line| line.contains(": ")).map(str::to_owned).collect();
    let expected = ["one: 0", "bad: 3", "two: 0", "three: 0", "5: 0", "6: 0", "7: 0", "8: 0", "9: 0", "10: 0"];
    assert_eq!(codes, expected, "{output}");
    assert_as_before(&output, &scratch);
    for name in ["two", "5", "10"] {
        assert_eq!(layers(&scratch, "one"), layers(&scratch, name), "{output}");
    }
}

#[test]
fn mounts_survive_wherever_they_are_and_the_base_keeps_its_own_run() {
    let (output, scratch) = run_in(
        "build runtime runtime > /out/log 2>&1
cat /out/log; cat /product_uuid /usr/bin/gpu-tool /var/run/secrets/kubernetes.io/serviceaccount/token; list > /out/after",
        |container, folder| {
            for name in ["uuid", "tool", "token"] {
                fs::write(folder.join(name), format!("mounted {name}\n")).unwrap();
            }
            container
                .mount(&folder.join("uuid"), "/product_uuid")
                .mount(&folder.join("tool"), "/usr/bin/gpu-tool")
                .mount(folder, "/var/run/secrets/kubernetes.io/serviceaccount")
        },
    );
    assert!(output.out().contains("runtime: 0\nmounted uuid\nmounted tool\nmounted token\n"), "{output}");
    assert!(!output.out().contains("WARN"), "{output}");
    assert_as_before(&output, &scratch);
    let layout = Layout::open(&scratch.path().join("out/runtime")).unwrap();
    let layer = layers(&scratch, "runtime").as_array().unwrap().last().unwrap().clone();
    let entries = zuwai_lab::tar::read(&layout.layer(&layer).unwrap()).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
    assert_eq!(names, ["run/", "run/app/", "run/app/pid"], "{output}");
}

#[test]
fn an_image_is_left_in_the_container_and_the_container_emptied_when_that_is_asked_for() {
    let (output, scratch) = run("
build materialized nothing --materialize; test -x /bin/busybox && test ! -e /opt/own && echo image
build next Dockerfile --cleanup --preserve-context; list > /out/after
build last Dockerfile --cleanup; test ! -e /opt && test ! -e /link && test -e /kaniko/executor && test -e /context && echo empty");
    for said in ["materialized: 0\nimage\n", "next: 0\n", "last: 0\nempty\n"] {
        assert!(output.out().contains(said), "{said}: {output}");
    }
    assert_as_before(&output, &scratch);
    assert_eq!(layers(&scratch, "next"), layers(&scratch, "last"), "{output}");
}

#[test]
fn flags_and_variables_for_the_container_do_what_they_are_for() {
    let (output, scratch) = run("
build one Dockerfile; build pre Dockerfile --pre-cleanup
KANIKO_DIR=/elsewhere build variable Dockerfile; rm -r /elsewhere
build flag Dockerfile --kaniko-dir=/elsewhere; rm -r /elsewhere
build run var-run --ignore-var-run=true; rm /var/run; ln -s ../run /var/run; build forced Dockerfile --force; list > /out/after");
    let ended: Vec<_> = output.out().lines().filter(|line| line.contains(": ")).map(str::to_owned).collect();
    assert_eq!(ended, ["one: 0", "pre: 0", "variable: 0", "flag: 0", "run: 0", "forced: 0"], "{output}");
    assert_as_before(&output, &scratch);
    let layout = Layout::open(&scratch.path().join("out/run")).unwrap();
    let layer = layers(&scratch, "run").as_array().unwrap().last().unwrap().clone();
    // The folder above has another time, and that is all.
    let entries = zuwai_lab::tar::read(&layout.layer(&layer).unwrap()).unwrap();
    assert!(entries.iter().all(|entry| entry.name == b"var/"), "{output}");
    for name in ["pre", "variable", "flag", "forced"] {
        assert_eq!(layers(&scratch, "one"), layers(&scratch, name), "{name}: {output}");
    }
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
fn a_build_whose_base_does_not_come_stops_when_it_is_asked_to_and_puts_everything_back() {
    for pause in [None, Some(Duration::from_millis(100))] {
        let mirror = mirror(&[Base::Busybox], &Options::default()).unwrap();
        let held = Scratch::new().unwrap();
        let sign = held.path().join("sign");
        let stuck = Stuck { after: 16 << 10, pause };
        let tarpit = Tarpit::start(mirror.port(), stuck, move || drop(fs::write(&sign, "stuck"))).unwrap();
        // The layer is fetched when a step looks at the root; the container's own files are aside by then.
        let script = "
build stopped other & builder=$!
tries=0; until test -e /held/sign && test ! -e /opt/own || test $tries = 200; do sleep 0.1; tries=$((tries + 1)); done
test ! -e /opt/own && echo aside; cut -d. -f1 /proc/uptime
kill -TERM $(cat /proc/$builder/task/$builder/children); wait; cut -d. -f1 /proc/uptime
cat /proc/[0-9]*/comm | grep -c executor || true; list > /out/after";
        let (output, scratch) = run_with(&tarpit.host(), script, |container, _| container.mount(held.path(), "/held"));
        let said = output.out();
        let lines: Vec<&str> = said.lines().collect();
        let ["aside", begin, "stopped: 143", end, "0"] = lines[..] else { panic!("{output}") };
        let took = end.parse::<u64>().unwrap() - begin.parse::<u64>().unwrap();
        assert!(took <= 5, "it took {took} s: {output}");
        assert_as_before(&output, &scratch);
    }
}

#[test]
fn a_privileged_container_builds_as_every_other_and_the_doctor_says_why() {
    let (usual, usual_scratch) = run("build one Dockerfile; list > /out/after");
    assert!(usual.out().contains("one: 0"), "{usual}");
    let script = "
build sees sees; build one Dockerfile
build own Dockerfile --isolation=namespace --kaniko-dir=/kaniko/own; rm -rf /kaniko/own; list > /out/after";
    let (output, scratch) = run_in(script, |container, folder| {
        fs::write(folder.join("token"), "of a volume\n").unwrap();
        container.mount(folder, "/seen").privileged()
    });
    for said in ["of a volume\nsees: 0", "one: 0", "own: 0"] {
        assert!(output.out().contains(said), "{said}: {output}");
    }
    assert_as_before(&output, &scratch);
    assert_eq!(layers(&scratch, "one"), layers(&usual_scratch, "one"), "{output}");
    assert_eq!(layers(&scratch, "one"), layers(&scratch, "own"), "{output}");

    let page = doctor(|container| container.privileged().env("NO_COLOR", "1"));
    for line in ["SYS_ADMIN among them", "no filter", "namespaces        allowed", "direct: this is a container's root"]
    {
        assert!(page.contains(line), "{line}: {page}");
    }
    assert!(page.contains("--isolation=namespace"), "{page}");
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
fn contexts_among_the_containers_own_files_are_read_while_these_are_aside() {
    let (output, scratch) = run("
build one Dockerfile; /tools/busybox cp -r /out/one /opt/layout; list > /out/before
build two contexts --build-context=own=/opt/own --build-context=base=oci-layout:///opt/layout; list > /out/after");
    assert!(output.out().contains("one: 0") && output.out().contains("two: 0"), "{output}");
    assert_as_before(&output, &scratch);
    let (base, heir) = (layers(&scratch, "one"), layers(&scratch, "two"));
    let (base, heir) = (base.as_array().unwrap(), heir.as_array().unwrap());
    assert!(heir.len() == base.len() + 2 && heir.starts_with(base), "{output}");
}

#[test]
fn a_context_that_every_image_has_and_a_mount_holds_in_its_place_is_refused_where_it_is_used() {
    let (output, scratch) = run("
build one contexts --build-context=own=/etc --build-context=base=docker-image://busybox
build two Dockerfile --build-context=own=/etc; list > /out/after");
    assert!(output.out().contains("one: 1") && output.out().contains("two: 0"), "{output}");
    let told = "the context /etc has mounts of this container in it, and the image's own /etc is to lie there";
    assert!(output.to_string().contains(told), "{output}");
    assert_as_before(&output, &scratch);
}

/// Moments between the first of a build's and its end, no two runs alike.
fn moments() -> Vec<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut seed = u64::from(now.subsec_nanos()) | 1;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("0.{:03}", (seed >> 20) % 800)
    };
    (0..12).map(|_| next()).collect()
}

#[test]
fn builds_that_are_killed_at_any_moment_one_after_the_other_lose_nothing() {
    let (output, scratch) = run(&format!(
        "
build one Dockerfile
for moment in {}; do
  echo \"killed after $moment\"
  build killed Dockerfile > /out/log 2>&1 & builder=$!
  sleep $moment; kill -KILL $(cat /proc/$builder/task/$builder/children 2> /dev/null) 2> /dev/null || echo ended before
  wait; rm -rf /out/killed
done
build two Dockerfile; list > /out/after",
        moments().join(" ")
    ));
    assert!(output.out().contains("one: 0") && output.out().contains("two: 0"), "{output}");
    assert_as_before(&output, &scratch);
    assert_eq!(layers(&scratch, "one"), layers(&scratch, "two"), "{output}");
}

#[test]
fn a_link_of_the_base_where_the_container_has_a_folder_with_a_mount_stays_in_the_image() {
    let (output, scratch) = run_in("build other other 2>&1; list > /out/after", |container, folder| {
        fs::write(folder.join("token"), "mounted").unwrap();
        container.mount(folder, "/opt/odd/to-tree/mounted")
    });
    assert!(output.out().contains("other: 0"), "{output}");
    assert!(output.out().contains("WARN") && output.out().contains("/opt/odd/to-tree"), "{output}");
    assert_as_before(&output, &scratch);
    let layout = Layout::open(&scratch.path().join("out/other")).unwrap();
    let layer = layers(&scratch, "other").as_array().unwrap().last().unwrap().clone();
    let entries = zuwai_lab::tar::read(&layout.layer(&layer).unwrap()).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
    assert_eq!(names, ["x"], "{output}");
}

#[test]
fn what_is_ignored_by_a_pattern_stays_in_the_container_and_out_of_the_image() {
    let (output, scratch) = run("
mkdir -p /srv/cache1 /srv/other && echo own > /srv/cache1/own; list > /out/before
build patterns patterns '--ignore-path=/srv/cache*' '--ignore-path=/t[a-m]p/x?'; cat /srv/cache1/own; rm -f /srv/cache1/new /tmp/xy
rm -rf /srv/cache2; list > /out/after");
    assert!(output.out().contains("patterns: 0\nown\n"), "{output}");
    assert_as_before(&output, &scratch);
    let layout = Layout::open(&scratch.path().join("out/patterns")).unwrap();
    let layer = layers(&scratch, "patterns").as_array().unwrap().last().unwrap().clone();
    let entries = zuwai_lab::tar::read(&layout.layer(&layer).unwrap()).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
    assert_eq!(names, ["srv/", "srv/kept", "tmp/", "tmp/x"], "{output}");
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
