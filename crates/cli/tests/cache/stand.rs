//! Builds with a cache, each in a new container, and what they made and moved.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use zuwai_lab::base::{Base, mirror};
use zuwai_lab::layout::{Layout, text};
use zuwai_lab::registry::Options;
use zuwai_lab::{Executor, Output, Person, Registry, Scratch, Who, command, tar};

/// Five stages, two of which are read by COPY and one of which another begins with.
pub(crate) const FIVE: &str = "FROM busybox AS tools\n\
    WORKDIR /tools\n\
    RUN echo tool > tool && touch -d @1000000000 tool\n\
    FROM busybox AS dependencies\n\
    ARG VERSION=1.2\n\
    COPY package.json lock.json /app/\n\
    RUN echo installed $VERSION > /app/modules\n\
    FROM dependencies AS compile\n\
    COPY --chmod=0644 src /app/src\n\
    COPY --from=tools /tools/tool /usr/bin/tool\n\
    RUN cat /app/src/main /app/modules > /app/out\n\
    FROM dependencies AS check\n\
    RUN echo checked > /app/report\n\
    FROM busybox\n\
    ENV LEVEL=1\n\
    WORKDIR /srv\n\
    COPY --from=compile /app/out ./\n\
    COPY --from=check /app/report ./\n\
    RUN cat out report > all\n\
    LABEL a=b\n\
    CMD [\"cat\", \"/srv/all\"]\n";

pub(crate) struct Stand {
    pub(crate) mirror: Registry,
    pub(crate) registry: Registry,
    pub(crate) executor: Executor,
    pub(crate) scratch: Scratch,
    pub(crate) context: PathBuf,
}

