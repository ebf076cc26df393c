//! What is secret stays so, wherever a build runs: a build that is given secrets, tokens and passwords of every sort, and then a
//! search for each of them in everything that it wrote, printed, pushed and left behind.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use zuwai_lab::example::{Application, PASSWORD, TOKEN, USER};
use zuwai_lab::layout::sha256;
use zuwai_lab::{Capabilities, Example, Output, Person, Who, command};

mod laptop;

use laptop::holders;

const LIMIT: Duration = Duration::from_mins(3);

const FILE: &str = "word-of-the-file";
const VARIABLE: &str = "word-of-a-variable";

/// It reads its secrets in every form there is, and once more in a command that fails.
const DOCKERFILE: &str = "FROM busybox AS first\n\
    RUN --mount=type=secret,id=file,target=/etc/kept cat /etc/kept | wc -c\n\
    RUN --mount=type=secret,id=file --mount=type=cache,target=/cache wc -c < /run/secrets/file > /cache/count\n\
    FROM busybox\n\
    COPY greeting /greeting\n\
    RUN --mount=type=secret,id=variable,env=GIVEN echo ${#GIVEN} > /length && cat /length\n\
    RUN --mount=type=secret,id=file,target=/etc/passwd,mode=0444 wc -c < /etc/passwd\n\
    RUN ! grep -q word- /etc/passwd && test ! -e /run/secrets/file && test -z \"$GIVEN\"\n\
    COPY --from=first /etc/passwd /copied\n\
    USER app\n\
    RUN --mount=type=secret,id=variable,uid=1000 wc -c < /run/secrets/variable\n";

const FAILS: &str = "\nRUN --mount=type=secret,id=file wc -c < /run/secrets/file; exit 3\n";

/// Nothing is run in it.
const FILES: &str = "FROM busybox\nCOPY --chown=1000 greeting /greeting\nWORKDIR /work\nLABEL a=b\n";

/// The example with a repository that has the Dockerfiles.
fn example() -> Example {
    let example = Example::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), Application::Small).unwrap();
    let files = example.scratch().folder("secretive").unwrap();
    for (name, text) in [
        ("Dockerfile", DOCKERFILE),
        ("fails", &format!("{DOCKERFILE}{FAILS}")),
        ("files", FILES),
        ("greeting", "Good day.\n"),
    ] {
        fs::write(files.join(name), text).unwrap();
    }
    example.git.add("team/secretive.git", &files).unwrap();
    fs::write(example.scratch().folder("given").unwrap().join("file"), FILE).unwrap();
    example
}

/// What every build is told; `out` and `given` are where it finds the folders for results and for what it is given.
fn arguments(example: &Example, dockerfile: &str, out: &str) -> Vec<String> {
    let cache = format!("--cache-repo={}/cache", example.registry.host());
    let mut arguments = vec![
        format!("--dockerfile={dockerfile}"),
        format!("--context={}", example.git.context("team/secretive.git")),
        "--git=branch=production".to_owned(),
        format!("--destination={}/{dockerfile}:1", example.registry.host()).to_lowercase(),
        format!("--oci-layout-path={out}/{dockerfile}"),
        format!("--tar-path={out}/{dockerfile}.tar"),
        format!("--digest-file={out}/{dockerfile}.digest"),
        "--cache=true".to_owned(),
        "--explain-cache".to_owned(),
        cache,
        "--verbosity=trace".to_owned(),
    ];
    arguments.push(format!("--registry-mirror={}", example.mirror.host()));
    arguments
}

/// What is searched for: every secret, as it is, as logins carry it, and its hash.
fn words() -> Vec<String> {
    let mut words: Vec<String> = [FILE, VARIABLE, TOKEN, PASSWORD].map(str::to_owned).to_vec();
    words.extend([FILE, VARIABLE].map(|word| sha256(word.as_bytes())));
    // "robot:correct-horse-PASSWORD" and "auth:glpat-5e-TOKEN-9a" in base64, without what depends on where they end.
    words.extend(["cm9ib3Q6Y29ycmVjdC1ob3JzZS1QQVNTV09S", "YXV0aDpnbHBhdC01ZS1UT0tFTi05"].map(str::to_owned));
    words
}

