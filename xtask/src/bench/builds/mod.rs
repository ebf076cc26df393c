//! `cargo xtask bench builds`: whole builds, cold, in an unprivileged container, beside what people use today on the same
//! machine in the same run. Contexts, containers' files and the registry are in memory where the machine has enough of it:
//! what is compared is work, not a disk.

pub(super) mod cost;
mod peers;
mod report;
mod subject;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use zuwai_lab::base::{self, Base};
use zuwai_lab::layout::text;
use zuwai_lab::meter::Traffic;
use zuwai_lab::registry::Options;
use zuwai_lab::{Executor, Meter, Registry, Scratch, packages};

use self::cost::Cost;
use self::peers::Buildah;
use self::report::Row;
use self::subject::{SUBJECTS, Subject};
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
    packages::ensure(&["buildah"])?;
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    for subject in &wanted {
        eprintln!("xtask: {}) {}", subject.letter, subject.about);
        rows.push(bench.row(subject)?);
        eprintln!("{}", report::line(rows.last().expect("one was pushed")));
    }
    report::keep(&rows)?;
    Ok(vec![report::costs(&rows), report::movements(&rows), report::phases(&rows)])
}

/// What all rows need.
struct Bench {
    registry: Registry,
    meter: Meter,
    executor: Executor,
    measure: PathBuf,
}

/// One build by zuwai.
struct Built {
    cost: Cost,
    traffic: Traffic,
    requests: usize,
    /// Bytes of the layers that the build made.
    layers: Vec<u64>,
    /// Seconds by phase, as zuwai itself tells them.
    phases: BTreeMap<String, f64>,
}

impl Bench {
    fn new() -> Result<Self> {
        let binary = cargo::build_binary("zuwai", "zuwai", true)?;
        let measure = cost::measuring_program()?;
        let registry = base::registry_of_its_own(&BASES, &Options::default())?;
        let meter = Meter::start(registry.port())?;
        Ok(Self { executor: Executor::new(&binary)?, registry, meter, measure })
    }

    fn row(&self, subject: &'static Subject) -> Result<Row> {
        let mut runs = Vec::new();
        for number in 0..subject.repeats {
            runs.push(self.zuwai(subject, &format!("zuwai-{}:{number}", subject.letter))?);
        }
        runs.sort_by(|one, other| one.cost.cpu.total_cmp(&other.cost.cpu));
        let built = runs.swap_remove(runs.len() / 2);
        let scratch = Scratch::new()?;
        let context = scratch.folder("context")?;
        subject.context(&context)?;
        let buildah = Buildah::new(&self.measure)?;
        let name = format!("buildah-{}:1", subject.letter);
        let cost = buildah.build(&context, &self.registry, &name)?;
        let layers = self.layers(&name)?;
        Ok(Row { subject, built, buildah: cost, buildah_layers: layers })
    }

    /// One cold build: an empty container, nothing in the registry but the bases.
    fn zuwai(&self, subject: &Subject, name: &str) -> Result<Built> {
        let scratch = Scratch::new()?;
        let context = scratch.folder("context")?;
        let out = scratch.folder("out")?;
        subject.context(&context)?;
        let host = format!("127.0.0.1:{}", self.meter.port());
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
        let asked = self.registry.requests().len();
        self.meter.take();
        let container = self.executor.container().entrypoint("/lab/measure").mount(&self.measure, "/lab/measure");
        let container = container.mount(&context, "/context").mount_writable(&out, "/out");
        let container = container.env("BENCHMARK_FILE", "/out/phases.json").time_limit(Duration::from_mins(20));
        container.run(arguments)?.success().with_context(|| format!("zuwai builds {}", subject.letter))?;
        Ok(Built {
            cost: Cost::read(&out.join("measured.json"))?,
            traffic: self.meter.take(),
            requests: self.registry.requests().len() - asked,
            layers: self.layers(name)?,
            phases: phases(&out.join("phases.json"))?,
        })
    }

    /// The sizes of the layers of an image that are not its base's.
    fn layers(&self, name: &str) -> Result<Vec<u64>> {
        let manifest = self.registry.manifest(name)?;
        let mut sizes = Vec::new();
        for layer in manifest["layers"].as_array().context("the manifest lists no layers")? {
            if !is_of_a_base(text(layer, "digest")?)? {
                sizes.push(layer["size"].as_u64().context("a layer has no size")?);
            }
        }
        ensure!(!sizes.is_empty(), "the image {name} has no layer of its own");
        Ok(sizes)
    }
}

fn is_of_a_base(digest: &str) -> Result<bool> {
    for base in BASES {
        if base.layout()?.blob_path(digest)?.exists() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Kaniko's benchmark file: nanoseconds by category.
fn phases(path: &Path) -> Result<BTreeMap<String, f64>> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let value: Value = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    let categories = value.as_object().with_context(|| format!("{} is no table", path.display()))?;
    let seconds = |value: &Value| value.as_f64().unwrap_or_default() / 1e9;
    Ok(categories.iter().map(|(name, value)| (name.clone(), seconds(value))).collect())
}
