//! What whole builds move and make, counted: requests, bytes down and up, entries unpacked, sizes of layers. Seconds are noisy;
//! these are the same everywhere. `testdata/counts.txt` has what each build may have at most, which is what it had when
//! somebody looked; `ZUWAI_BLESS=1` writes down what it has now, and the difference is for a person to judge.
//!
//! The builds are small ones of those that `cargo xtask bench builds` measures.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zuwai_lab::base::{Base, registry_of_its_own};
use zuwai_lab::registry::Options;
use zuwai_lab::{Executor, Meter, Registry, Scratch, places};

/// A build, and what is changed in its context before it is built a third time.
struct Subject {
    name: &'static str,
    dockerfile: &'static str,
    /// The Dockerfile of the third build, where it is not a file of the context that changes: one that not all of them read.
    changed: Option<&'static str>,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        name: "runs",
        dockerfile: "FROM debian:12\nRUN touch /srv/1\nRUN touch /srv/2\nRUN touch /srv/3\nRUN true\nRUN touch /srv/5\n",
        changed: Some(
            "FROM debian:12\nRUN touch /srv/1\nRUN touch /srv/2\nRUN touch /srv/3\nRUN true\nRUN touch /srv/6\n",
        ),
    },
    Subject {
        name: "many",
        dockerfile: "FROM debian:12\nRUN mkdir /many && cd /many && seq 10000 11999 | split --lines=1 --suffix-length=3 - f\n\
                     RUN cd /many && ls | awk 'NR % 2' | xargs rm\n",
        changed: None,
    },
    Subject { name: "copy", dockerfile: "FROM debian:12\nCOPY . /app\n", changed: None },
    Subject {
        name: "stages",
        dockerfile: "FROM debian:12 AS make\nCOPY . /source\nRUN cat /source/* > /made\nFROM busybox\n\
                     COPY --from=make /made /made\nRUN true\n",
        changed: None,
    },
];

const FILES: usize = 300;

struct Stand {
    registry: Registry,
    meter: Meter,
    executor: Executor,
    scratch: Scratch,
}

/// What one build moved and made.
struct Counts {
    requests: usize,
    down: u64,
    up: u64,
    unpacked: u64,
    layers: Vec<u64>,
}

impl Counts {
    /// One line of the table.
    fn line(&self, name: &str) -> String {
        let layers: Vec<_> = self.layers.iter().map(u64::to_string).collect();
        let Counts { requests, down, up, unpacked, .. } = self;
        format!("{name:<16} {requests:>8} {down:>10} {up:>10} {unpacked:>8}  {}", layers.join(" "))
    }

    fn parse(line: &str) -> (String, Counts) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap().to_owned();
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        let requests = usize::try_from(number()).unwrap();
        let (down, up, unpacked) = (number(), number(), number());
        let layers = words.map(|word| word.parse().unwrap()).collect();
        (name, Counts { requests, down, up, unpacked, layers })
    }

    /// What is more than it may be. A time is a few bytes more or less in what is compressed, and in headers; and on a busy machine
    /// what goes on side by side asks once more now and then.
    fn excess(&self, most: &Counts) -> Vec<String> {
        let roughly = |most: u64| most + most / 100 + 1024;
        let mut excess = Vec::new();
        let mut compare = |what: &str, found: u64, most: u64| {
            if found > most {
                excess.push(format!("{what}: {found}, and may be {most}"));
            }
        };
        compare("requests", self.requests as u64, most.requests as u64 + most.requests as u64 / 10);
        compare("bytes down", self.down, roughly(most.down));
        compare("bytes up", self.up, roughly(most.up));
        compare("entries unpacked", self.unpacked, most.unpacked);
        compare("layers", self.layers.len() as u64, most.layers.len() as u64);
        for (number, (found, most)) in self.layers.iter().zip(&most.layers).enumerate() {
            compare(&format!("bytes of layer {number}"), *found, most + most / 100 + 16);
        }
        excess
    }
}

impl Stand {
    fn new() -> Stand {
        let registry = registry_of_its_own(&[Base::Busybox, Base::Debian], &Options::default()).unwrap();
        let meter = Meter::start(registry.port()).unwrap();
        let executor = Executor::new(Path::new(env!("CARGO_BIN_EXE_zuwai"))).unwrap();
        Stand { registry, meter, executor, scratch: Scratch::new().unwrap() }
    }

