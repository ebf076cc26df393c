//! What nobody can do without who builds on a base: the processor time of each part alone.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use zuwai_lab::Scratch;
use zuwai_lab::base::Base;
use zuwai_lab::layout::text;

use super::DISK;
use crate::bench::table::{Table, seconds};
use crate::cargo;

/// The bases that most rows begin with.
const OF: [(&str, Base); 2] = [("debian", Base::Debian), ("fat", Base::Fat)];

/// The floors, a row a part, a column a base.
pub(super) fn table() -> Result<Table> {
    let program = cargo::build_example("zuwai-benches", "floors")?;
    let mut table = Table::new(&["alone, on one core"]);
    for (name, base) in OF {
        table.headings.push(name.to_owned());
        for (number, (what, took)) in of_layer(&program, base)?.into_iter().enumerate() {
            if table.rows.len() <= number {
                table.rows.push(vec![what]);
            }
            table.rows[number].push(seconds(took));
        }
    }
    Ok(table)
}

/// Seconds of processor by part, of the only layer of a base.
fn of_layer(program: &Path, base: Base) -> Result<Vec<(String, f64)>> {
    let layout = base.layout()?;
    let images = layout.index()?;
    let image = images.first().context("a base has an image")?;
    let manifest = layout.document(text(image, "digest")?)?;
    let blob = layout.blob_path(text(&manifest["layers"][0], "digest")?)?;
    let scratch = Scratch::new()?;
    // In memory, as the registry has it.
    let layer = scratch.path().join("layer");
    std::fs::copy(&blob, &layer).with_context(|| format!("copy {}", blob.display()))?;
    let disk = scratch.disk("disk", DISK)?;
    let mut command = Command::new(program);
    let output = command.arg(&layer).arg(&disk).stderr(Stdio::inherit()).output().context("start the floors")?;
    ensure!(output.status.success(), "the floors: {}", output.status);
    let told = String::from_utf8(output.stdout).context("read the floors")?;
    told.lines()
        .filter_map(|line| line.strip_prefix("floor\t")?.split_once('\t'))
        .map(|(what, took)| Ok((what.to_owned(), took.parse().with_context(|| format!("{took} is no number"))?)))
        .collect()
}
