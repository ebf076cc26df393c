//! The main job, end to end: from a Dockerfile in a private git repository to an image in a private registry, in an
//! unprivileged container; and the ways in which it can go wrong outside of zuwai.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::path::Path;
use std::time::Duration;

use zuwai_lab::example::{Application, GREETING, PASSWORD, TOKEN, USER};
use zuwai_lab::layout::{Layout, text};
use zuwai_lab::{Capabilities, Example, Output, registry, render, server};

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_zuwai"))
}

fn small() -> Example {
    Example::new(binary(), Application::Small).unwrap()
}

/// No secret is in what was said.
fn discreet(output: &Output) {
    for secret in [TOKEN, PASSWORD, &registry::docker_config(&[("", USER, PASSWORD)])[19..40]] {
        assert!(!output.out().contains(secret) && !output.err().contains(secret), "{secret} is told: {output}");
    }
}

/// The build failed with an error that has these words, told no secret, and left nothing in the registry.
fn failed(example: &Example, output: &Output, words: &[&str]) {
    assert_eq!(output.code(), 1, "{output}");
    for word in words {
        assert!(output.err().contains(word), "`{word}` is not said: {output}");
    }
    assert!(example.registry.manifest("test-application:1.0").is_err(), "a tag was made: {output}");
    discreet(output);
}

#[test]
fn the_maven_example_is_built_pushed_pulled_and_run() {
    let example = Example::new(binary(), Application::Maven).unwrap();
    let container = example.container().unwrap().time_limit(Duration::from_mins(8));
    let output = container.run(example.all_arguments()).unwrap().success().unwrap();
    discreet(&output);

    let scratch = example.scratch();
    let layout = example.registry.pull("test-application:1.0", &scratch.path().join("pulled")).unwrap();
    let digest = text(&layout.index().unwrap()[0], "digest").unwrap().to_owned();
    assert!((output.out() + &output.err()).contains(&digest), "the digest {digest} is not printed: {output}");
    let shown = render::image(&layout, &zuwai_lab::base::Base::OpenJdk.known().unwrap()).unwrap();
    assert!(shown.contains("on adoptopenjdk/openjdk11:jdk-11.0.9_11 (1 layers"), "{shown}");
    assert!(shown.contains("COPY target/app.jar app.jar # buildkit"), "{shown}");
    assert!(shown.contains("\n  - 0644 0:0 app.jar  "), "{shown}");
    assert_eq!(shown.matches("\nlayer ").count(), 1, "{shown}");
    assert!(!shown.contains(TOKEN) && !shown.contains(PASSWORD));

    let result = example.run_result("test-application:1.0").unwrap();
    assert_eq!((result.code(), result.out().as_str()), (0, GREETING), "{result}");
}

#[test]
fn a_second_destination_receives_the_same_digest() {
    let example = small();
    let out = example.scratch().folder("out").unwrap();
    let second = format!("--destination={}/other/place:latest", example.registry.host());
    let files = [
        "--digest-file=/out/digest",
        "--image-name-with-digest-file=/out/names",
        "--image-name-tag-with-digest-file=/out/tags",
    ];
    let arguments = [example.all_arguments(), vec![second], files.map(str::to_owned).to_vec()].concat();
    example.container().unwrap().mount_writable(&out, "/out").run(arguments).unwrap().success().unwrap();

    let digest = fs::read_to_string(out.join("digest")).unwrap();
    assert!(digest.starts_with("sha256:") && !digest.ends_with('\n'), "{digest:?}");
    let storage = example.registry.storage();
    assert_eq!(storage.tag("test-application", "1.0").unwrap(), digest);
    assert_eq!(storage.tag("other/place", "latest").unwrap(), digest);
    let host = example.registry.host();
    let names = fs::read_to_string(out.join("names")).unwrap();
    assert_eq!(names, format!("{host}/test-application@{digest}\n{host}/other/place@{digest}\n"));
    let tags = fs::read_to_string(out.join("tags")).unwrap();
    assert_eq!(tags, format!("{host}/test-application:1.0@{digest}\n{host}/other/place:latest@{digest}\n"));
    for name in ["test-application:1.0", "other/place:latest"] {
        assert_eq!(example.run_result(name).unwrap().out(), GREETING);
    }
}

