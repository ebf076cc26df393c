//! What the index of 700,000 files takes, and by how much packing and applying 2 GB lift this process' memory, and how long
//! they take. Prints a line for each: `memory`, what, bytes, milliseconds, separated by tabs. Not criterion's: what is that
//! large is done once.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "../crates/snapshot/tests/counting/mod.rs"]
mod counting;

use std::fs;
use std::io::{Read, Write as _};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use counting::{Counting, LIVE};
use zuwai_benches::ground::Ground;
use zuwai_benches::{floor, tree};
use zuwai_registry::{BlobDir, Compression, ImageFormat, LayerWriter};
use zuwai_snapshot::{
    ApplyOptions, Change, ChangeKind, Ignore, RootFs, SnapshotMode, WriteOptions, apply_tar, write_tar,
};

#[global_allocator]
static COUNTING: Counting = Counting;

const FILES: usize = 700_000;
const LARGE: u64 = 2 << 30;

fn main() {
    let ground = Ground::memory().unwrap();
    let files = ground.path().join("files");
    fs::create_dir(&files).unwrap();
    tree::plant_large(&files.join("large"), LARGE);
    measure("SHA-256 alone of 2 GB", || floor::hash(&[files.join("large")]));
    measure("packing a file of 2 GB with gzip", || pack(&ground, &files, Compression::GZIP));
    measure("packing a file of 2 GB with zstd", || pack(&ground, &files, Compression::ZSTD));
    fs::remove_dir_all(&files).unwrap();
    fs::create_dir(&files).unwrap();
    measure("applying a file of 2 GB", || apply(&files));
    // Last, since what it frees would be used by the others, and not seen.
    index();
}

/// Does the work once, and tells by how much it lifts what this process has in memory at most, and how long it takes.
fn measure(what: &str, work: impl FnOnce()) {
    // 5: the most is counted anew (proc(5)).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, start) = (resident("VmRSS:"), Instant::now());
    work();
    let took = start.elapsed();
    tell(what, resident("VmHWM:").saturating_sub(before), took);
}

fn tell(what: &str, bytes: usize, took: Duration) {
    println!("memory\t{what}\t{bytes}\t{}", took.as_millis());
}

fn index() {
    let ground = Ground::disk(FILES as u64).unwrap();
    tree::plant_small(ground.path(), FILES);
    let root = RootFs::open(ground.path(), Ignore::default()).unwrap();
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    let before = LIVE.load(Ordering::Relaxed);
    let start = Instant::now();
    snapshotter.reset(&root).unwrap();
    tell("the index of 700000 files", LIVE.load(Ordering::Relaxed) - before, start.elapsed());
}

fn pack(ground: &Ground, files: &std::path::Path, compression: Compression) {
    let root = RootFs::open(files, Ignore::default()).unwrap();
    let blobs = BlobDir::open(ground.path().join("blobs")).unwrap();
    let mut layer = LayerWriter::new(&blobs, compression, ImageFormat::Oci).unwrap();
    let changes = [Change::new(ChangeKind::Add, "/large")];
    write_tar(&changes, &root, &mut layer, &WriteOptions::default()).unwrap();
    layer.finish().unwrap();
    fs::remove_dir_all(ground.path().join("blobs")).unwrap();
}

fn apply(files: &std::path::Path) {
    // The header of such a file, and then bytes that are nowhere in memory.
    let holder = Ground::memory().unwrap();
    fs::File::create(holder.path().join("large")).unwrap().set_len(LARGE).unwrap();
    let from = RootFs::open(holder.path(), Ignore::default()).unwrap();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let changes = [Change::new(ChangeKind::Add, "/large")];
            write_tar(&changes, &from, &mut writer, &WriteOptions::default()).unwrap();
            writer.flush().unwrap();
        });
        let root = RootFs::open(files, Ignore::default()).unwrap();
        apply_tar(&mut reader, &root, &ApplyOptions::default()).unwrap();
    });
}

fn resident(field: &str) -> usize {
    let mut text = String::new();
    fs::File::open("/proc/self/status").unwrap().read_to_string(&mut text).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
