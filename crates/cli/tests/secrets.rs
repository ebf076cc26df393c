//! Secrets of a build in `namespace`: in memory, for the command that asks for one, and nowhere else.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

use zuwai_lab::command;

mod laptop;

use laptop::{LIMIT, both, holders};

#[test]
fn a_secret_is_on_no_disk_while_a_command_reads_it() {
    for laptop in both() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut zuwai = laptop.zuwai(&format!(
            "FROM busybox\nRUN --mount=type=secret,id=s --mount=type=secret,id=s,target=/etc/deep/s,mode=0444,uid=1000 \
             --mount=type=secret,id=s,target=/etc/passwd cat /run/secrets/s /etc/deep/s /etc/passwd; \
             stat -c '%a %u' /run/secrets/s /etc/deep/s; stat -f -c %T /run/secrets/s; \
             (echo x > /run/secrets/s) 2>/dev/null || echo read-only; busybox nc 127.0.0.1 {port} < /dev/null\n\
             RUN ls /run/secrets /etc/deep 2>/dev/null; grep -c ^root: /etc/passwd; mount | grep -c secrets || true\n"
        ));
        let value = "word-of-the-secret";
        zuwai.args(["--secret=id=s,env=GIVEN", "--oci-layout-path=image"]).env("GIVEN", value);
        let child = zuwai.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let guest = listener.accept().unwrap();
        let work = laptop.person.home().join(".cache/zuwai");
        assert!(fs::read_dir(&work).unwrap().count() > 0, "the build works there");
        let held = holders(&work, &[value]);
        drop(guest);
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(held.is_empty(), "{held:?}");
        let expected = format!("{}400 0\n444 1000\ntmpfs\nread-only\n1\n0\n", value.repeat(3));
        assert_eq!(out, expected, "{err}");
        let held = holders(&laptop.person.home().join("context/image"), &[value]);
        assert!(held.is_empty(), "{held:?}");
    }
}

#[test]
fn mounts_reach_the_folders_that_are_the_kernels() {
    for laptop in both() {
        fs::write(laptop.person.folder("context").unwrap().join("file"), "of the context\n").unwrap();
        let mut zuwai = laptop.zuwai(
            "FROM busybox\nRUN --mount=type=secret,id=s,target=/dev/deep/s --mount=type=bind,target=/dev/context \
             --mount=type=tmpfs,target=/dev/shm --mount=type=secret,id=s,target=/proc/version \
             cat /dev/deep/s /dev/context/file /proc/version; echo x > /dev/shm/x; ls /dev/shm; cat /dev/null\n\
             RUN ls -d /dev/deep /dev/context 2>/dev/null | wc -l; ls /dev/shm | wc -l; grep -c Linux /proc/version\n\
             RUN --mount=type=secret,id=s,target=/sys/none true\n",
        );
        zuwai.arg("--secret=id=s,env=GIVEN").env("GIVEN", "value\n");
        let output = command::run(&mut zuwai, LIMIT).unwrap();
        assert_eq!(output.out(), "value\nof the context\nvalue\nx\n0\n0\n1\n", "{output}");
        assert!(output.err().contains("bind ") && output.err().contains("/sys/none"), "{output}");
        assert_eq!(output.code(), 1, "{output}");
    }
}
