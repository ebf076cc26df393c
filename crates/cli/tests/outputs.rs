//! What a build leaves besides its layers, as people's scripts read it, and how it leaves it.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use zuwai_lab::base::{Base, mirror};
use zuwai_lab::command::{self, must};
use zuwai_lab::layout::{Layout, text};
use zuwai_lab::oracle::Dockerd;
use zuwai_lab::registry::Options;
use zuwai_lab::{Output, Person, Registry, Scratch, Who, tar};

const LIMIT: Duration = Duration::from_mins(2);

/// Somebody who builds on this machine, a registry in the clear, and the base images.
struct Bench {
    person: Person,
    registry: Registry,
    mirror: Registry,
}

impl Bench {
    fn new() -> Self {
        let person = Person::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), Who::Root).unwrap();
        let mirror = mirror(&[Base::Busybox], &Options::default()).unwrap();
        Self { person, registry: Registry::start(&Options::default()).unwrap(), mirror }
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }

    fn context(&self) -> PathBuf {
        self.person.home().join("context")
    }

    /// `zuwai build` of a Dockerfile.
    fn zuwai(&self, dockerfile: &str, words: &[&str]) -> Command {
        let folder = self.person.folder("context").unwrap();
        fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        let mut zuwai = self.person.zuwai(&folder);
        let mirror = self.mirror.host();
        zuwai.args(["build", "--skip-default-registry-fallback"]).arg(format!("--registry-mirror={mirror}"));
        zuwai.args([&mirror, &self.registry.host()].map(|host| format!("--insecure-registry={host}")));
        zuwai.args(words).arg(".");
        zuwai
    }

    fn build(&self, dockerfile: &str, words: &[&str]) -> Output {
        command::run(&mut self.zuwai(dockerfile, words), LIMIT).unwrap()
    }

    /// What a shell script of a user's says, in the folder of the context.
    fn script(&self, text: &str) -> String {
        must(Command::new("sh").args(["-euc", text]).current_dir(self.context())).unwrap()
    }
}

const DOCKERFILE: &str = "FROM scratch\nCOPY Dockerfile /\n";

