//! `cargo xtask bench builds`: whole builds, in an unprivileged container, beside what people use today on the same
//! machine in the same run. Contexts and the registry are in memory where the machine has enough of it, and the files of
//! containers on an ext4 that is: what is compared is work, not a disk.

mod buildah;
mod buildkit;
pub(super) mod cost;
mod floors;
mod idle;
mod picture;
mod report;
mod subject;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use zuwai_lab::base::{self, Base};
use zuwai_lab::meter::Traffic;
use zuwai_lab::registry::Options;
use zuwai_lab::{Executor, Meter, Registry, Scratch, packages};

use self::buildah::Buildah;
use self::buildkit::BuildKit;
use self::cost::Cost;
use self::floors::Floors;
use self::report::{Peer, Row, State};
use self::subject::{SUBJECTS, Subject};
use super::machine;
use super::table::Table;
use crate::cargo;

const BASES: [Base; 4] = [Base::Debian, Base::Fat, Base::Maven, Base::OpenJdk];

pub(crate) fn run(words: &[String]) -> Result<Vec<Table>> {
    let wanted: Vec<&Subject> = match words {
        [] => SUBJECTS.iter().collect(),
        [letters] if letters.chars().all(|letter| SUBJECTS.iter().any(|subject| subject.letter == letter)) => {
            SUBJECTS.iter().filter(|subject| letters.contains(subject.letter)).collect()
        }
        _ => bail!("cargo xtask bench builds takes some of the letters abcdef, and got {words:?}"),
    };
    packages::ensure_all()?;
    packages::ensure(&["buildah", "docker.io"])?;
    let bench = Bench::new()?;
    let floors = Floors::measure(&bench.binary)?;
    eprintln!("{}", floors.table());
    let idle = idle::measure(&bench)?;
    eprintln!("{idle}");
    let mut rows = Vec::new();
    for subject in &wanted {
        eprintln!("xtask: {}) {}", subject.letter, subject.about);
        let more = bench.rows(subject)?;
        for row in &more {
            eprintln!("{}", report::line(row));
        }
        rows.extend(more);
    }
    report::keep(&rows, &floors)?;
    if words.is_empty() {
        picture::keep(&rows)?;
    }
    Ok(vec![
        report::costs(&rows, &floors),
        floors.table(),
        report::processor(&rows),
        report::movements(&rows),
        report::clock(&rows),
        idle,
    ])
}

/// What all rows need.
struct Bench {
    registry: Registry,
    meter: Meter,
    binary: PathBuf,
    measure: PathBuf,
    /// Digests of the tars of all layers of the bases.
    of_bases: Vec<String>,
}

/// What a build makes of memory at most: files, and the disk below them.
const MEMORY: u64 = 12 << 30;

/// What a row may write: the fat base, what it makes of it, and room to spare.
const DISK: u64 = 12 << 30;

/// One build by zuwai.
struct Built {
    cost: Cost,
    traffic: Traffic,
    requests: usize,
    /// Bytes of the layers that the build made.
    layers: Vec<u64>,
    /// Seconds by the clock, as zuwai itself tells them under Kaniko's names.
    clock: BTreeMap<String, f64>,
    /// Seconds of processor by what zuwai worked for, as it tells them; the commands of the Dockerfile are the rest.
    processor: BTreeMap<String, f64>,
}

impl Built {
    /// Seconds of processor that the commands took.
    fn commands(&self) -> f64 {
        self.cost.cpu - self.processor.values().sum::<f64>()
    }
}

impl Bench {
    fn new() -> Result<Self> {
        let binary = cargo::build_binary("zuwai", "zuwai", true)?;
        let measure = cost::measuring_program()?;
        let registry = base::registry_of_its_own(&BASES, &Options::default())?;
        let meter = Meter::start(registry.port())?;
        let mut of_bases = Vec::new();
        for base in BASES {
            of_bases.extend(base.known()?.into_iter().flat_map(|known| known.diff_ids));
        }
        Ok(Self { registry, meter, binary, measure, of_bases })
    }

