//! `cargo xtask bench registry`: an image of 1 GB in 20 layers to Debian's docker-registry and back, beside `skopeo copy` in the
//! same run. The layout, the registry and what is pulled lie in memory where there is enough of it, and the registry listens
//! on loopback: what is compared is work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zuwai_lab::command::{must, run as run_program};
use zuwai_lab::registry::Options;
use zuwai_lab::{Registry, Scratch, packages};

use super::builds::cost::{Cost, measuring_program};
use super::table::Table;
use crate::cargo;

const LAYERS: &str = "20";
const MEBIBYTES: &str = "50";
/// The fastest of these counts, the two programs taking turns.
const ROUNDS: usize = 3;
/// An upload for each layer and the config.
const BLOBS: usize = 21;

/// A program that moves images.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mover {
    Zuwai,
    Skopeo,
}

/// What moving cost, and how many requests the registry had.
#[derive(Clone, Copy)]
struct Moved {
    cost: Cost,
    requests: usize,
}

struct Bench {
    scratch: Scratch,
    measure: PathBuf,
    transfer: PathBuf,
    layout: PathBuf,
}

pub(crate) fn run(_: &[String]) -> Result<Vec<Table>> {
    packages::ensure(&["skopeo", "docker-registry"])?;
    let bench = Bench::new()?;
    let mut best: [[Option<Moved>; 3]; 2] = [[None; 3]; 2];
    for _ in 0..ROUNDS {
        for (mover, best) in [Mover::Zuwai, Mover::Skopeo].into_iter().zip(&mut best) {
            for (found, best) in bench.round(mover)?.into_iter().zip(best) {
                if best.is_none_or(|best| found.cost.wall < best.cost.wall) {
                    *best = Some(found);
                }
            }
        }
    }
    let mut table =
        Table::new(&["1 GB, 20 layers", "zuwai", "skopeo copy", "ratio", "peak", "skopeo's", "requests", "skopeo's"]);
    for (row, name) in ["push", "push of what is there", "pull"].into_iter().enumerate() {
        let [zuwai, skopeo] = best.map(|best| best[row].expect("every round has every row"));
        table.rows.push(vec![
            name.to_owned(),
            format!("{:.2} s", zuwai.cost.wall),
            format!("{:.2} s", skopeo.cost.wall),
            format!("{:.2}", zuwai.cost.wall / skopeo.cost.wall),
            format!("{} MiB", zuwai.cost.peak >> 20),
            format!("{} MiB", skopeo.cost.peak >> 20),
            zuwai.requests.to_string(),
            skopeo.requests.to_string(),
        ]);
    }
    Ok(vec![table])
}

impl Bench {
    fn new() -> Result<Bench> {
        let scratch = Scratch::new()?;
        let transfer = cargo::build_example("zuwai-registry", "transfer")?;
        let layout = scratch.path().join("layout");
        must(Command::new(&transfer).arg("make").arg(&layout).args([LAYERS, MEBIBYTES])).context("make the image")?;
        Ok(Bench { measure: measuring_program()?, transfer, layout, scratch })
    }

    /// To an empty registry, again, and back.
    fn round(&self, mover: Mover) -> Result<[Moved; 3]> {
        let registry = Registry::start(&Options::default())?;
        let name = format!("{}/bench:1", registry.host());
        let target = self.scratch.path().join("pulled");
        let uploads = |registry: &Registry| {
            registry.requests().iter().filter(|line| line.contains("\"PUT /v2/bench/blobs/uploads/")).count()
        };
        let first = self.step(&registry, &self.push(mover, &name))?;
        ensure!(uploads(&registry) >= BLOBS, "the first push sent {} blobs", uploads(&registry));
        let sent = uploads(&registry);
        let again = self.step(&registry, &self.push(mover, &name))?;
        ensure!(uploads(&registry) == sent, "a blob was sent again");
        let pulled = self.step(&registry, &self.pull(mover, &name, &target))?;
        fs::remove_dir_all(&target).with_context(|| format!("remove {}", target.display()))?;
        Ok([first, again, pulled])
    }

    fn push(&self, mover: Mover, name: &str) -> Vec<String> {
        let layout = self.layout.display();
        match mover {
            Mover::Zuwai => words(&[&self.transfer.display(), &"push", &layout, &name]),
            Mover::Skopeo => words(&[
                &"skopeo",
                &"--insecure-policy",
                &"copy",
                &"--dest-tls-verify=false",
                &format!("oci:{layout}:1"),
                &format!("docker://{name}"),
            ]),
        }
    }

    fn pull(&self, mover: Mover, name: &str, target: &Path) -> Vec<String> {
        match mover {
            Mover::Zuwai => words(&[&self.transfer.display(), &"pull", &name, &target.display()]),
            Mover::Skopeo => words(&[
                &"skopeo",
                &"--insecure-policy",
                &"copy",
                &"--src-tls-verify=false",
                &format!("docker://{name}"),
                &format!("oci:{}:1", target.display()),
            ]),
        }
    }

    fn step(&self, registry: &Registry, words: &[String]) -> Result<Moved> {
        let before = registry.requests().len();
        let result = self.scratch.path().join("measured.json");
        let mut command = Command::new(&self.measure);
        command.arg(&result).args(words).env("HOME", self.scratch.path());
        run_program(&mut command, Duration::from_mins(10))?.success().with_context(|| words.join(" "))?;
        Ok(Moved { cost: Cost::read(&result)?, requests: registry.requests().len() - before })
    }
}

fn words(parts: &[&dyn std::fmt::Display]) -> Vec<String> {
    parts.iter().map(ToString::to_string).collect()
}
