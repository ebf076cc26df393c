//! A layer of everything that is awkward in a tar archive, held to the digest of what containerd 1.6.20 (`ctr snapshots
//! diff`, the packer that `BuildKit` uses) wrote for the same changes. `containerd.rs` asks it anew, for generated changes.
//!
//! The `BuildKit` within dockerd 20.10 packs otherwise, with Docker's older packer: modes with the bits of the type, names of
//! owners as the machine of the build has them, whiteouts of mode 0600 with the time of day, opaque markers, and files that
//! were copied up without a change. 160 layers of the images that it built of this project's test cases were applied and
//! written anew: 122 have the same entries, and all of these are the same bytes but for those bits and names. The other 38
//! differ in whiteouts, opaque markers, what was copied up, and in `/etc`, where it makes room for its own mounts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use sha2::{Digest, Sha256};
use zuwai_snapshot::{Ignore, RootFs, Scope, SnapshotMode, WriteOptions, tree, write_tar};

const CONTAINERD: &str = "78541603ba272c44a2b2174ea210e583bb4075717323ff38a74e3b1ec4a632d3";

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Every entry, what is in a folder before the folder.
fn each(folder: &Path, visit: &dyn Fn(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            each(&entry.path(), visit);
        }
        visit(&entry.path());
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

fn folder(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn before(root: &Path) {
    for name in ["etc", "etc/sub", "usr", "usr/bin", "a", "a/b"] {
        folder(&root.join(name));
    }
    write(&root.join("etc/passwd"), b"a\n");
    write(&root.join("etc/sub/x"), b"b\n");
    write(&root.join("usr/bin/t"), b"c\n");
    symlink("t", root.join("usr/bin/l")).unwrap();
    each(root, &|path| set_time(path, 1_577_836_800, 0));
}

fn change(root: &Path) {
    let new = root.join("new");
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    write(&root.join("etc/sub/x"), b"b\nzz\n");
    fs::set_permissions(root.join("usr/bin/t"), fs::Permissions::from_mode(0o4755)).unwrap();
    folder(&new);
    folder(&new.join("deep"));
    write(&new.join("big"), &vec![b'q'; 100_000]);
    fs::hard_link(new.join("big"), new.join("aaa")).unwrap();
    symlink("../x", new.join("l")).unwrap();
    symlink("y".repeat(150), new.join("longlink")).unwrap();
    let deep = new.join("d".repeat(90)).join("d".repeat(90));
    folder(deep.parent().unwrap());
    folder(&deep);
    write(&deep.join("f"), b"1\n");
    write(&deep.join("g".repeat(110)), b"2\n");
    write(&deep.join("h".repeat(98)), b"3\n");
    write(&new.join("gr\\xc3\\xbcn"), b"u\n");
    write(&new.join("\u{fc}"), b"u");
    folder(&new.join("d\u{fc}"));
    write(&new.join(OsStr::from_bytes(b"\xff\xfe")), b"r");
    let (null, readable) = (rustix::fs::makedev(1, 3), Mode::from(0o644));
    rustix::fs::mknodat(CWD, new.join("null"), FileType::CharacterDevice, readable, null).unwrap();
    rustix::fs::mknodat(CWD, new.join("pipe"), FileType::Fifo, readable, 0).unwrap();
    for name in ["null", "pipe"] {
        fs::set_permissions(new.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    write(&new.join("owner"), b"o\n");
    chown(new.join("owner"), Some(3_000_000), Some(5)).unwrap();
    for path in [new.join("cap"), deep.join("aacapaacap12")] {
        write(&path, b"c\n");
        rustix::fs::lsetxattr(path, "security.capability", capability, XattrFlags::empty()).unwrap();
    }
    let young = |path: &Path| {
        let kept = ["etc/passwd", "usr/bin/t", "usr/bin/l", "usr/bin", "usr", "a", "a/b", "etc", "etc/sub"];
        if !kept.iter().any(|kept| path == root.join(kept)) {
            set_time(path, 1_620_191_105, 700_000_000);
        }
    };
    each(root, &young);
    set_time(&new.join("owner"), -157_766_400, 0);
    set_time(&new.join("deep"), 10_413_792_000, 0);
}

#[test]
fn the_layer_is_what_containerd_writes_byte_for_byte() {
    let tmp = tempfile::tempdir().unwrap();
    before(tmp.path());
    let root = RootFs::open(tmp.path(), Ignore::default()).unwrap();
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    snapshotter.reset(&root).unwrap();
    snapshotter.settle(&root).unwrap();
    change(tmp.path());
    let changes = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
    let mut tar = Vec::new();
    write_tar(&changes, &root, &mut tar, &WriteOptions::default()).unwrap();
    let digest = Sha256::digest(&tar).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(digest, CONTAINERD, "\n{}", tree::render_tar(&mut &tar[..]).unwrap());
}
