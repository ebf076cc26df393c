//! The crate used alone: index a folder, run a command, print what changed, write the layer.
//!
//! ```text
//! cargo run -p zuwai-snapshot --example diff -- FOLDER LAYER.tar COMMAND [ARGUMENT…]
//! ```

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use zuwai_snapshot::{ChangeKind, Ignore, RootFs, Scope, SnapshotMode, WriteOptions, write_tar};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, layer, command @ ..] = arguments.as_slice() else {
        eprintln!("usage: diff FOLDER LAYER.tar COMMAND [ARGUMENT…]");
        return ExitCode::FAILURE;
    };
    match diff(folder.as_ref(), layer.as_ref(), command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(below) = cause {
                eprintln!("caused by: {below}");
                cause = below.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn diff(folder: &Path, layer: &Path, command: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let root = RootFs::open(folder, Ignore::default())?;
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    let start = Instant::now();
    snapshotter.reset(&root)?;
    snapshotter.settle(&root)?;
    eprintln!("indexed in {:?}", start.elapsed());

    if let Some((program, arguments)) = command.split_first() {
        let status = Command::new(program).args(arguments).current_dir(root.path()).status()?;
        eprintln!("{program}: {status}");
    }

    let start = Instant::now();
    let changes = snapshotter.changes(&root, &Scope::Everywhere)?;
    eprintln!("{} changes found in {:?}", changes.len(), start.elapsed());
    for change in &changes {
        let letter = match change.kind {
            ChangeKind::Add => 'A',
            ChangeKind::Modify => 'M',
            ChangeKind::Delete => 'D',
            ChangeKind::Linked => 'L',
        };
        println!("{letter} {}", change.path.display());
    }

    let start = Instant::now();
    let mut out = BufWriter::new(File::create(layer)?);
    let written = write_tar(&changes, &root, &mut out, &WriteOptions::default())?;
    out.into_inner()?.sync_all()?;
    eprintln!("{} entries written in {:?}", written.entries, start.elapsed());
    for warning in &written.warnings {
        eprintln!("warning: {warning}");
    }
    snapshotter.learn(&changes, &written);
    Ok(())
}
