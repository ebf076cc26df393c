//! The executor's image is laid out as users of Kaniko know it.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::path::Path;

use zuwai_lab::{Executor, Output};

fn look(script: &str) -> Output {
    // Any static program will do: it is the image around it that is looked at.
    let executor = Executor::new(Path::new("/bin/busybox")).unwrap();
    let container = executor.container().mount(Path::new("/bin/busybox"), "/busybox").entrypoint("/busybox");
    container.run(["sh", "-c", script]).unwrap().success().unwrap()
}

#[test]
fn paths_modes_and_environment_are_those_that_scripts_rely_on() {
    let script = "/busybox stat -c '%F %a %n' /kaniko /kaniko/executor /kaniko/warmer /kaniko/.docker /kaniko/ssl/certs /workspace; \
                  /busybox pwd; /busybox env | /busybox sort | /busybox grep -v -e ^container -e ^HOSTNAME -e ^TERM -e ^SHLVL -e ^PWD";
    let expected = "directory 777 /kaniko\nregular file 755 /kaniko/executor\nsymbolic link 777 /kaniko/warmer\n\
                    directory 777 /kaniko/.docker\ndirectory 755 /kaniko/ssl/certs\ndirectory 777 /workspace\n/workspace\n\
                    DOCKER_CONFIG=/kaniko/.docker/\n\
                    DOCKER_CREDENTIAL_GCR_CONFIG=/kaniko/.config/gcloud/docker_credential_gcr_config.json\n\
                    HOME=/root\nPATH=/usr/local/bin:/kaniko\nSSL_CERT_DIR=/kaniko/ssl/certs\nUSER=root\n";
    assert_eq!(look(script).out(), expected);
}

#[test]
fn there_is_nothing_else_in_it() {
    let list = "/busybox find / -xdev -type f | /busybox grep -v -e ^/proc -e ^/sys -e ^/dev -e ^/run -e ^/busybox | /busybox sort";
    let out = look(list).out();
    let unexpected: Vec<_> = out
        .lines()
        .filter(|path| {
            ![
                "/kaniko/executor",
                "/etc/nsswitch.conf",
                "/etc/hosts",
                "/etc/hostname",
                "/etc/resolv.conf",
                "/etc/passwd",
                "/etc/group",
            ]
            .contains(path)
        })
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

#[test]
fn a_program_that_needs_a_loader_is_refused() {
    let error = Executor::new(Path::new("/bin/ls")).unwrap_err();
    assert!(format!("{error:#}").contains("dynamic loader"), "{error:#}");
}
