//! Looks at a tree, layers packed of it and layers applied to it, each in a group with its floors. Which function is
//! compared with which is said in `xtask/src/bench/differ.rs`.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::cell::{LazyCell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sha2::{Digest as _, Sha256};
use zuwai_benches::ground::Ground;
use zuwai_benches::{floor, tree};
use zuwai_registry::{BlobDir, Compression, ImageFormat, LayerWriter};
use zuwai_snapshot::{
    ApplyOptions, Change, ChangeKind, Ignore, RootFs, Scope, SnapshotMode, Snapshotter, WriteOptions, apply_tar,
    write_tar,
};

fn main() {
    // What is measured takes from milliseconds to seconds: ten times each, without a warm-up beyond the first.
    let short = Duration::from_millis(1);
    let mut criterion =
        Criterion::default().sample_size(10).warm_up_time(short).measurement_time(short).configure_from_args();
    look(&mut criterion, 10_000, &[10]);
    look(&mut criterion, 100_000, &[10, 1000]);
    look(&mut criterion, 700_000, &[10, 1000, 50_000]);
    pack(&mut criterion, "50000 files", |root| tree::plant_text(root, 50_000, 4000));
    pack(&mut criterion, "a file of 256 MB", |root| tree::plant_large(&root.join("large"), 256 << 20));
    apply(&mut criterion);
    criterion.final_summary();
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group
}

/// Measures what `once` says it took.
fn timed(group: &mut Group<'_>, name: &str, mut once: impl FnMut() -> Duration) {
    group.bench_function(name, |bencher| bencher.iter_custom(|times| (0..times).map(|_| once()).sum()));
}

fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed()
}

fn open(path: &Path) -> RootFs {
    RootFs::open(path, Ignore::default()).unwrap()
}

/// A tree that a snapshotter knows.
struct Known {
    ground: Ground,
    root: RootFs,
    snapshotter: Box<dyn Snapshotter>,
    full: Vec<PathBuf>,
    round: u8,
}

impl Known {
    fn new(files: usize) -> Self {
        let ground = Ground::disk(files as u64).unwrap();
        let full = tree::plant_small(ground.path(), files);
        rustix::fs::sync();
        let root = open(ground.path());
        let mut snapshotter = SnapshotMode::Full.snapshotter();
        snapshotter.reset(&root).unwrap();
        snapshotter.settle(&root).unwrap();
        Self { ground, root, snapshotter, full, round: 0 }
    }

    /// Gives so many files other bytes of the same number.
    fn change(&mut self, changes: usize) {
        self.round = self.round.wrapping_add(1);
        for path in &self.full[..changes] {
            fs::write(path, [self.round; 100]).unwrap();
        }
    }

    /// Finds the changes and packs them, without compressing, as a build does.
    fn look(&mut self, expected: usize) {
        let changes = self.snapshotter.changes(&self.root, &Scope::Everywhere).unwrap();
        assert_eq!(changes.len(), expected);
        let written = write_tar(&changes, &self.root, &mut std::io::sink(), &WriteOptions::default()).unwrap();
        self.snapshotter.learn(&changes, &written);
    }
}

fn look(criterion: &mut Criterion, files: usize, changes: &[usize]) {
    let known = LazyCell::new(|| RefCell::new(Known::new(files)));
    let mut group = group(criterion, &format!("look at {files} files"));
    timed(&mut group, "bare walk", || {
        let known = known.borrow();
        time(|| floor::walk(known.ground.path()))
    });
    for &changes in [0].iter().chain(changes) {
        timed(&mut group, &format!("{changes} changes"), || {
            let mut known = known.borrow_mut();
            known.change(changes);
            known.snapshotter.settle(&known.root).unwrap();
            time(|| known.look(changes))
        });
    }
    if let Some(&most) = changes.last().filter(|&&most| most >= 10_000) {
        timed(&mut group, &format!("bare walk and reading {most} files"), || {
            let known = known.borrow();
            time(|| (floor::walk(known.ground.path()), floor::copy(&known.full[..most], &mut std::io::sink())))
        });
    }
}

/// Files that are to be packed, and where.
struct Packed {
    ground: Ground,
    root: RootFs,
    changes: Vec<Change>,
    blobs: BlobDir,
}