/// Nothing of it was printed, and nothing of it is in the registry or in these folders.
fn discreet(example: &Example, outputs: &[&Output], folders: &[&Path]) {
    let words = words();
    for (output, word) in outputs.iter().flat_map(|output| words.iter().map(move |word| (output, word))) {
        assert!(!output.to_string().contains(word.as_str()), "{word} is told: {output}");
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for folder in folders.iter().copied().chain([example.registry.storage().folder()]) {
        assert!(fs::read_dir(folder).unwrap().next().is_some(), "nothing is in {}", folder.display());
        let held = holders(folder, &words);
        assert!(held.is_empty(), "{held:?}");
    }
}

const SECRETS: [&str; 2] = ["--secret=id=file,src=/given/file", "--secret=id=variable,env=GIVEN"];

#[test]
fn in_a_container_no_secret_is_in_a_layer_a_config_a_log_the_cache_or_left_in_the_container() {
    let example = example();
    let (out, tools) = (example.scratch().folder("out").unwrap(), example.scratch().folder("tools").unwrap());
    fs::copy("/bin/busybox", tools.join("busybox")).unwrap();
    let common =
        [example.mirror_arguments(), vec![example.certificate_argument()], SECRETS.map(str::to_owned).to_vec()];
    let line = |dockerfile: &str, more: &str| {
        let all = [arguments(&example, dockerfile, "/out"), common.concat()].concat();
        format!("/kaniko/executor {} {more} && echo built || echo failed with $?", all.join(" "))
    };
    // Afterwards every file of the container is looked into, but for what was mounted to be read, and the kernel's.
    let script = format!(
        "{}\n{}\n{}\ncd / && for word in {}; do /tools/busybox find / \\( -path /proc -o -path /sys -o -path /given -o \
         -path /out -o -path /tools -o -path /kaniko/.docker \\) -prune -o -type f -print0 | \
         /tools/busybox xargs -0 /tools/busybox grep -l $word && echo held; done; echo searched",
        line("Dockerfile", ""),
        line("Dockerfile", ""),
        line("fails", "--single-snapshot"),
        words().join(" ")
    );
    let container = example.container().unwrap().mount(&example.scratch().path().join("given"), "/given");
    let container = container.mount_writable(&out, "/out").mount(&tools, "/tools").env("GIVEN", VARIABLE);
    let output = container.time_limit(LIMIT).entrypoint("/tools/busybox").run(["sh", "-c", &script]).unwrap();
    let said = output.out();
    assert_eq!(said.matches("built\n").count(), 2, "{output}");
    assert!(said.contains("failed with 3\n") && said.ends_with("searched\n") && !said.contains("held"), "{output}");
    assert!(said.contains("16\n18\n16\n18\n"), "the secrets were there: {output}");
    discreet(&example, &[&output], &[&out]);
}

#[test]
fn in_a_container_without_rights_no_password_or_token_is_in_what_it_makes() {
    let example = example();
    let out = example.scratch().folder("out").unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
    let all = [arguments(&example, "files", "/out"), example.mirror_arguments(), vec![example.certificate_argument()]];
    let container = example.container().unwrap().mount_writable(&out, "/out").capabilities(Capabilities::None);
    let container = container.option("--user=1000680000:0").option("--security-opt=no-new-privileges");
    let output = container.time_limit(LIMIT).run(all.concat()).unwrap().success().unwrap();
    discreet(&example, &[&output], &[&out]);
}

#[test]
fn on_a_machine_no_secret_is_in_a_layer_a_config_a_log_or_the_cache() {
    for who in [Who::Root, Who::User] {
        let example = example();
        // The folders that it mounts are made with the container.
        drop(example.container().unwrap());
        let person = Person::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), who).unwrap();
        let (out, docker) = (person.folder("out").unwrap(), person.folder(".docker").unwrap());
        fs::write(docker.join("config.json"), example.registry.docker_config(USER, PASSWORD)).unwrap();
        let trusted = person.folder("trusted").unwrap();
        for (number, name) in ["bundle/additional-ca-cert-bundle.crt", "certificates/ca.pem"].iter().enumerate() {
            fs::copy(example.scratch().path().join(name), trusted.join(number.to_string())).unwrap();
        }
        let given = person.home().join("given");
        fs::write(&given, FILE).unwrap();
        person.own(&person.home()).unwrap();
        let build = |dockerfile: &str, more: &[&str]| {
            let mut zuwai = person.zuwai(&person.home());
            zuwai.args(arguments(&example, dockerfile, &out.display().to_string())).args(more);
            zuwai.arg(format!("--secret=id=file,src={}", given.display())).arg(SECRETS[1]);
            zuwai.env("GIVEN", VARIABLE).env("SSL_CERT_DIR", &trusted);
            command::run(&mut zuwai, LIMIT).unwrap()
        };
        let (first, again) = (build("Dockerfile", &[]).success().unwrap(), build("Dockerfile", &[]).success().unwrap());
        assert!(first.out().contains("16\n") && first.out().contains("18\n"), "the secrets were there: {first}");
        let failed = build("fails", &["--single-snapshot"]);
        assert_eq!(failed.code(), 3, "{failed}");
        let cache = person.home().join(".cache");
        discreet(&example, &[&first, &again, &failed], &[&out, &cache]);
    }
}
