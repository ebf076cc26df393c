//! Bytes as a list of entries.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zuwai_fuzz::{Scratch, chosen};
use zuwai_snapshot::{Scope, SnapshotMode};

fuzz_target!(|bytes: &[u8]| {
    let tar = chosen(bytes);
    let scratch = Scratch::new();
    let mut told = SnapshotMode::Full.snapshotter();
    for _ in 0..2 {
        let Ok(applied) = scratch.apply(&tar) else { return };
        told.adopt(&applied);
    }
    // Twice is as good as once, and what was told is what is there.
    told.settle(&scratch.root).unwrap();
    let changes = told.changes(&scratch.root, &Scope::Everywhere).unwrap();
    assert_eq!(changes, [], "the snapshotter was told something else");
});
