//! The index costs at most a hundred bytes a file, names included.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counting;

use std::fs;
use std::sync::atomic::Ordering;

use counting::{Counting, LIVE};
use zuwai_snapshot::{Ignore, RootFs, SnapshotMode};

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_file_costs_at_most_a_hundred_bytes_of_the_index() {
    const FOLDERS: usize = 350;
    const FILES: usize = 100;
    let tmp = tempfile::tempdir().unwrap();
    for folder in 0..FOLDERS {
        let folder = tmp.path().join(format!("a-folder-{folder:04}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..FILES {
            fs::write(folder.join(format!("some-file-{file:04}.txt")), "").unwrap();
        }
    }
    let root = RootFs::open(tmp.path(), Ignore::default()).unwrap();
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    let before = LIVE.load(Ordering::Relaxed);
    snapshotter.reset(&root).unwrap();
    let cost = LIVE.load(Ordering::Relaxed) - before;
    let entries = FOLDERS * (FILES + 1);
    assert!(cost <= entries * 100, "{cost} bytes for {entries} entries: {} each", cost / entries);
}