#[test]
fn a_second_push_of_the_same_base_moves_no_layer_of_it_again() {
    let example = small();
    example.container().unwrap().run(example.all_arguments()).unwrap().success().unwrap();
    let uploads =
        || example.registry.requests().iter().filter(|line| line.contains("PUT /v2/test-application/blobs/")).count();
    let first = uploads();
    assert!(first >= 3, "a base layer, two layers and a config were to be uploaded, and {first} were");
    example.container().unwrap().run(example.all_arguments()).unwrap().success().unwrap();
    let second = uploads() - first;
    assert!(second < first, "{second} of {first} blobs were uploaded again");
}

#[test]
fn the_certificate_may_go_unverified_when_asked_for() {
    let example = small();
    let arguments = [example.arguments(), example.mirror_arguments(), vec!["--skip-tls-verify".to_owned()]].concat();
    example.container().unwrap().run(arguments).unwrap().success().unwrap();
    assert_eq!(example.run_result("test-application:1.0").unwrap().out(), GREETING);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let example = small();
    let arguments = [example.arguments(), example.mirror_arguments()].concat();
    let output = example.container().unwrap().run(arguments).unwrap();
    failed(&example, &output, &[&example.registry.host(), "certificate", "--registry-certificate"]);
}

#[test]
fn config_json_is_found_in_every_place_where_users_mount_it() {
    let example = small();
    let secret = example.secret("elsewhere", &example.registry.docker_config(USER, PASSWORD)).unwrap();
    for (place, variable) in [
        ("/kaniko/.docker", None),
        ("/root/.docker", None),
        ("/.docker", None),
        ("/somewhere", Some(("DOCKER_CONFIG", "/somewhere"))),
        ("/home/builder/.docker", Some(("HOME", "/home/builder"))),
    ] {
        let mut container = example.container_without_secret().unwrap().mount(&secret, place);
        if let Some((name, value)) = variable {
            container = container.env(name, value);
        }
        let output = container.run(example.all_arguments()).unwrap();
        assert!(output.status.success(), "{place}: {output}");
    }
}

#[test]
fn the_right_is_asked_for_before_anything_is_built_and_a_refusal_says_what_was_tried() {
    let example = small();
    let secret = example.secret("wrong", &example.registry.docker_config(USER, "not-the-password")).unwrap();
    let container = example.container_without_secret().unwrap().mount(&secret, "/kaniko/.docker");
    let output = container.run(example.all_arguments()).unwrap();
    failed(
        &example,
        &output,
        &["error checking push permissions", &example.registry.host(), "/kaniko/.docker/config.json"],
    );
    assert!(!output.err().contains("not-the-password"), "{output}");
    assert!(example.mirror.requests().is_empty(), "a base image was looked for: {:?}", example.mirror.requests());

    let output = example.container_without_secret().unwrap().run(example.all_arguments()).unwrap();
    failed(&example, &output, &["authentication required", &example.registry.host(), "config.json"]);
}

#[test]
fn a_wrong_token_is_refused_and_not_told() {
    let example = small();
    let mut arguments = example.all_arguments();
    arguments[1] = format!("--context={}", example.git.context_with("wrong-TOKEN", "test/test-application.git"));
    let output = example.container().unwrap().run(arguments).unwrap();
    failed(&example, &output, &["authentication", &example.git.host()]);
    assert!(!output.err().contains("wrong-TOKEN") && !output.out().contains("wrong-TOKEN"), "{output}");
}

#[test]
fn a_branch_that_is_not_there_is_named() {
    let example = small();
    let mut arguments = example.all_arguments();
    arguments[2] = "--git=branch=no-such-branch".to_owned();
    let output = example.container().unwrap().run(arguments).unwrap();
    failed(&example, &output, &["no-such-branch", &example.git.host()]);
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let example = small();
    let mut arguments = example.all_arguments();
    let absent = format!("127.0.0.1:{}", server::free_port().unwrap());
    arguments[3] = format!("--destination={absent}/test-application:1.0");
    let output = example.container().unwrap().run(arguments.clone()).unwrap();
    failed(&example, &output, &[&absent, "refused"]);

    arguments[3] = "--destination=no-such-host.invalid/test-application:1.0".to_owned();
    let output = example.container().unwrap().run(arguments).unwrap();
    failed(&example, &output, &["no-such-host.invalid"]);
}

