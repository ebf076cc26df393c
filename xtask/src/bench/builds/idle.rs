//! What a RUN that changes nothing adds to a build, as its own commands see it: each tells the time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zuwai_lab::{Executor, Scratch};

use super::{Bench, DISK};
use crate::bench::table::{Table, seconds};

/// So many RUNs follow the first.
const RUNS: usize = 20;

/// A row a base.
pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let mut table = Table::new(&["a RUN that changes nothing, on", "takes", "limit", "of it the command alone"]);
    for (name, limit) in [("debian:12", 0.010), ("fat:12", 0.150)] {
        let [between, alone] = build(bench, name)?;
        table.rows.push(vec![name.to_owned(), seconds(between), seconds(limit), seconds(alone)]);
    }
    Ok(table)
}

/// Seconds from one command to the next, and what the command takes where nothing comes in between: the middle of all.
fn build(bench: &Bench, base: &str) -> Result<[f64; 2]> {
    let scratch = Scratch::new()?;
    let context = scratch.folder("context")?;
    let again = "RUN date +%s%N\n".repeat(RUNS + 1);
    let alone = format!("RUN for number in $(seq 0 {RUNS}); do /bin/sh -c 'date +%s%N'; done\n");
    let path = context.join("Dockerfile");
    let text = format!("FROM {base}\n{again}{alone}");
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    let executor = Executor::on_a_disk(&bench.binary, DISK)?;
    let container = executor.container().mount(&context, "/context");
    let host = bench.host();
    let words = [
        "--context=dir:///context".to_owned(),
        "--dockerfile=/context/Dockerfile".to_owned(),
        "--no-push".to_owned(),
        format!("--registry-mirror={host}"),
        format!("--insecure-registry={host}"),
        "--skip-default-registry-fallback".to_owned(),
    ];
    let told = container.time_limit(Duration::from_mins(5)).run(&words)?.success().context("the RUNs")?.out();
    let times: Vec<u64> = told.lines().filter(|line| line.len() == 19).flat_map(str::parse).collect();
    ensure!(times.len() == 2 * (RUNS + 1), "the commands told {} times:\n{told}", times.len());
    let (between, alone) = times.split_at(RUNS + 1);
    Ok([middle(between), middle(alone)])
}

/// The middle of the seconds from each time, in nanoseconds, to the next.
fn middle(times: &[u64]) -> f64 {
    let mut between: Vec<u64> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    between.sort_unstable();
    Duration::from_nanos(between[between.len() / 2]).as_secs_f64()
}
