//! The stand-ins do what the images do whose names they bear.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use zuwai_lab::base::{self, Base};
use zuwai_lab::example::GREETING;
use zuwai_lab::registry::Options;
use zuwai_lab::{Engine, Output, places};

/// Runs a script in an image of the mirror.
fn sh(base: Base, name: &str, script: &str) -> Output {
    let mirror = base::mirror(&[base], &Options::default()).unwrap();
    let engine = Engine::new(&[]).unwrap();
    let image = engine.pull_from(&mirror, name, None).unwrap();
    let container = engine.container(&image).option("--user=0").working_dir("/").entrypoint("/bin/sh");
    container.mount(&places::testdata().join("maven"), "/example").run(["-c", script]).unwrap()
}

#[test]
fn maven_builds_the_example_without_a_network() {
    let script = "cp -r /example/. / && mvn --quiet clean package -Dmaven.test.skip=true && java -jar target/app.jar";
    let output = sh(Base::Maven, "library/maven:3.5-jdk-11", script);
    assert!(output.status.success() && output.out().ends_with(GREETING), "{output}");
}

#[test]
fn openjdk_has_java() {
    let output = sh(Base::OpenJdk, "adoptopenjdk/openjdk11:jdk-11.0.9_11", "java -version");
    assert!(output.status.success() && output.err().contains("OpenJDK"), "{output}");
}

#[test]
fn debian_has_what_the_cases_call_and_nothing_of_this_machines_sources() {
    let script = "apt-get --version && getcap / && getfattr --version && setfacl --version && ls -A /etc/apt/sources.list.d \
                  && test ! -e /etc/apt/sources.list && ls /etc/apt/apt.conf.d";
    let output = sh(Base::Debian, "library/debian:12", script).success().unwrap();
    assert!(!output.out().contains("mmdebstrap"), "{output}");
}

#[test]
fn busybox_has_one_of_everything() {
    let script = "cd /opt/odd && stat -c '%n %F %a %u:%g %h' * && readlink dangling && id app && cat /var/run/nothing";
    let output = sh(Base::Busybox, "library/busybox:latest", script);
    for line in [
        "setuid regular file 4755 0:0 1",
        "sticky directory 1777 0:0 2",
        "hard-a regular file 644 0:0 2",
        "fifo fifo 644 0:0 1",
    ] {
        assert!(output.out().contains(line), "{line}: {output}");
    }
    assert!(output.out().contains("uid=1000(app) gid=1000(app) groups=1000(app),26(tape),29(audio)"), "{output}");
}

#[test]
fn every_layer_of_the_layered_busybox_takes_effect() {
    let script =
        "cd /over && ls -R . && cat changed gone becomes-file link && readlink becomes-link && stat -c %a folder";
    let output = sh(Base::Busybox, "library/busybox:layers", script).success().unwrap();
    let expected = ".:\nbecomes-file\nbecomes-link\nchanged\nfolder\ngone\nhidden\nkept\nlink\n\n./folder:\nz\n\n./hidden:\nnew\n\
                    second\nback\nfile\nfile\n/opt/tree\n700\n";
    assert_eq!(output.out(), expected, "{output}");
}