impl Stand {
    pub(crate) fn new(dockerfile: &str) -> Stand {
        let scratch = Scratch::new().unwrap();
        let context = scratch.folder("context").unwrap();
        fs::create_dir(context.join("src")).unwrap();
        for (name, content) in
            [("Dockerfile", dockerfile), ("package.json", "{}"), ("lock.json", "[]"), ("src/main", "main 1\n")]
        {
            fs::write(context.join(name), content).unwrap();
        }
        Stand {
            mirror: mirror(&[Base::Busybox], &Options::default()).unwrap(),
            registry: Registry::start(&Options::default()).unwrap(),
            executor: Executor::new(Path::new(env!("CARGO_BIN_EXE_zuwai"))).unwrap(),
            scratch,
            context,
        }
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.context.join(name), content).unwrap();
    }

    pub(crate) fn destination(&self, tag: &str) -> String {
        format!("--destination={}/app:{tag}", self.registry.host())
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let (mirror, registry) = (self.mirror.host(), self.registry.host());
        let mut arguments = vec![
            "--dockerfile=Dockerfile".to_owned(),
            "--context=dir:///workspace".to_owned(),
            format!("--registry-mirror={mirror}"),
            format!("--insecure-registry={mirror}"),
            format!("--insecure-registry={registry}"),
            "--skip-default-registry-fallback".to_owned(),
        ];
        arguments.extend(words.iter().map(|&word| word.to_owned()));
        self.run_with(&arguments)
    }

    /// The same by root on this machine, in namespaces.
    pub(crate) fn build_by_hand(&self, tag: &str, words: &[&str]) -> Output {
        let person = Person::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), Who::Root).unwrap();
        let (mirror, registry) = (self.mirror.host(), self.registry.host());
        let mut zuwai = person.zuwai(&self.context);
        zuwai.env("NO_COLOR", "1").args(["--isolation=namespace", "--dockerfile=Dockerfile", "--cache=true"]);
        zuwai.arg(format!("--context=dir://{}", self.context.display())).arg(self.destination(tag));
        zuwai.arg(format!("--registry-mirror={mirror}")).arg("--skip-default-registry-fallback");
        zuwai.args([mirror, registry].map(|host| format!("--insecure-registry={host}"))).args(words);
        command::run(&mut zuwai, Duration::from_mins(2)).unwrap()
    }

    /// Certificates that are trusted.
    pub(crate) fn certificates(&self) -> PathBuf {
        let folder = self.scratch.path().join("cache/certificates");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs it with these words alone.
    pub(crate) fn run_with(&self, arguments: &[String]) -> Output {
        self.certificates();
        let folder = self.scratch.folder("cache").unwrap();
        let container = self.executor.container().mount(&self.context, "/workspace").mount_writable(&folder, "/kept");
        container
            .env("NO_COLOR", "1")
            .env("SSL_CERT_DIR", "/kept/certificates")
            .time_limit(Duration::from_mins(2))
            .run(arguments)
            .unwrap()
    }

    /// Builds and pushes with the cache, and says what was made and what was moved.
    pub(crate) fn build(&self, tag: &str, words: &[&str]) -> Build {
        let (mirror, registry) = (self.mirror.requests().len(), self.registry.requests().len());
        let begin = Instant::now();
        let output = self.run(&[&[self.destination(tag).as_str(), "--cache=true", "--explain-cache"], words].concat());
        let took = begin.elapsed();
        assert!(output.status.success(), "{output}");
        Build {
            output,
            took,
            pulled: self.mirror.requests()[mirror..].to_vec(),
            moved: self.registry.requests()[registry..].to_vec(),
        }
    }

    /// A pushed image, and its manifest.
    pub(crate) fn pulled(&self, tag: &str) -> (Layout, Value) {
        let folder = self.scratch.path().join(format!("pulled-{tag}"));
        let layout = match Layout::open(&folder) {
            Ok(layout) => layout,
            Err(_) => self.registry.pull(&format!("app:{tag}"), &folder).unwrap(),
        };
        let manifest = layout.document(text(&layout.index().unwrap()[0], "digest").unwrap()).unwrap();
        (layout, manifest)
    }

    /// A file of a pushed image, out of the last layer that has it.
    pub(crate) fn file(&self, tag: &str, name: &str) -> String {
        let (layout, manifest) = self.pulled(tag);
        for descriptor in manifest["layers"].as_array().unwrap().iter().rev() {
            let archive = layout.layer(descriptor).unwrap();
            let entries = tar::read(&archive).unwrap();
            if let Some(entry) = entries.iter().find(|entry| entry.name == name.as_bytes()) {
                return String::from_utf8(entry.data.clone()).unwrap();
            }
        }
        panic!("there is no {name} in app:{tag}");
    }

    /// The manifest and the config of a pushed image, without the times at which it was made.
    pub(crate) fn image(&self, tag: &str) -> (Value, Value) {
        let (layout, manifest) = self.pulled(tag);
        let mut config = layout.document(text(&manifest["config"], "digest").unwrap()).unwrap();
        config["created"] = Value::Null;
        for row in config["history"].as_array_mut().unwrap() {
            if row["comment"] == "buildkit.dockerfile.v0" {
                row["created"] = Value::Null;
            }
        }
        (manifest["layers"].clone(), config)
    }
}

pub(crate) struct Build {
    pub(crate) output: Output,
    pub(crate) took: Duration,
    pub(crate) pulled: Vec<String>,
    pub(crate) moved: Vec<String>,
}

impl Build {
    pub(crate) fn lines(&self, start: &str) -> Vec<String> {
        let said = self.output.err();
        said.lines().filter_map(|line| line.split_once("] ")?.1.strip_prefix(start).map(str::to_owned)).collect()
    }

    pub(crate) fn hits(&self) -> Vec<String> {
        self.lines("Using caching version of cmd: ")
    }

    pub(crate) fn misses(&self) -> Vec<String> {
        self.lines("No cached layer found for cmd ")
    }

    /// Blobs that were downloaded, configs of images left out: what is larger than them.
    pub(crate) fn downloads(&self) -> Vec<&String> {
        let get = |line: &&String| line.contains("\"GET ") && line.contains("/blobs/");
        self.pulled.iter().chain(&self.moved).filter(get).collect()
    }

    pub(crate) fn uploads(&self) -> usize {
        self.moved.iter().filter(|line| line.contains("\"PUT ") && line.contains("/blobs/uploads/")).count()
    }

    pub(crate) fn unpacked(&self) -> bool {
        self.output.err().contains("Unpacking rootfs")
    }
}