#[test]
fn the_digest_and_the_names_are_written_as_scripts_read_them() {
    let bench = Bench::new();
    let (one, two) = (bench.name("team/app:1.0"), bench.name("other"));
    let folder = bench.person.folder("context").unwrap();
    fs::write(
        folder.join("termination-log"),
        "what was there before, which is longer than a digest is by far, and more",
    )
    .unwrap();
    let before = fs::metadata(folder.join("termination-log")).unwrap().ino();
    fs::create_dir(folder.join("builder")).unwrap();
    let files = [
        "--digest-file=termination-log",
        "--image-name-with-digest-file=deep/er/names",
        "--image-name-tag-with-digest-file=tags",
    ];
    let mut zuwai = bench.zuwai(DOCKERFILE, &[&["-d", &one, "-d", &two], &files[..]].concat());
    command::run(zuwai.env("BUILDER_OUTPUT", folder.join("builder")), LIMIT).unwrap().success().unwrap();

    let digest = bench.registry.storage().tag("team/app", "1.0").unwrap();
    assert_eq!(bench.registry.storage().tag("other", "latest").as_ref(), Some(&digest));
    // Tekton and Skaffold take the file as it is.
    assert_eq!(fs::read_to_string(folder.join("termination-log")).unwrap(), digest);
    assert_eq!(fs::metadata(folder.join("termination-log")).unwrap().ino(), before, "it is the same file");
    let host = bench.registry.host();
    let names = format!("{host}/team/app@{digest}\n{host}/other@{digest}\n");
    assert_eq!(fs::read_to_string(folder.join("deep/er/names")).unwrap(), names);
    let tags = format!("{host}/team/app:1.0@{digest}\n{host}/other:latest@{digest}\n");
    assert_eq!(fs::read_to_string(folder.join("tags")).unwrap(), tags);
    assert_eq!(fs::metadata(folder.join("deep")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(
        bench.script("head -1 tags | cut -d@ -f2 | tr -d '\\n'; IFS=@ read -r name digest < tags; echo \" $name\""),
        { format!("{digest} {host}/team/app:1.0\n") }
    );
    let pulled = "skopeo inspect --tls-verify=false --format '{{.Digest}}' docker://$(head -1 deep/er/names)";
    assert_eq!(bench.script(pulled).trim(), digest);
    // Cloud Build reads a line for each image.
    let lines = fs::read_to_string(folder.join("builder/images")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |name: &str| json!({"name": name, "digest": digest});
    assert_eq!(lines, [line(&one), line(&two)]);
}

#[test]
fn the_digest_is_there_without_a_push_and_before_one_that_fails() {
    let bench = Bench::new();
    let folder = bench.person.folder("context").unwrap();
    let words = [
        "--no-push",
        "-d",
        "registry.invalid/app:1",
        "--digest-file=/dev/stdout",
        "--image-name-with-digest-file=names",
    ];
    let mut zuwai = bench.zuwai(DOCKERFILE, &words);
    let output = command::run(zuwai.env("BUILDER_OUTPUT", &folder), LIMIT).unwrap().success().unwrap();
    let digest = output.out();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{output}");
    assert_eq!(fs::read_to_string(folder.join("names")).unwrap(), format!("registry.invalid/app@{digest}\n"));
    assert!(!folder.join("images").exists(), "nothing was pushed");

    let words = ["-d", "registry.invalid/app:1", "--skip-push-permission-check", "--digest-file=digest"];
    let mut zuwai = bench.zuwai(DOCKERFILE, &words);
    let output = command::run(zuwai.env("BUILDER_OUTPUT", &folder), LIMIT).unwrap();
    assert_eq!(output.code(), 1, "{output}");
    assert!(output.err().contains("error pushing image"), "{output}");
    assert!(fs::read_to_string(folder.join("digest")).unwrap().starts_with("sha256:"));
    assert!(!folder.join("images").exists());

    fs::remove_file(folder.join("digest")).unwrap();
    let output = bench.build("FROM scratch\nCOPY nothing /\n", &["-d", &bench.name("app:1"), "--digest-file=digest"]);
    assert_eq!(output.code(), 1, "{output}");
    assert!(!folder.join("digest").exists(), "there is no image");
}

#[test]
fn what_a_build_spent_its_time_and_the_processor_on_is_told() {
    let bench = Bench::new();
    let folder = bench.person.folder("context").unwrap();
    let mut zuwai = bench.zuwai(DOCKERFILE, &["-d", &bench.name("app:1")]);
    command::run(zuwai.env("BENCHMARK_FILE", folder.join("times")), LIMIT).unwrap().success().unwrap();
    let table: Value = serde_json::from_slice(&fs::read(folder.join("times")).unwrap()).unwrap();
    let nanoseconds = |name: &str| table[name].as_u64().unwrap_or_else(|| panic!("{name} is not in {table}"));
    assert!(nanoseconds("Command: COPY") <= nanoseconds("Total Build Time"), "{table}");
    for part in ["copy", "look", "pack", "compress", "transfer", "push", "other"] {
        assert!(nanoseconds(&format!("Processor: {part}")) > 0, "{part}: {table}");
    }
    // There is no base, no command, and no cache that asks for keys.
    for part in ["inflate", "unpack", "pull", "hash"] {
        assert_eq!(nanoseconds(&format!("Processor: {part}")), 0, "{part}: {table}");
    }
    assert!(nanoseconds("Processor: commands") < 1_000_000_000, "{table}");
}

#[test]
fn the_time_of_the_image_is_that_of_a_build_argument_else_of_the_dockerfile_else_now() {
    let bench = Bench::new();
    let dockerfile = format!("ARG SOURCE_DATE_EPOCH=1000000000\n{DOCKERFILE}LABEL a=b\n");
    let created = |dockerfile: &str, words: &[&str], variable: Option<&str>| {
        let mut zuwai = bench.zuwai(dockerfile, &[&["-t", "app:1", "--oci-layout-path=layout"], words].concat());
        variable.map(|value| zuwai.env("SOURCE_DATE_EPOCH", value));
        command::run(&mut zuwai, LIMIT).unwrap().success().unwrap();
        let layout = Layout::open(&bench.context().join("layout")).unwrap();
        let manifest = layout.document(text(&layout.index().unwrap()[0], "digest").unwrap()).unwrap();
        let config = layout.document(text(&manifest["config"], "digest").unwrap()).unwrap();
        let rows = config["history"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["created"] == config["created"]), "{config}");
        let times = tar::read(&layout.layer(&manifest["layers"][0]).unwrap()).unwrap();
        (text(&config, "created").unwrap().to_owned(), times[0].mtime)
    };
    let dockerfiles = "2001-09-09T01:46:40Z";
    assert_eq!(created(&dockerfile, &[], None).0, dockerfiles);
    let (time, mtime) = created(&dockerfile, &["--reproducible"], None);
    assert_eq!((time.as_str(), mtime), (dockerfiles, 1_000_000_000));
    let given = ["--build-arg=SOURCE_DATE_EPOCH=7"];
    assert_eq!(created(&dockerfile, &given, Some("5")).0, "1970-01-01T00:00:07Z");
    assert_eq!(created(&dockerfile, &[], Some("5")).0, "1970-01-01T00:00:05Z");
    assert_eq!(created(DOCKERFILE, &[], Some("-5")).0, "1969-12-31T23:59:55Z");
    let (time, mtime) = created(DOCKERFILE, &["--reproducible"], None);
    assert_eq!((time.as_str(), mtime), ("1970-01-01T00:00:00Z", 0));
    // Nothing that is said is nothing said.
    assert!(created(DOCKERFILE, &["--build-arg=SOURCE_DATE_EPOCH="], None).0.as_str() > "2020");
    let words = ["-t", "app:1", "--no-push", "--build-arg=SOURCE_DATE_EPOCH=1700000000000"];
    let output = command::run(&mut bench.zuwai(DOCKERFILE, &words), LIMIT).unwrap();
    assert_eq!(output.code(), 1, "{output}");
    assert!(output.err().contains("\"1700000000000\" is no number of seconds since 1970"), "milliseconds: {output}");
}

#[test]
fn a_file_of_very_many_stages_each_on_the_one_before_is_built() {
    let bench = Bench::new();
    let stages: Vec<String> = (1..20_000).map(|number| format!("FROM s{} AS s{number}", number - 1)).collect();
    let dockerfile =
        format!("FROM scratch AS s0\nLABEL first=1\n{}\nCOPY --from=s7 / /\nLABEL last=1\n", stages.join("\n"));
    let words = ["-t", "app:1", "--oci-layout-path=layout", "--verbosity=error"];
    bench.build(&dockerfile, &words).success().unwrap();
}

#[test]
fn a_layer_is_uploaded_as_soon_as_it_is_packed() {
    let bench = Bench::new();
    // The image is never pushed, for it is never finished: what is at the registry came while the build went on.
    let words = ["-d", &bench.name("app:1")];
    let output = bench.build("FROM busybox\nCOPY Dockerfile /\nRUN sleep 3; exit 7\n", &words);
    assert_eq!(output.code(), 7, "{output}");
    let requests = bench.registry.requests();
    let count = |begin: &str| requests.iter().filter(|line| line.contains(begin)).count();
    assert_eq!(count("\"PUT /v2/app/blobs/uploads/"), 1, "{requests:#?}");
    assert_eq!(count("\"PUT /v2/app/manifests/"), 0, "{requests:#?}");
}

/// Whose media types a document, and all that it names, has.
fn families(manifest: &Value) -> BTreeSet<&str> {
    let layers = manifest["layers"].as_array().unwrap();
    let types = layers.iter().chain([manifest, &manifest["config"]]).map(|named| text(named, "mediaType").unwrap());
    types.map(|name| if name.contains("vnd.oci.") { "oci" } else { "docker" }).collect()
}

#[test]
fn media_types_of_docker_and_oci_are_never_mixed_and_the_bases_layers_stay() {
    let bench = Bench::new();
    let scratch = Scratch::new().unwrap();
    let host = bench.registry.host();
    let made_before = format!("{host}/app:docker");
    for (from, words, tag, family) in [
        ("busybox", &["--image-format=docker"][..], "docker", "docker"),
        ("busybox", &[], "oci", "oci"),
        (&made_before, &[], "docker-again", "docker"),
        (&made_before, &["--image-format=oci"], "docker-to-oci", "oci"),
        (&made_before, &["--compression=zstd"], "docker-to-zstd", "oci"),
        (&made_before, &["--annotation=a=b"], "docker-annotated", "oci"),
    ] {
        let destination = format!("--destination={host}/app:{tag}");
        let words = [words, &[destination.as_str()]].concat();
        bench.build(&format!("FROM {from}\nCOPY Dockerfile /{tag}\n"), &words).success().unwrap();
        let manifest = bench.registry.manifest(&format!("app:{tag}")).unwrap();
        assert_eq!(families(&manifest), BTreeSet::from([family]), "{tag}: {manifest}");
        if from == made_before {
            let base = bench.registry.manifest("app:docker").unwrap();
            for layer in 0..2 {
                assert_eq!(manifest["layers"][layer]["digest"], base["layers"][layer]["digest"], "{tag}");
            }
        }
        // Whoever else reads it finds every blob to be what it is called.
        bench.registry.pull(&format!("app:{tag}"), &scratch.path().join(tag)).unwrap();
    }
}

#[test]
fn dockers_daemon_loads_an_archive_and_runs_what_is_in_it() {
    let bench = Bench::new();
    let words = ["-d", "example.com/team/app:1", "--no-push", "--tar-path=image.tar"];
    let dockerfile =
        "FROM busybox\nCOPY Dockerfile /said\nENV WHO=docker\nCMD [\"sh\", \"-c\", \"head -n1 /said; echo $WHO\"]\n";
    bench.build(dockerfile, &words).success().unwrap();
    bench.script("gzip -k image.tar");
    for archive in ["image.tar", "image.tar.gz"] {
        let daemon = Dockerd::start(&bench.mirror).unwrap();
        let said = daemon.load_and_run(&bench.context().join(archive), "example.com/team/app:1").unwrap();
        assert_eq!(said, "FROM busybox\ndocker\n", "{archive}");
    }
}
