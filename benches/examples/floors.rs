//! What nobody can do without who unpacks a layer: inflating it, hashing it, making its files. Takes the layer's blob (a tar in
//! gzip) and an empty folder to make files in; prints a line for each floor: `floor`, its name, seconds of processor, separated
//! by tabs. Each is done once on one thread and remembers nothing.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use zuwai_benches::floor;
use zuwai_snapshot::{ApplyOptions, Ignore, RootFs, apply_tar};

fn main() {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [blob, folder] = paths.as_slice() else { panic!("two words: a layer's blob, and an empty folder") };
    tell("SHA-256 of the blob", || floor::hash(std::slice::from_ref(blob)));
    let mut hashing = Duration::ZERO;
    let whole = spent(|| {
        let mut hash = Sha256::new();
        inflate(blob, &mut |piece| hashing += spent(|| hash.update(piece)));
        std::hint::black_box(hash.finalize());
    });
    print("inflate", whole.saturating_sub(hashing));
    print("SHA-256 of the tar", hashing);
    let (model, bare) = (folder.join("model"), folder.join("bare"));
    for folder in [&model, &bare] {
        std::fs::create_dir(folder).unwrap();
    }
    let root = RootFs::open(&model, Ignore::default()).unwrap();
    apply_tar(&mut MultiGzDecoder::new(open(blob)), &root, &ApplyOptions::default()).unwrap();
    let made = floor::take(&model);
    std::fs::remove_dir_all(&model).unwrap();
    tell("make folders and files", || floor::write(&made, &bare));
    tell("walk", || {
        floor::walk(&bare);
    });
    tell("walk again", || {
        floor::walk(&bare);
    });
}

fn open(blob: &Path) -> BufReader<File> {
    BufReader::with_capacity(256 * 1024, File::open(blob).unwrap())
}

fn inflate(blob: &Path, each: &mut dyn FnMut(&[u8])) {
    let mut plain = MultiGzDecoder::new(open(blob));
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = plain.read(&mut buffer).unwrap();
        if length == 0 {
            return;
        }
        each(&buffer[..length]);
    }
}

/// What this process spent on it, user and system.
fn spent(work: impl FnOnce()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    };
    let before = now();
    work();
    now().saturating_sub(before)
}

fn tell(name: &str, work: impl FnOnce()) {
    print(name, spent(work));
}

fn print(name: &str, took: Duration) {
    println!("floor\t{name}\t{}", took.as_secs_f64());
}
