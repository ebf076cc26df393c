//! The rows as a table, for people, and as JSON, for whoever compares two runs.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use serde_json::json;
use zuwai_lab::places;

use super::Built;
use super::cost::Cost;
use super::floors::Floors;
use super::subject::Subject;
use crate::bench::table::{Table, seconds};

/// What a build finds in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Bases alone.
    Cold,
    /// All that it would make.
    Warm,
    /// What it would have made before the change.
    Changed,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Cold => "cold",
            State::Warm => "warm",
            State::Changed => "changed",
        }
    }
}

/// One row of the table.
pub(super) struct Row {
    pub(super) subject: &'static Subject,
    pub(super) state: State,
    pub(super) built: Built,
    pub(super) buildah: Peer,
    pub(super) buildkit: Peer,
}

/// The same build by somebody else.
pub(super) struct Peer {
    pub(super) cost: Cost,
    /// Bytes of the layers that it made.
    pub(super) layers: Vec<u64>,
}

impl Row {
    /// What it is, for the first column.
    pub(super) fn title(&self) -> String {
        match self.state {
            State::Cold => format!("{}) {}", self.subject.letter, self.subject.about),
            _ => self.name(),
        }
    }

    fn name(&self) -> String {
        match self.state {
            State::Cold => self.subject.letter.to_string(),
            state => format!("{}, {}", self.subject.letter, state.name()),
        }
    }
}

/// Where the time of a row went, for a person who waits for the next.
pub(super) fn line(row: &Row) -> String {
    let (own, buildah, buildkit) = (row.built.cost.cpu, row.buildah.cost.cpu, row.buildkit.cost.cpu);
    let mut text = format!(
        "   {}: CPU {own:.2} s, {:.2} of buildah's {buildah:.2} s and {:.2} of BuildKit's {buildkit:.2} s; peak {} MiB; layers \
         {:?}, {:?}, {:?}; processor:",
        row.name(),
        own / buildah,
        own / buildkit,
        row.built.cost.peak >> 20,
        row.built.layers,
        row.buildah.layers,
        row.buildkit.layers,
    );
    for (name, seconds) in &row.built.processor {
        let _ = write!(text, "  {name} {seconds:.2}");
    }
    text
}

/// The processor time it took, beside the others.
pub(super) fn costs(rows: &[Row], floors: &Floors) -> Table {
    let mut table = Table::new(&[
        "build",
        "CPU",
        "floors",
        "buildah's",
        "ratio",
        "limit",
        "BuildKit's",
        "ratio",
        "peak RSS",
        "limit",
    ]);
    for row in rows {
        let (own, subject) = (&row.built.cost, row.subject);
        let cold = |limit: Option<String>| limit.filter(|_| row.state == State::Cold).unwrap_or_default();
        table.rows.push(vec![
            row.title(),
            seconds(own.cpu),
            cold(floors.of(row).map(seconds)),
            seconds(row.buildah.cost.cpu),
            format!("{:.2}", own.cpu / row.buildah.cost.cpu),
            cold(subject.cpu_limit.map(|limit| format!("{limit:.2}"))),
            seconds(row.buildkit.cost.cpu),
            format!("{:.2}", own.cpu / row.buildkit.cost.cpu),
            format!("{} MiB", own.peak >> 20),
            cold(subject.peak_limit.map(|limit| format!("{limit} MiB"))),
        ]);
    }
    table
}

/// How long it took, and what was moved and made.
pub(super) fn movements(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "build",
        "wall",
        "limit",
        "buildah's",
        "BuildKit's",
        "down",
        "up",
        "requests",
        "written",
        "own layers",
        "buildah's",
        "BuildKit's",
    ]);
    for row in rows {
        let built = &row.built;
        let limit = row.subject.warm_limit.filter(|_| row.state == State::Warm);
        let sum = |layers: &[u64]| format!("{} B", layers.iter().sum::<u64>());
        table.rows.push(vec![
            row.name(),
            seconds(built.cost.wall),
            limit.map(seconds).unwrap_or_default(),
            seconds(row.buildah.cost.wall),
            seconds(row.buildkit.cost.wall),
            megabytes(built.traffic.down),
            megabytes(built.traffic.up),
            built.requests.to_string(),
            megabytes(built.cost.written),
            sum(&built.layers),
            sum(&row.buildah.layers),
            sum(&row.buildkit.layers),
        ]);
    }
    table
}

/// What the processor worked for, in the order in which a build comes to it.
pub(super) const PARTS: [&str; 12] =
    ["transfer", "pull", "inflate", "unpack", COMMANDS, "look", "copy", "hash", "pack", "compress", "push", "other"];
const COMMANDS: &str = "commands";

/// Where zuwai's processor time went.
pub(super) fn processor(rows: &[Row]) -> Table {
    let mut table = Table::new(&["processor time of"]);
    table.headings.extend(PARTS.iter().map(|&part| part.to_owned()));
    for row in rows {
        let cell = |part: &&str| {
            let spent =
                if *part == COMMANDS { Some(row.built.commands()) } else { row.built.processor.get(*part).copied() };
            // Less is the noise of the clocks.
            spent.filter(|spent| *spent >= 5e-4).map(seconds).unwrap_or_default()
        };
        table.rows.push(std::iter::once(row.name()).chain(PARTS.iter().map(cell)).collect());
    }
    table
}

/// Where zuwai's time went by the clock.
pub(super) fn clock(rows: &[Row]) -> Table {
    let mut names: Vec<&str> = rows.iter().flat_map(|row| row.built.clock.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let mut table = Table::new(&["time of"]);
    table.headings.extend(names.iter().map(|&name| name.to_owned()));
    for row in rows {
        let cell = |name: &&str| row.built.clock.get(*name).map(|time| seconds(*time)).unwrap_or_default();
        let cells = std::iter::once(row.name()).chain(names.iter().map(cell));
        table.rows.push(cells.collect());
    }
    table
}

/// Writes all of it to `benches/builds.json` in cargo's target folder.
pub(super) fn keep(rows: &[Row], floors: &Floors) -> Result<()> {
    let cost = |cost: &Cost| json!({"wall": cost.wall, "cpu": cost.cpu, "peak": cost.peak, "written": cost.written});
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let (built, traffic) = (&row.built, row.built.traffic);
            json!({
                "build": row.subject.letter.to_string(),
                "state": row.state.name(),
                "about": row.subject.about,
                "floors": floors.of(row).filter(|_| row.state == State::Cold),
                "zuwai": {
                    "cost": cost(&built.cost), "down": traffic.down, "up": traffic.up, "requests": built.requests,
                    "layers": built.layers, "clock": built.clock, "processor": built.processor, "commands": built.commands(),
                },
                "buildah": {"cost": cost(&row.buildah.cost), "layers": row.buildah.layers},
                "buildkit": {"cost": cost(&row.buildkit.cost), "layers": row.buildkit.layers},
            })
        })
        .collect();
    let path = places::cache().join("builds.json");
    fs::write(&path, json!(rows).to_string()).with_context(|| format!("write {}", path.display()))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", number(bytes) / 1e6)
}

#[allow(clippy::cast_precision_loss)] // For people to read.
fn number(value: u64) -> f64 {
    value as f64
}
