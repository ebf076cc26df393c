//! `cargo xtask bench caching`: what the cache of layers saves. Two examples are built again and again, each time in a new
//! container that finds nothing but the registry: with nothing kept, with everything kept, and after a change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use zuwai_lab::base::{self, Base};
use zuwai_lab::registry::Options;
use zuwai_lab::{Executor, Meter, Registry, Scratch, command, packages, places};

use super::table::{Table, seconds};
use crate::cargo;

/// Dependencies that change seldom, sources that change often.
const NODE: &str = "FROM busybox AS dependencies\n\
    WORKDIR /app\n\
    COPY package.json package-lock.json ./\n\
    RUN mkdir node_modules && cd node_modules && \
    for p in $(seq 200); do mkdir $p; for f in $(seq 30); do cat ../package-lock.json > $p/$f.js; done; done; \
    head -c 30000000 /dev/urandom > binary\n\
    FROM dependencies AS bundle\n\
    COPY src src\n\
    RUN cat src/* node_modules/1/1.js > bundle.js\n\
    FROM busybox\n\
    WORKDIR /app\n\
    COPY --from=dependencies /app/node_modules node_modules\n\
    COPY --from=bundle /app/bundle.js ./\n\
    CMD [\"cat\", \"/app/bundle.js\"]\n";

/// What is built, and what is changed in it.
struct Example {
    name: &'static str,
    bases: &'static [Base],
    write: fn(&Path) -> Result<()>,
    /// A file, and what is put behind its end.
    source: (&'static str, &'static str),
    dependency: (&'static str, &'static str),
}

const EXAMPLES: [Example; 2] = [
    Example {
        name: "maven",
        bases: &[Base::Maven, Base::OpenJdk],
        write: maven,
        source: ("src/main/resources/changed", "changed\n"),
        dependency: ("pom.xml", "<!-- changed -->\n"),
    },
    Example {
        name: "node-like",
        bases: &[Base::Busybox],
        write: node,
        source: ("src/main.js", "// changed\n"),
        dependency: ("package-lock.json", "// changed\n"),
    },
];

pub(crate) fn run(words: &[String]) -> Result<Vec<Table>> {
    let unknown = words.iter().find(|word| EXAMPLES.iter().all(|example| example.name != **word));
    ensure!(unknown.is_none(), "cargo xtask bench caching takes names of examples, and got {unknown:?}");
    packages::ensure_all()?;
    let binary = cargo::build_binary("zuwai", "zuwai", true)?;
    let executor = Executor::new(&binary)?;
    let mut table = Table::new(&["example", "with the cache", "down", "up", "without", "down", "up"]);
    let rows = places::repository().join("target/bench-caching");
    fs::create_dir_all(&rows).context("make a folder for what was measured")?;
    for example in &EXAMPLES {
        let path = rows.join(example.name);
        if !words.is_empty() && words.iter().all(|word| word != example.name) {
            // What was measured last.
            let text = fs::read_to_string(&path).unwrap_or_default();
            table.rows.extend(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()));
            continue;
        }
        let first = table.rows.len();
        let bench = Bench::new(example, &executor)?;
        let change = |(file, text): (&str, &str)| -> Result<()> {
            let path = bench.context.join(file);
            let before = fs::read(&path).unwrap_or_default();
            let after = [before.as_slice(), text.as_bytes()].concat();
            fs::write(&path, after).with_context(|| format!("write {}", path.display()))
        };
        let mut row = |what: &str| -> Result<()> {
            let (with, without) = (bench.build(true)?, bench.build(false)?);
            eprintln!("xtask: {}, {what}: {} and {}", example.name, seconds(with.seconds), seconds(without.seconds));
            let cells = [with, without].map(|built| [seconds(built.seconds), bytes(built.down), bytes(built.up)]);
            table.rows.push([vec![format!("{}, {what}", example.name)], cells.concat()].concat());
            Ok(())
        };
        row("nothing kept")?;
        row("nothing changed")?;
        change(example.source)?;
        row("a source changed")?;
        change(example.dependency)?;
        row("a dependency changed")?;
        let lines: Vec<String> = table.rows[first..].iter().map(|row| row.join("\t")).collect();
        fs::write(&path, lines.join("\n")).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(vec![table])
}

struct Bench<'a> {
    registry: Registry,
    meter: Meter,
    executor: &'a Executor,
    context: PathBuf,
    _scratch: Scratch,
}

struct Built {
    seconds: f64,
    down: u64,
    up: u64,
}

impl<'a> Bench<'a> {
    fn new(example: &Example, executor: &'a Executor) -> Result<Self> {
        let scratch = Scratch::new()?;
        let context = scratch.folder("context")?;
        (example.write)(&context)?;
        let registry = base::registry_of_its_own(example.bases, &Options::default())?;
        let meter = Meter::start(registry.port())?;
        Ok(Self { registry, meter, executor, context, _scratch: scratch })
    }

    /// One build in a new container. Without the cache the image goes to a repository that has nothing yet.
    fn build(&self, cached: bool) -> Result<Built> {
        let host = format!("127.0.0.1:{}", self.meter.port());
        let number = self.registry.requests().len();
        let name = if cached { "app:latest".to_owned() } else { format!("plain-{number}:latest") };
        let arguments = [
            "--context=dir:///context".to_owned(),
            "--dockerfile=/context/Dockerfile".to_owned(),
            format!("--destination={host}/{name}"),
            format!("--cache={cached}"),
            format!("--registry-mirror={host}"),
            format!("--insecure-registry={host}"),
            "--skip-default-registry-fallback".to_owned(),
        ];
        self.meter.take();
        let container = self.executor.container().mount(&self.context, "/context");
        let begin = Instant::now();
        container
            .time_limit(Duration::from_mins(20))
            .run(arguments)?
            .success()
            .with_context(|| format!("build {name}"))?;
        let seconds = begin.elapsed().as_secs_f64();
        let traffic = self.meter.take();
        Ok(Built { seconds, down: traffic.down, up: traffic.up })
    }
}

fn maven(context: &Path) -> Result<()> {
    let from = places::testdata().join("maven");
    command::must(Command::new("cp").arg("-a").arg(from.join(".")).arg(context)).context("copy the example").map(drop)
}

fn node(context: &Path) -> Result<()> {
    fs::create_dir(context.join("src")).context("make src")?;
    for (name, text) in [
        ("Dockerfile", NODE),
        ("package.json", "{}\n"),
        ("package-lock.json", "{\"lockfileVersion\": 3}\n"),
        ("src/main.js", "console.log(1)\n"),
    ] {
        fs::write(context.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

/// A size with three digits, in units of a thousand.
fn bytes(size: u64) -> String {
    match size {
        0..1_000_000 => format!("{} kB", size / 1_000),
        1_000_000..10_000_000 => format!("{}.{} MB", size / 1_000_000, size / 100_000 % 10),
        _ => format!("{} MB", size / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_short() {
        assert_eq!([12_345, 1_234_567, 123_456_789].map(super::bytes), ["12 kB", "1.2 MB", "123 MB"]);
    }
}
