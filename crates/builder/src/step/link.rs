//! `COPY --link`: the files come to an empty root first, and what is then in it is put over the stage's as a layer would
//! be. What was there is neither looked at nor followed: a link that is in the way of a folder is replaced, and so is a
//! folder in the way of a file.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom};
use std::path::PathBuf;

use zuwai_snapshot::{ApplyOptions, Ignore, RootFs, Scope, SnapshotMode, WriteOptions, apply_tar, write_tar};

use super::{Ground, StepError};
use crate::event::Event;

/// Fills an empty root, and puts it over the stage's.
pub(super) fn over(
    ground: &Ground<'_>,
    fill: impl FnOnce(&RootFs) -> Result<Vec<PathBuf>, StepError>,
) -> Result<Scope, StepError> {
    const WHAT: &str = "make an empty root";
    let (folder, tar) = (ground.scratch.join("link"), ground.scratch.join("link.tar"));
    if folder.exists() {
        ground.put_down(WHAT, fs::remove_dir_all(&folder))?;
    }
    ground.put_down(WHAT, fs::create_dir_all(&folder))?;
    let empty = RootFs::open(&folder, Ignore::default())?;
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    snapshotter.reset(&empty)?;
    fill(&empty)?;
    let changes = snapshotter.changes(&empty, &Scope::Everywhere)?;
    // The root folder itself is nobody's file.
    let changes: Vec<_> = changes.into_iter().filter(|change| change.path.parent().is_some()).collect();
    let mut file =
        ground.put_down(WHAT, File::options().read(true).write(true).create(true).truncate(true).open(&tar))?;
    write_tar(&changes, &empty, &mut file, &WriteOptions::default())?;
    ground.put_down(WHAT, file.seek(SeekFrom::Start(0)))?;
    let applied = apply_tar(&mut file, ground.root, &ApplyOptions { whiteouts: false, ..ApplyOptions::default() })?;
    for text in &applied.warnings {
        ground.observer.event(&Event::Warning { text });
    }
    ground.put_down(WHAT, fs::remove_dir_all(&folder).and_then(|()| fs::remove_file(&tar)))?;
    Ok(Scope::Paths(applied.paths()))
}
