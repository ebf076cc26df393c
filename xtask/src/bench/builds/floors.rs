//! What nobody can do without who builds: the processor time of each part alone, in a container like the builder's, and the
//! commands of the Dockerfile, which are zuwai's neither.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use zuwai_lab::base::Base;
use zuwai_lab::layout::text;
use zuwai_lab::{Executor, Scratch};

use super::subject::{MADE_OF_FAT, SUBJECTS, Subject};
use super::{DISK, Row};
use crate::bench::table::{Table, seconds};
use crate::cargo;

/// The part that is done again for each RUN.
const LOOK: &str = "look at all of it";

/// Seconds of processor by what they are spent on.
pub(super) struct Floors {
    columns: Vec<Column>,
}

struct Column {
    name: &'static str,
    parts: Vec<(String, f64)>,
}

impl Column {
    /// Of each part what took less: the rest is somebody else's doing.
    fn take_less(&mut self, others: Vec<(String, f64)>) {
        for ((_, took), (_, other)) in self.parts.iter_mut().zip(others) {
            *took = took.min(other);
        }
    }
}

impl Floors {
    pub(super) fn measure(binary: &Path) -> Result<Floors> {
        let program = cargo::build_example("zuwai-benches", "floors")?;
        let scratch = Scratch::new()?;
        let context = scratch.folder("context")?;
        let copied = SUBJECTS.iter().find(|subject| subject.letter == 'd').context("there is no build d")?;
        copied.context(&context)?;
        let mut columns: Vec<Column> = Vec::new();
        let mut add = |names: &[(&str, &'static str)], told: &str| {
            for (part, name) in names {
                let parts = parts(told, part)?;
                match columns.iter_mut().find(|column| column.name == *name) {
                    Some(column) => column.take_less(parts),
                    None => columns.push(Column { name, parts }),
                }
            }
            anyhow::Ok(())
        };
        for _ in 0..2 {
            let told = run(binary, &program, Base::Debian, &context, &["/context"])?;
            add(&[("base", "debian"), ("copies", "copied by d")], &told)?;
            let told = run(binary, &program, Base::Fat, &context, &MADE_OF_FAT)?;
            add(&[("base", "fat"), ("made", "made by c"), ("copies", "copied by e")], &told)?;
        }
        Ok(Floors { columns })
    }

    /// A row a part, a column for each base and what is copied.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(&["alone, on one core"]);
        table.headings.extend(self.columns.iter().map(|column| column.name.to_owned()));
        for (what, _) in self.columns.iter().flat_map(|column| &column.parts) {
            if table.rows.iter().all(|row| row[0] != *what) {
                table.rows.push(vec![what.clone()]);
            }
        }
        for row in &mut table.rows {
            for column in &self.columns {
                let part = column.parts.iter().find(|(what, _)| *what == row[0]);
                row.push(part.map(|(_, took)| seconds(*took)).unwrap_or_default());
            }
        }
        table
    }

    /// The sum for a cold build, with what its own commands took; `None` where the subject names none.
    pub(super) fn of(&self, row: &Row) -> Option<f64> {
        let Subject { floors, .. } = row.subject;
        let mut sum = row.built.commands();
        for (name, looks) in *floors {
            let column = self.columns.iter().find(|column| column.name == *name);
            let parts = &column.unwrap_or_else(|| panic!("{name} is no column of the floors")).parts;
            sum += parts.iter().map(|(what, took)| if what == LOOK { took * looks } else { *took }).sum::<f64>();
        }
        (!floors.is_empty()).then_some(sum)
    }
}

/// What the program says of a base's only layer, and of what is copied.
fn run(binary: &Path, program: &Path, base: Base, context: &Path, copied: &[&str]) -> Result<String> {
    let layout = base.layout()?;
    let images = layout.index()?;
    let image = images.first().context("a base has an image")?;
    let manifest = layout.document(text(image, "digest")?)?;
    let blob = layout.blob_path(text(&manifest["layers"][0], "digest")?)?;
    let scratch = Scratch::new()?;
    // In memory, as the registry has it.
    let layer = scratch.path().join("layer");
    std::fs::copy(&blob, &layer).with_context(|| format!("copy {}", blob.display()))?;
    let executor = Executor::on_a_disk(binary, DISK)?;
    let container = executor.container().entrypoint("/lab/floors").mount(program, "/lab/floors");
    let container = container.mount(&layer, "/layer").mount(context, "/context");
    let words = ["/layer", "/floors"].iter().chain(copied);
    super::have_memory()?;
    Ok(container.time_limit(Duration::from_mins(10)).run(words)?.success().context("the floors")?.out())
}

/// The lines of one kind.
fn parts(told: &str, kind: &str) -> Result<Vec<(String, f64)>> {
    told.lines()
        .filter_map(|line| line.strip_prefix("floor\t")?.strip_prefix(kind)?.strip_prefix('\t')?.split_once('\t'))
        .map(|(what, took)| Ok((what.to_owned(), took.parse().with_context(|| format!("{took} is no number"))?)))
        .collect()
}
