//! The bench of `zuwai-snapshot` and of packing: what is compared with which floor, and how much of it is allowed.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::criterion::{self, Measured};
use super::table::{Table, seconds};
use crate::cargo::cargo;

/// One row: ours, the floor (both functions of the group), and the most that the first may take of the second.
struct Row {
    group: &'static str,
    ours: &'static str,
    floor: &'static str,
    limit: Option<f64>,
}

const fn row(group: &'static str, ours: &'static str, floor: &'static str, limit: Option<f64>) -> Row {
    Row { group, ours, floor, limit }
}

const SMALL: &str = "look at 10000 files";
const MIDDLE: &str = "look at 100000 files";
const LARGE: &str = "look at 700000 files";
const FILES: &str = "pack 50000 files";
const FILE: &str = "pack a file of 256 MB";
const HUGE: &str = "pack a file of 2 GB";
const APPLY: &str = "apply 60000 files";
const WALK: &str = "bare walk";
/// Two cores in place of one.
const TWICE: Option<f64> = Some(1.0 / 1.8);

const ROWS: &[Row] = &[
    row(SMALL, "0 changes", WALK, None),
    row(SMALL, "10 changes", WALK, None),
    row(MIDDLE, "0 changes", WALK, None),
    row(MIDDLE, "10 changes", WALK, None),
    row(MIDDLE, "1000 changes", WALK, None),
    row(LARGE, "0 changes", WALK, Some(0.8)),
    row(LARGE, "10 changes", WALK, None),
    row(LARGE, "1000 changes", WALK, None),
    row(LARGE, "50000 changes", WALK, None),
    row(LARGE, "50000 changes", "bare walk and reading 50000 files", None),
    row(FILES, "gzip", "gzip on one core", TWICE),
    row(FILES, "zstd", "zstd on one core", None),
    row(FILES, "gzip", "SHA-256 alone", None),
    row(FILES, "zstd", "SHA-256 alone", None),
    row(FILES, "no compression", "SHA-256 alone", None),
    row(FILES, "no compression", "raw copy", None),
    row(FILE, "gzip", "gzip on one core", TWICE),
    row(FILE, "zstd", "zstd on one core", None),
    row(FILE, "gzip", "SHA-256 alone", None),
    row(FILE, "zstd", "SHA-256 alone", None),
    row(FILE, "no compression", "SHA-256 alone", None),
    row(FILE, "no compression", "raw copy", None),
    row(HUGE, "gzip", "SHA-256 alone", None),
    row(HUGE, "zstd", "SHA-256 alone", None),
    // Six tenths of its speed.
    row(APPLY, "a tar in memory", "bare loop", Some(1.0 / 0.6)),
    row(APPLY, "a tar in memory", "SHA-256 alone", None),
    row(APPLY, "a tar in memory", "raw copy", None),
];

pub(crate) fn run(words: &[String]) -> Result<Vec<Table>> {
    let measured = criterion::run("differ", words)?;
    let mut tables = vec![times(&measured)];
    if words.is_empty() {
        tables.push(memory()?);
    }
    Ok(tables)
}

fn times(measured: &Measured) -> Table {
    let mut table = Table::new(&["what", "zuwai", "floor", "takes", "ratio", "limit"]);
    for row in ROWS {
        let Some(ours) = measured.fastest(row.group, row.ours) else { continue };
        let Some(floor) = measured.fastest(row.group, row.floor) else { continue };
        table.rows.push(vec![
            format!("{}: {}", row.group, row.ours),
            seconds(ours),
            row.floor.to_owned(),
            seconds(floor),
            format!("{:.2}", ours / floor),
            row.limit.map(|limit| format!("{limit:.2}")).unwrap_or_default(),
        ]);
    }
    table
}

/// The most that each may take, in bytes.
const MEMORY: &[(&str, u64)] = &[
    ("the index of 700000 files", 70_000_000),
    ("packing a file of 2 GB with gzip", 64 << 20),
    ("packing a file of 2 GB with zstd", 64 << 20),
    ("applying a file of 2 GB", 64 << 20),
];

fn memory() -> Result<Table> {
    let mut command = cargo();
    command.args(["bench", "--quiet", "--package", "zuwai-benches", "--bench", "memory"]).stderr(Stdio::inherit());
    let output = command.output().context("start cargo bench")?;
    ensure!(output.status.success(), "cargo bench --bench memory: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let mut table = Table::new(&["what", "memory", "limit"]);
    for (what, limit) in MEMORY {
        let found =
            text.lines().find_map(|line| line.strip_prefix("memory\t")?.strip_prefix(what)?.trim().parse().ok());
        let bytes: u64 = found.with_context(|| format!("the bench told nothing of {what}"))?;
        table.rows.push(vec![(*what).to_owned(), megabytes(bytes), megabytes(*limit)]);
    }
    Ok(table)
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
