//! The executor's image with a shell, as runners use it that start a script in it: GitLab's job and Jenkins' container.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::path::Path;
use std::time::Duration;

use zuwai_lab::base::{Base, mirror};
use zuwai_lab::executor::Variant;
use zuwai_lab::registry::Options;
use zuwai_lab::{Executor, Output, Registry, Scratch, render};

const USER: &str = "gitlab-ci-token";
const PASSWORD: &str = "job-PASSWORD";

/// What GitLab's documentation makes a job of, on a registry of one's own.
const GITLAB: &str = r#"
set -eu
mkdir -p /kaniko/.docker
auth=$(printf "%s:%s" "$CI_REGISTRY_USER" "$CI_REGISTRY_PASSWORD" | base64 | tr -d '\n')
echo "{\"auths\":{\"$CI_REGISTRY\":{\"auth\":\"$auth\"}}}" > /kaniko/.docker/config.json
build() {
  /kaniko/executor --context "$CI_PROJECT_DIR" --dockerfile "$CI_PROJECT_DIR/Dockerfile" \
    --destination "$CI_REGISTRY/group/app:$1" --insecure-registry "$CI_REGISTRY" \
    --registry-mirror "$MIRROR" --insecure-registry "$MIRROR" --skip-default-registry-fallback
}
build one
ls /busybox/sh /bin/sh "$CI_PROJECT_DIR/Dockerfile"
build two
echo "still here"
"#;

fn job(shell: &[&str], script: &str, login: Option<(&str, &str)>) -> (Output, Registry, Scratch) {
    let mirror = mirror(&[Base::Busybox], &Options::default()).unwrap();
    let registry = Registry::start(&Options { login, ..Options::default() }).unwrap();
    let executor = Executor::of_variant(Path::new(env!("CARGO_BIN_EXE_zuwai")), Variant::Debug).unwrap();
    let scratch = Scratch::new().unwrap();
    let project = scratch.folder("project").unwrap();
    let dockerfile = "FROM busybox\nCOPY Dockerfile /copied\nRUN echo made > /made\n";
    fs::write(project.join("Dockerfile"), dockerfile).unwrap();
    let container = executor
        .container()
        .mount_writable(&project, "/builds/group/app")
        .env("CI_PROJECT_DIR", "/builds/group/app")
        .env("CI_REGISTRY", &registry.host())
        .env("CI_REGISTRY_USER", USER)
        .env("CI_REGISTRY_PASSWORD", PASSWORD)
        .env("MIRROR", &mirror.host())
        .env("NO_COLOR", "1")
        .entrypoint(shell[0]);
    let words = shell[1..].iter().copied().chain([script]);
    let output = container.time_limit(Duration::from_mins(3)).run(words).unwrap();
    (output, registry, scratch)
}

#[test]
fn a_gitlab_job_writes_its_credentials_builds_twice_and_goes_on() {
    let (output, registry, scratch) = job(&["sh", "-c"], GITLAB, Some((USER, PASSWORD)));
    assert_eq!(output.code(), 0, "{output}");
    assert!(output.out().contains("/busybox/sh") && output.out().ends_with("still here\n"), "{output}");
    assert!(!output.out().contains(PASSWORD) && !output.err().contains(PASSWORD), "{output}");
    for tag in ["one", "two"] {
        let folder = scratch.path().join(tag);
        let layout = registry.pull(&format!("group/app:{tag}"), &folder).unwrap();
        let shown = render::image(&layout, &Base::Busybox.known().unwrap()).unwrap();
        let entries: Vec<_> =
            shown.lines().filter(|line| line.starts_with("  - ") || line.starts_with("  d ")).collect();
        assert_eq!(entries.len(), 2, "the runner's files are in the image: {shown}");
    }
}

#[test]
fn a_script_that_begins_with_busyboxs_shell_runs() {
    let script =
        "printf '#!/busybox/sh\\necho \"$0 runs\"\\n' > /workspace/step && chmod +x /workspace/step && /workspace/step";
    let (output, _registry, _scratch) = job(&["/busybox/sh", "-c"], script, None);
    assert_eq!((output.code(), output.out().as_str()), (0, "/workspace/step runs\n"), "{output}");
}