#[test]
fn the_context_may_be_a_tag_a_merge_request_or_a_commit() {
    let example = small();
    let commit = example.git.commit("test/test-application.git", "production").unwrap();
    for reference in [
        "refs/heads/production",
        "refs/tags/v1.0",
        "v1.0",
        "refs/merge-requests/1/head",
        &commit,
        &format!("refs/heads/production#{commit}"),
    ] {
        let mut arguments = example.all_arguments();
        arguments[1] = format!("{}#{reference}", arguments[1]);
        arguments.remove(2);
        let output = example.container().unwrap().run(arguments).unwrap();
        assert!(output.status.success(), "{reference}: {output}");
    }
}

#[test]
fn the_token_may_come_from_the_environment() {
    let example = small();
    let mut arguments = example.all_arguments();
    arguments[1] = format!("--context=git://{}/test/test-application.git", example.git.host());
    let container = example.container().unwrap().env("GIT_USERNAME", "auth").env("GIT_PASSWORD", TOKEN);
    let output = container.run(arguments).unwrap();
    assert!(output.status.success(), "{output}");
    discreet(&output);
}

#[test]
fn fewer_capabilities_than_the_default_are_enough() {
    let example = small();
    let container = example.container().unwrap().capabilities(Capabilities::Fewer);
    let output = container.run(example.all_arguments()).unwrap();
    assert!(output.status.success(), "{output}");
    assert_eq!(example.run_result("test-application:1.0").unwrap().out(), GREETING);
}

#[test]
fn a_command_of_another_user_without_the_capability_for_it_names_the_capability() {
    let example = small();
    for (missing, user) in [("SETUID", "1000"), ("SETGID", "0:1000")] {
        let context = example.scratch().folder(missing).unwrap();
        fs::write(context.join("Dockerfile"), format!("FROM scratch\nUSER {user}\nRUN [\"/never\"]\n")).unwrap();
        let container = example.container().unwrap().capabilities(Capabilities::Without(missing));
        let output = container
            .mount(&context, "/context")
            .run(["--context=dir:///context", "--no-push", "--dockerfile=/context/Dockerfile"])
            .unwrap();
        assert_eq!(output.code(), 1, "{output}");
        let hint = format!("add {missing} to securityContext.capabilities of the Pod");
        assert!(output.err().contains(&hint) && output.err().contains("Dockerfile:3"), "{output}");
    }
}