    /// Builds it three times: cold, with everything in the cache, and after one change.
    fn build(&self, subject: &Subject) -> Vec<(String, Counts)> {
        let context = self.scratch.folder(subject.name).unwrap();
        fs::write(context.join("Dockerfile"), subject.dockerfile).unwrap();
        for number in 0..FILES {
            // Not to be compressed to nothing, and the same every time.
            let text = (0..40).fold(String::new(), |mut text, line| {
                let _ = writeln!(text, "{:x}", (number * 7919 + line) * 104_729);
                text
            });
            fs::write(context.join(format!("file-{number}")), text).unwrap();
        }
        let cold = self.once(subject, &context, "cold");
        let warm = self.once(subject, &context, "warm");
        match subject.changed {
            Some(text) => fs::write(context.join("Dockerfile"), text).unwrap(),
            None => fs::write(context.join("file-7"), "changed\n").unwrap(),
        }
        vec![cold, warm, self.once(subject, &context, "changed")]
    }

    fn once(&self, subject: &Subject, context: &Path, state: &str) -> (String, Counts) {
        let host = format!("127.0.0.1:{}", self.meter.port());
        let name = format!("{}:{state}", subject.name);
        let arguments = [
            "--context=dir:///workspace".to_owned(),
            "--dockerfile=Dockerfile".to_owned(),
            format!("--destination={host}/{name}"),
            format!("--cache-repo={host}/{}/cache", subject.name),
            "--cache=true".to_owned(),
            "--cache-copy-layers".to_owned(),
            format!("--registry-mirror={host}"),
            format!("--insecure-registry={host}"),
            "--skip-default-registry-fallback".to_owned(),
        ];
        let requests = self.registry.requests().len();
        self.meter.take();
        let container = self.executor.container().mount(context, "/workspace").time_limit(Duration::from_mins(2));
        let output = container.env("NO_COLOR", "1").run(arguments).unwrap().success().unwrap();
        let traffic = self.meter.take();
        let said = output.err();
        let unpacked =
            said.lines().filter_map(|line| line.split_once("] Unpacked ")?.1.split(' ').next()?.parse::<u64>().ok());
        let manifest = self.registry.manifest(&name).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter().skip(1).map(|layer| layer["size"].as_u64().unwrap());
        let counts = Counts {
            requests: self.registry.requests().len() - requests,
            down: traffic.down,
            up: traffic.up,
            unpacked: unpacked.sum(),
            layers: layers.collect(),
        };
        (format!("{}-{state}", subject.name), counts)
    }
}

fn table() -> PathBuf {
    places::testdata().join("counts.txt")
}

#[test]
fn builds_ask_move_unpack_and_make_no_more_than_they_did() {
    let stand = Stand::new();
    let found: Vec<_> = SUBJECTS.iter().flat_map(|subject| stand.build(subject)).collect();
    let mut text = String::from(
        "# what whole builds move and make, at most: crates/cli/tests/counts.rs\n\
         # build          requests       down         up unpacked  layers of its own\n",
    );
    for (name, counts) in &found {
        writeln!(text, "{}", counts.line(name)).unwrap();
    }
    println!("{text}");
    if std::env::var_os("ZUWAI_BLESS").is_some_and(|value| value == "1") {
        fs::write(table(), text).unwrap();
        return;
    }
    let written = fs::read_to_string(table()).unwrap();
    let most: Vec<_> = written.lines().filter(|line| !line.starts_with('#')).map(Counts::parse).collect();
    assert_eq!(most.len(), found.len(), "{} has other builds", table().display());
    let mut excess = Vec::new();
    for ((name, counts), (known, most)) in found.iter().zip(&most) {
        assert_eq!(name, known);
        excess.extend(counts.excess(most).into_iter().map(|text| format!("{name}: {text}")));
    }
    assert!(excess.is_empty(), "{}", excess.join("\n"));
    for (name, counts) in found.iter().filter(|(name, _)| name.ends_with("-warm")) {
        assert_eq!(counts.unpacked, 0, "{name}");
        assert!(counts.down < 100_000, "{name}: a layer was downloaded: {} bytes", counts.down);
    }
}