impl Packed {
    fn new(plant: impl Fn(&Path)) -> Self {
        let ground = Ground::memory().unwrap();
        let files = ground.path().join("files");
        fs::create_dir(&files).unwrap();
        let root = open(&files);
        let mut snapshotter = SnapshotMode::Redo.snapshotter();
        snapshotter.reset(&root).unwrap();
        plant(&files);
        let changes = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
        let blobs = BlobDir::open(ground.path().join("blobs")).unwrap();
        Self { ground, root, changes, blobs }
    }

    fn pack(&self, compression: Compression) {
        let mut layer = LayerWriter::new(&self.blobs, compression, ImageFormat::Oci).unwrap();
        write_tar(&self.changes, &self.root, &mut layer, &WriteOptions::default()).unwrap();
        let layer = layer.finish().unwrap();
        fs::remove_file(self.blobs.get(&layer.descriptor.digest).unwrap()).unwrap();
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = self.changes.iter().filter(|change| change.kind == ChangeKind::Add);
        let paths = files.map(|change| self.root.path().join(change.path.strip_prefix("/").unwrap()));
        paths.filter(|path| path.is_file()).collect()
    }
}

const COMPRESSIONS: [(&str, Compression); 3] =
    [("gzip", Compression::GZIP), ("zstd", Compression::ZSTD), ("no compression", Compression::None)];

/// Packs on all cores and on one, beside a hash and a copy of the same bytes.
fn pack(criterion: &mut Criterion, name: &str, plant: impl Fn(&Path)) {
    let packed = LazyCell::new(|| Packed::new(plant));
    let mut group = group(criterion, &format!("pack {name}"));
    for (name, compression) in COMPRESSIONS {
        timed(&mut group, name, || {
            let packed = &*packed;
            time(|| packed.pack(compression))
        });
    }
    for (name, compression) in &COMPRESSIONS[..2] {
        timed(&mut group, &format!("{name} on one core"), || {
            let packed = &*packed;
            on_one_core(|| time(|| packed.pack(*compression)))
        });
    }
    timed(&mut group, "SHA-256 alone", || {
        let files = packed.files();
        time(|| floor::hash(&files))
    });
    timed(&mut group, "raw copy", || {
        let files = packed.files();
        let mut out = fs::File::create(packed.ground.path().join("copy")).unwrap();
        time(|| floor::copy(&files, &mut out))
    });
}

/// Does the work, and all that its threads do, on the first of this process' cores.
fn on_one_core<T>(work: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|&core| all.is_set(core)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    let done = work();
    sched_setaffinity(None, &all).unwrap();
    done
}

/// A layer in memory, and what a bare loop needs to make the same files.
struct Layer {
    ground: Ground,
    tar: Vec<u8>,
    bare: Vec<floor::Made>,
}

impl Layer {
    fn new() -> Self {
        let packed = Packed::new(|root| tree::plant_text(root, 60_000, 4000));
        let mut tar = Vec::new();
        write_tar(&packed.changes, &packed.root, &mut tar, &WriteOptions::default()).unwrap();
        let bare = floor::take(packed.root.path());
        Self { ground: Ground::memory().unwrap(), tar, bare }
    }

    /// What the work takes in an empty folder, which is removed after it.
    fn in_an_empty_folder(&self, work: impl FnOnce(&Path)) -> Duration {
        let target = self.ground.path().join("target");
        fs::create_dir(&target).unwrap();
        let took = time(|| work(&target));
        fs::remove_dir_all(&target).unwrap();
        took
    }
}

fn apply(criterion: &mut Criterion) {
    let layer = LazyCell::new(Layer::new);
    let mut group = group(criterion, "apply 60000 files");
    timed(&mut group, "bare loop", || layer.in_an_empty_folder(|target| floor::write(&layer.bare, target)));
    timed(&mut group, "a tar in memory", || {
        layer.in_an_empty_folder(|target| {
            let applied = apply_tar(&mut &layer.tar[..], &open(target), &ApplyOptions::default()).unwrap();
            SnapshotMode::Full.snapshotter().adopt(&applied);
        })
    });
    timed(&mut group, "SHA-256 alone", || time(|| Sha256::digest(&layer.tar)));
    timed(&mut group, "raw copy", || {
        layer.in_an_empty_folder(|target| fs::write(target.join("copy"), &layer.tar).unwrap())
    });
}