#[test]
fn an_archive_and_a_layout_are_taken_by_other_tools() {
    let example = small();
    let out = example.scratch().folder("out").unwrap();
    let files =
        ["--no-push", "--tar-path=/out/image.tar", "--oci-layout-path=/out/layout", "--digest-file=/out/digest"];
    let arguments = [example.all_arguments(), files.map(str::to_owned).to_vec()].concat();
    example.container().unwrap().mount_writable(&out, "/out").run(arguments).unwrap().success().unwrap();
    assert!(example.registry.requests().is_empty(), "with --no-push the registry is left alone");

    let layout = Layout::open(&out.join("layout")).unwrap();
    let digest = text(&layout.index().unwrap()[0], "digest").unwrap().to_owned();
    assert_eq!(fs::read_to_string(out.join("digest")).unwrap(), digest);
    let engine = example.executor.engine();
    let image = engine.pull(&format!("oci:{}", out.join("layout").display())).unwrap();
    assert_eq!(engine.container(&image).run::<&str>([]).unwrap().out(), GREETING);

    let loaded =
        zuwai_lab::command::must(engine.podman().args(["load", "--quiet", "--input"]).arg(out.join("image.tar")))
            .unwrap();
    let name = loaded.trim().rsplit(' ').next().unwrap();
    assert_eq!(name, example.destination());
    assert_eq!(engine.container(name).run::<&str>([]).unwrap().out(), GREETING);

    let bundle = out.join("bundle");
    let mut umoci = std::process::Command::new("umoci");
    let tag =
        layout.index().unwrap()[0]["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned();
    umoci.args(["unpack", "--image"]).arg(format!("{}:{tag}", out.join("layout").display())).arg(&bundle);
    zuwai_lab::command::must(&mut umoci).unwrap();
    assert_eq!(fs::read_to_string(bundle.join("rootfs/greeting")).unwrap(), GREETING);
}

#[test]
fn labels_args_and_logs_are_as_asked_for() {
    let example = small();
    let more = [
        "--label=org.example.commit=abc",
        "--build-arg=UNUSED=1",
        "--log-format=json",
        "--verbosity=debug",
        "--log-timestamp",
    ];
    let arguments = [example.all_arguments(), more.map(str::to_owned).to_vec()].concat();
    let output = example.container().unwrap().run(arguments).unwrap().success().unwrap();
    discreet(&output);
    let lines: Vec<serde_json::Value> =
        output.err().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    assert!(lines.len() > 3, "{output}");
    for line in &lines {
        assert!(["level", "msg", "time"].iter().all(|key| line[key].is_string()), "{line}");
    }
    let layout = example.registry.pull("test-application:1.0", &example.scratch().path().join("pulled")).unwrap();
    let manifest = layout.document(text(&layout.index().unwrap()[0], "digest").unwrap()).unwrap();
    let config = layout.document(text(&manifest["config"], "digest").unwrap()).unwrap();
    assert_eq!(config["config"]["Labels"]["org.example.commit"], "abc");
}

/// Builds a Dockerfile without a git server, with these arguments more.
fn build_of(example: &Example, dockerfile: &str, more: &[String]) -> Output {
    let context = example.scratch().folder("context").unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let arguments = [vec!["--context=dir:///workspace".to_owned()], example.mirror_arguments(), more.to_vec()].concat();
    let container = example.container_without_secret().unwrap().mount(&context, "/workspace");
    container.time_limit(Duration::from_mins(1)).run(arguments).unwrap()
}

#[test]
fn a_base_may_be_named_by_its_digest() {
    let example = small();
    let digest = example.mirror.storage().tag("library/busybox", "latest").unwrap();
    for name in [format!("busybox@{digest}"), format!("index.docker.io/library/busybox:1.35@{digest}")] {
        let output = build_of(&example, &format!("FROM {name}\nRUN echo x > /x\n"), &["--no-push".to_owned()]);
        assert!(output.status.success(), "{name}: {output}");
    }
    let other = digest.replace(|character: char| character.is_ascii_digit(), "0");
    let output = build_of(&example, &format!("FROM busybox@{other}\nLABEL a=b\n"), &["--no-push".to_owned()]);
    assert_eq!(output.code(), 1, "{output}");
    assert!(output.err().contains(&other), "{output}");
}

/// A static C library looks users and hosts up in modules that the image names and brings, which would run the image's
/// code in the builder. Here the modules are FIFOs without a writer: whoever opens one never comes back.
#[test]
fn the_name_service_of_an_image_is_never_asked() {
    let example = small();
    let dockerfile = "FROM busybox\n\
        RUN printf 'passwd: trap\\ngroup: trap\\nhosts: trap\\n' > /etc/nsswitch.conf && \
            for folder in /lib /lib64 /usr/lib /usr/lib64 /lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu; do \
            mkdir -p $folder && mkfifo $folder/libnss_trap.so.2; done\n\
        USER app\n\
        RUN [\"/bin/true\"]\n\
        COPY --chown=app:tape Dockerfile /owned\n\
        WORKDIR /home/app/made\n";
    let host = format!("localhost:{}", example.registry.port());
    let config = registry::docker_config(&[(&host, USER, PASSWORD)]);
    let context = example.scratch().folder("context").unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let secret = example.secret("localhost", &config).unwrap();
    let mut arguments = example.mirror_arguments();
    arguments.push("--context=dir:///workspace".to_owned());
    arguments.push(format!("--destination={host}/test-application:1.0"));
    arguments.push(format!("--registry-certificate={host}=/certificates/ca.pem"));
    let container = example.container_without_secret().unwrap().mount(&context, "/workspace");
    let container = container.mount(&secret, "/kaniko/.docker").time_limit(Duration::from_mins(1));
    let output = container.run(arguments).unwrap();
    assert!(output.status.success(), "{output}");
    assert!(example.registry.manifest("test-application:1.0").is_ok());
}