    /// Where zuwai finds the registry.
    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.meter.port())
    }

    fn rows(&self, subject: &'static Subject) -> Result<Vec<Row>> {
        let scratch = Scratch::new()?;
        let context = scratch.folder("context")?;
        subject.context(&context)?;
        let peer = |cost: Cost, name: &str| self.layers(name).map(|layers| Peer { cost, layers });
        // In turns, so that what else the machine does meets both.
        let (mut own, mut others, mut buildah) = (Vec::new(), Vec::new(), None);
        for number in 0..subject.repeats {
            drop(buildah.take());
            own.push(self.cold(subject, &format!("zuwai-{}:cold-{number}", subject.letter))?);
            let name = format!("buildah-{}:cold-{number}", subject.letter);
            let new = Buildah::new(&self.measure)?;
            others.push(peer(new.build(&context, &self.registry, &name)?, &name)?);
            buildah = Some(new);
        }
        let (own, other) = (cheapest(own, |built| built.cost)?, cheapest(others, |peer| peer.cost)?);
        let buildah = buildah.context("a build is built once at least")?;
        let again = self.again(subject)?;
        let buildkit = BuildKit::new(&self.measure)?;
        let name = format!("buildkit-{}:cold", subject.letter);
        let cold = peer(buildkit.build(&context, &self.registry, &name)?, &name)?;
        let mut rows = vec![Row { subject, state: State::Cold, built: own, buildah: other, buildkit: cold }];
        for (state, built) in again {
            if let (State::Changed, Some(change)) = (state, &subject.change) {
                change.make(&context)?;
            }
            let name = format!("buildah-{}:{}", subject.letter, state.name());
            let buildah = peer(buildah.build(&context, &self.registry, &name)?, &name)?;
            let name = format!("buildkit-{}:{}", subject.letter, state.name());
            let buildkit = peer(buildkit.build(&context, &self.registry, &name)?, &name)?;
            rows.push(Row { subject, state, built, buildah, buildkit });
        }
        Ok(rows)
    }

    /// A build where there is nothing but the bases in the registry.
    fn cold(&self, subject: &Subject, name: &str) -> Result<Built> {
        let scratch = Scratch::new()?;
        let context = scratch.folder("context")?;
        subject.context(&context)?;
        self.build(subject, &context, name, &[])
    }

    /// Two builds in new containers that find in the registry what the same build has left there: of the same, and of what
    /// was changed in one place.
    fn again(&self, subject: &Subject) -> Result<Vec<(State, Built)>> {
        let Some(change) = &subject.change else { return Ok(Vec::new()) };
        let scratch = Scratch::new()?;
        let context = scratch.folder("context")?;
        subject.context(&context)?;
        let cache = format!("--cache-repo={}/zuwai-{}/cache", self.host(), subject.letter);
        let flags = ["--cache=true".to_owned(), "--cache-copy-layers".to_owned(), cache];
        let name = |word: &str| format!("zuwai-{}:{word}", subject.letter);
        self.build(subject, &context, &name("first"), &flags)?;
        let warm = self.build(subject, &context, &name("warm"), &flags)?;
        change.make(&context)?;
        let changed = self.build(subject, &context, &name("changed"), &flags)?;
        Ok(vec![(State::Warm, warm), (State::Changed, changed)])
    }

    /// One build, in an empty container.
    fn build(&self, subject: &Subject, context: &Path, name: &str, flags: &[String]) -> Result<Built> {
        let executor = Executor::on_a_disk(&self.binary, DISK)?;
        let scratch = Scratch::new()?;
        let out = scratch.folder("out")?;
        let host = self.host();
        let arguments = [
            "/out/measured.json".to_owned(),
            "/kaniko/executor".to_owned(),
            "--context=dir:///context".to_owned(),
            "--dockerfile=/context/Dockerfile".to_owned(),
            format!("--destination={host}/{name}"),
            format!("--registry-mirror={host}"),
            format!("--insecure-registry={host}"),
            "--skip-default-registry-fallback".to_owned(),
        ];
        have_memory()?;
        let asked = self.registry.requests().len();
        self.meter.take();
        let container = executor.container().entrypoint("/lab/measure").mount(&self.measure, "/lab/measure");
        let container = container.mount(context, "/context").mount_writable(&out, "/out");
        let container = container.env("BENCHMARK_FILE", "/out/phases.json").time_limit(Duration::from_mins(20));
        container
            .run(arguments.iter().chain(flags))?
            .success()
            .with_context(|| format!("zuwai builds {}", subject.letter))?;
        let (clock, processor) = phases(&out.join("phases.json"))?;
        Ok(Built {
            cost: Cost::read(&out.join("measured.json"))?,
            traffic: self.meter.take(),
            requests: self.registry.requests().len() - asked,
            layers: self.layers(name)?,
            clock,
            processor,
        })
    }

    /// The sizes of the layers of an image that are not its base's, which are known by their tars: who pushes a base may have
    /// compressed it anew.
    fn layers(&self, name: &str) -> Result<Vec<u64>> {
        let (manifest, config) = (self.registry.manifest(name)?, self.registry.config(name)?);
        let layers = manifest["layers"].as_array().context("the manifest lists no layers")?;
        let diff_ids = config["rootfs"]["diff_ids"].as_array().context("the config lists no diff ids")?;
        ensure!(layers.len() == diff_ids.len(), "the image {name} has other layers than its config says");
        let mut sizes = Vec::new();
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            if !self.of_bases.iter().any(|known| diff_id == known) {
                sizes.push(layer["size"].as_u64().context("a layer has no size")?);
            }
        }
        ensure!(!sizes.is_empty(), "the image {name} has no layer of its own");
        Ok(sizes)
    }
}

/// To be done before anything that is measured.
fn have_memory() -> Result<()> {
    machine::have_memory(MEMORY)
}

/// The one that took the least processor time: what is more is somebody else's doing.
fn cheapest<T>(all: Vec<T>, cost: impl Fn(&T) -> Cost) -> Result<T> {
    all.into_iter().min_by(|one, other| cost(one).cpu.total_cmp(&cost(other).cpu)).context("it was not built")
}

/// What zuwai's benchmark file tells, nanoseconds by category: by the clock, and of the processor for zuwai itself.
fn phases(path: &Path) -> Result<(BTreeMap<String, f64>, BTreeMap<String, f64>)> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let value: Value = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    let categories = value.as_object().with_context(|| format!("{} is no table", path.display()))?;
    let (mut clock, mut processor) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in categories {
        let seconds = value.as_f64().with_context(|| format!("{name} is no number"))? / 1e9;
        match name.strip_prefix("Processor: ") {
            // Counted in ticks, where the measure around it is exact.
            Some("commands") => {}
            Some(part) => {
                ensure!(report::PARTS.contains(&part), "the table has no column for the processor's {part}");
                processor.insert(part.to_owned(), seconds);
            }
            None => {
                clock.insert(name.clone(), seconds);
            }
        }
    }
    ensure!(!processor.is_empty(), "{} tells nothing of the processor", path.display());
    Ok((clock, processor))
}
