//! Somebody at a machine of their own, with base images in reach: what the tests of `namespace` begin with.

#![allow(dead_code)] // Each of the tests uses some of it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use zuwai_lab::base::{Base, mirror};
use zuwai_lab::registry::Options;
use zuwai_lab::{Output, Person, Registry, Who, command};

pub(crate) const LIMIT: Duration = Duration::from_mins(2);

pub(crate) struct Laptop {
    pub(crate) person: Person,
    pub(crate) mirror: Registry,
}

impl Laptop {
    pub(crate) fn new(who: Who) -> Self {
        Self::with(who, mirror(&[Base::Busybox], &Options::default()).unwrap())
    }

    pub(crate) fn with(who: Who, mirror: Registry) -> Self {
        Self { person: Person::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), who).unwrap(), mirror }
    }

    /// `zuwai build` of a Dockerfile in the person's home.
    pub(crate) fn zuwai(&self, dockerfile: &str) -> Command {
        let folder = self.person.folder("context").unwrap();
        fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        self.person.own(&folder).unwrap();
        let mut zuwai = self.person.zuwai(&folder);
        self.flags(&mut zuwai);
        zuwai
    }

    /// What every build is told.
    pub(crate) fn flags(&self, zuwai: &mut Command) {
        let mirror = self.mirror.host();
        zuwai.args(["build", "-t", "app:1", "--tar-path", "app.tar"]);
        zuwai.args([format!("--registry-mirror={mirror}"), format!("--insecure-registry={mirror}")]);
        zuwai.args(["--skip-default-registry-fallback", "."]);
    }

    pub(crate) fn build(&self, dockerfile: &str) -> Output {
        command::run(&mut self.zuwai(dockerfile), LIMIT).unwrap()
    }

    /// What the commands of a build print.
    pub(crate) fn printed(&self, dockerfile: &str) -> String {
        self.build(dockerfile).success().unwrap().out()
    }
}

pub(crate) fn both() -> [Laptop; 2] {
    [Laptop::new(Who::Root), Laptop::new(Who::User)]
}

/// Asks a build to stop, which has to be seen to within five seconds.
pub(crate) fn stop(child: &mut Child) {
    let begin = Instant::now();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
}

/// Whether a process runs that has this word among its arguments.
pub(crate) fn runs(word: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|other| other == word.as_bytes())
    })
}

/// Every file below a folder that holds one of these words, unpacked where it is compressed.
pub(crate) fn holders(folder: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(facts) = path.symlink_metadata() else { continue };
        if facts.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
            continue;
        }
        if !facts.is_file() {
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes = command::run(Command::new("gzip").arg("-dc").arg(&path), LIMIT).unwrap().stdout;
        }
        let holds = |word: &&&str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
        found.extend(words.iter().filter(holds).map(|word| format!("{word} in {}", path.display())));
    }
    found
}

/// The layers of an image in a layout, as its manifest names them.
pub(crate) fn layers(layout: &Path) -> serde_json::Value {
    let layout = zuwai_lab::layout::Layout::open(layout).unwrap();
    layout.document(layout.index().unwrap()[0]["digest"].as_str().unwrap()).unwrap()["layers"].clone()
}
