//! What nobody can do without who builds on a base and copies into an image: receiving and inflating the base's layer, hashing its
//! tar and making its files; reading what is copied, making it again, hashing it, deflating it and sending it away; finding and
//! packing small files that a command made. Takes the layer's blob (a tar in gzip), a folder to make files in, and what is
//! copied: absolute folders, or folders of the base. Prints a line for each floor: `floor`, `base`, `made` or `copies`, its name,
//! seconds of processor, separated by tabs. Each is done once on one thread and remembers nothing.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;
use libdeflater::{CompressionLvl, Compressor};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use zuwai_benches::floor::{self, Made};
use zuwai_registry::blob::BytesBlob;
use zuwai_registry::image::{Algorithm, Descriptor, Hasher, Layer, MediaType};
use zuwai_snapshot::{ApplyOptions, Change, ChangeKind, Ignore, RootFs, WriteOptions, apply_tar, write_tar};

/// Bytes that are deflated together.
const BLOCK: usize = 512 * 1024;
/// Bytes of which it is found out whether deflating makes them shorter.
const PIECE: usize = 4096;
/// Files that a command makes.
const SMALL_FILES: u32 = 50_000;

fn main() {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [blob, folder, copied @ ..] = paths.as_slice() else {
        panic!("a layer's blob, a folder to make files in, and the folders that are copied")
    };
    fs::create_dir_all(folder).unwrap();
    receive(blob);
    let layer = layer(blob);
    let mut hashing = Duration::ZERO;
    let whole = spent(|| {
        let mut hash = Sha256::new();
        pieces(&mut *layer.open_tar().unwrap(), |piece| hashing += spent(|| hash.update(piece)));
        std::hint::black_box(hash.finalize());
    });
    // The layer hashes its tar as well, which takes as long.
    print("base", "inflate", whole.saturating_sub(2 * hashing));
    print("base", "SHA-256 of the tar", hashing);
    drop(layer);
    let model = folder.join("model");
    fs::create_dir(&model).unwrap();
    let root = RootFs::open(&model, Ignore::default()).unwrap();
    apply_tar(&mut MultiGzDecoder::new(open(blob)), &root, &ApplyOptions::default()).unwrap();
    for (number, from) in copied.iter().enumerate() {
        fs::create_dir_all(folder.join(format!("copied/{number}"))).unwrap();
        assert!(model.join(from).is_dir(), "{}", from.display());
    }
    if !copied.is_empty() {
        copies(&copied.iter().map(|from| model.join(from)).collect::<Vec<_>>(), folder);
        fs::remove_dir_all(folder.join("copied")).unwrap();
    }
    let made = floor::take(&model);
    fs::remove_dir_all(&model).unwrap();
    small_files(&folder.join("small"));
    let bare = folder.join("bare");
    fs::create_dir(&bare).unwrap();
    tell("base", "make folders and files", || floor::write_as_many(&made, &bare));
    drop(made);
    let names = floor::names(&bare);
    floor::look(&names);
    tell("base", "look at all of it", || floor::look(&names));
}

fn copies(from: &[PathBuf], folder: &Path) {
    let made: Vec<Vec<Made>> = from.iter().map(|root| floor::take(root)).collect();
    let files: Vec<PathBuf> = from.iter().zip(&made).flat_map(|(root, made)| files_of(root, made)).collect();
    tell("copies", "read the files, twice", || {
        for _ in 0..2 {
            floor::copy(&files, &mut io::sink());
        }
    });
    tell("copies", "make folders and files", || {
        for (number, made) in made.iter().enumerate() {
            floor::write_as_many(made, &folder.join(format!("copied/{number}")));
        }
    });
    let (mut dense, mut other) = (Vec::new(), Vec::new());
    let mut fast = Compressor::new(CompressionLvl::new(1).unwrap());
    let mut little_room = vec![0; fast.deflate_compress_bound(PIECE)];
    for made in made.into_iter().flatten() {
        let Made::File(_, content) = made else { continue };
        for piece in content.chunks(PIECE) {
            let length = fast.deflate_compress(piece, &mut little_room).unwrap();
            let shorter = length < piece.len() * 99 / 100;
            if shorter { &mut other } else { &mut dense }.extend_from_slice(piece);
        }
    }
    tell("copies", "SHA-256 of the tar", || hash(&[&dense, &other]));
    let mut deflated = Vec::with_capacity(other.len());
    tell("copies", "deflate what becomes shorter", || deflate(&other, &mut deflated));
    tell("copies", "SHA-256 of the blob", || hash(&[&dense, &deflated]));
    let path = folder.join("blob");
    tell("copies", "write the blob", || {
        let mut blob = File::create(&path).unwrap();
        for piece in dense.chunks(BLOCK).chain(deflated.chunks(BLOCK)) {
            blob.write_all(piece).unwrap();
        }
    });
    send(&path);
}

