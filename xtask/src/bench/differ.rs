//! The bench of `zuwai-snapshot` and of packing: what is compared with which floor, and how much of it is allowed.

use std::collections::HashMap;
use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use zuwai_lab::places;

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
    // Six tenths of its speed.
    row(APPLY, "a tar in memory", "bare loop", Some(1.0 / 0.6)),
    row(APPLY, "a tar in memory", "SHA-256 alone", None),
    row(APPLY, "a tar in memory", "raw copy", None),
];

pub(crate) fn run(words: &[String]) -> Result<Vec<Table>> {
    let only_memory = words.iter().any(|word| word == "memory");
    let measured = if only_memory { criterion::measured("differ")? } else { criterion::run("differ", words)? };
    let told = places::cache().with_file_name("criterion").join("differ-memory");
    if only_memory || words.is_empty() {
        fs::write(&told, memory()?).with_context(|| format!("write {}", told.display()))?;
    }
    let told = fs::read_to_string(&told).unwrap_or_default();
    Ok(vec![times(&measured), memory_table(&told)])
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

/// What is measured of memory, and the most that each may take, in bytes.
const MEMORY: &[(&str, Option<u64>)] = &[
    ("the index of 700000 files", Some(70_000_000)),
    ("SHA-256 alone of 2 GB", None),
    ("packing a file of 2 GB with gzip", Some(64 << 20)),
    ("packing a file of 2 GB with zstd", Some(64 << 20)),
    ("applying a file of 2 GB", Some(64 << 20)),
];

/// What the bench of memory prints.
fn memory() -> Result<String> {
    let mut command = cargo();
    command.args(["bench", "--quiet", "--package", "zuwai-benches", "--bench", "memory"]).stderr(Stdio::inherit());
    let output = command.output().context("start cargo bench")?;
    ensure!(output.status.success(), "cargo bench --bench memory: {}", output.status);
    String::from_utf8(output.stdout).context("read what the bench of memory prints")
}

fn memory_table(told: &str) -> Table {
    let mut table = Table::new(&["what, once", "memory", "limit", "took"]);
    let rows: HashMap<&str, (u64, f64)> = told.lines().filter_map(memory_line).collect();
    for (what, limit) in MEMORY {
        if let Some((bytes, took)) = rows.get(what) {
            let limit = limit.map(megabytes).unwrap_or_default();
            table.rows.push(vec![(*what).to_owned(), megabytes(*bytes), limit, seconds(*took)]);
        }
    }
    table
}

/// What was measured, bytes and seconds.
fn memory_line(line: &str) -> Option<(&str, (u64, f64))> {
    let mut fields = line.strip_prefix("memory\t")?.split('\t');
    let (what, bytes, took) = (fields.next()?, fields.next()?, fields.next()?);
    Some((what, (bytes.parse().ok()?, took.parse::<f64>().ok()? / 1e3)))
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