/// The blob comes from a server on this machine.
fn receive(blob: &Path) {
    let mut file = File::open(blob).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| io::copy(&mut file, &mut server.accept().unwrap().0).unwrap());
        tell("base", "receive the blob", || pass(&mut stream, &mut io::sink()));
    });
}

/// The blob goes to a server on this machine.
fn send(blob: &Path) {
    let mut file = File::open(blob).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| pass(&mut server.accept().unwrap().0, &mut io::sink()));
        tell("copies", "send the blob", || {
            pass(&mut file, &mut stream);
            stream.shutdown(Shutdown::Both).unwrap();
        });
    });
}

fn pass(from: &mut dyn Read, to: &mut dyn Write) {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = from.read(&mut buffer).unwrap();
        if length == 0 {
            return;
        }
        to.write_all(&buffer[..length]).unwrap();
    }
}

/// Files that a command made are found, read, hashed as a tar and deflated.
fn small_files(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let paths: Vec<PathBuf> = (0..SMALL_FILES).map(|number| PathBuf::from(format!("/f{number:05}"))).collect();
    let files: Vec<PathBuf> = paths.iter().map(|path| folder.join(path.strip_prefix("/").unwrap())).collect();
    for (file, number) in files.iter().zip(1_000_000..) {
        fs::write(file, format!("{number}\n")).unwrap();
    }
    let names = floor::names(folder);
    tell("made", "look at all of it", || floor::look(&names));
    tell("made", "read the files", || floor::copy(&files, &mut io::sink()));
    let changes: Vec<Change> = paths.into_iter().map(|path| Change { path, kind: ChangeKind::Add }).collect();
    let (mut tar, root) = (Vec::new(), RootFs::open(folder, Ignore::default()).unwrap());
    write_tar(&changes, &root, &mut tar, &WriteOptions::default()).unwrap();
    fs::remove_dir_all(folder).unwrap();
    tell("made", "SHA-256 of the tar", || hash(&[&tar]));
    let mut deflated = Vec::new();
    tell("made", "deflate what becomes shorter", || deflate(&tar, &mut deflated));
}

fn hash(parts: &[&[u8]]) {
    let mut hash = Sha256::new();
    parts.iter().flat_map(|part| part.chunks(BLOCK)).for_each(|piece| hash.update(piece));
    std::hint::black_box(hash.finalize());
}

fn deflate(plain: &[u8], to: &mut Vec<u8>) {
    let mut compressor = Compressor::new(CompressionLvl::new(5).unwrap());
    let mut room = vec![0; compressor.deflate_compress_bound(BLOCK)];
    for block in plain.chunks(BLOCK) {
        let length = compressor.deflate_compress(block, &mut room).unwrap();
        to.extend_from_slice(&room[..length]);
    }
}

/// Where the files lie that were taken from there.
fn files_of(root: &Path, made: &[Made]) -> Vec<PathBuf> {
    let (mut files, mut folder) = (Vec::new(), root.to_path_buf());
    for made in made {
        match made {
            Made::Folder(path) => folder = root.join(path),
            Made::File(name, _) => files.push(folder.join(name)),
        }
    }
    files
}

fn open(blob: &Path) -> BufReader<File> {
    BufReader::with_capacity(256 * 1024, File::open(blob).unwrap())
}

/// The blob, in memory, as a layer whose tar is verified by its diff id.
fn layer(blob: &Path) -> Layer {
    let bytes = fs::read(blob).unwrap();
    let mut diff_id = Hasher::new(Algorithm::Sha256);
    pieces(&mut MultiGzDecoder::new(&bytes[..]), |piece| diff_id.update(piece));
    Layer {
        descriptor: Descriptor::of(MediaType::OCI_LAYER_GZIP, &bytes),
        diff_id: diff_id.finish(),
        blob: Arc::new(BytesBlob::new(bytes)),
        origin: None,
    }
}

fn pieces(from: &mut dyn Read, mut each: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return,
            length => each(&buffer[..length]),
        }
    }
}

/// What this thread spent on it, user and system.
fn spent(work: impl FnOnce()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    };
    let before = now();
    work();
    now().saturating_sub(before)
}

fn tell(part: &str, name: &str, work: impl FnOnce()) {
    print(part, name, spent(work));
}

fn print(part: &str, name: &str, took: Duration) {
    println!("floor\t{part}\t{name}\t{}", took.as_secs_f64());
}
