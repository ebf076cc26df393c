//! Layers held to those that containerd itself writes for the same change, byte for byte: trees and what happens to them are
//! generated. containerd's `archive` package is what `BuildKit` packs layers with.
//!
//! What is left out of the comparison is different on purpose, and is tested elsewhere:
//!
//! * extended attributes other than `security.capability`, which containerd drops;
//! * a file of the same size and time with another content, which it overlooks, and a name that became a link of another
//!   file with the same;
//! * a folder of which only the time changed, which it overlooks. It stands in no layer unless something in it changed;
//! * the time of whiteouts: containerd 1.6 writes the time of day, as of version 2 it is 0.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use zuwai_lab::Containerd;
use zuwai_snapshot::{Ignore, RootFs, Scope, SnapshotMode, WriteOptions, tree, write_tar};

use world::{Step, World, paths, step};

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Gives every file a time of its own, some of them in whole seconds, so that a time says which file it is.
fn set_times(root: &Path) {
    let mut known = BTreeSet::new();
    for (number, (path, _)) in (0_i64..).zip(paths(root).into_iter().rev()) {
        if known.insert(fs::symlink_metadata(&path).unwrap().ino()) {
            set_time(&path, 1_500_000_000 + number * 10, number % 3 * 100_000_001);
        }
    }
}

/// Each folder's names and time.
fn folders(root: &Path) -> BTreeMap<PathBuf, (Vec<OsString>, i64, i64)> {
    let folders = paths(root).into_iter().filter(|(_, is_folder)| *is_folder).map(|(path, _)| {
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let facts = fs::symlink_metadata(&path).unwrap();
        (path, (names, facts.mtime(), facts.mtime_nsec()))
    });
    folders.collect()
}

fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_folder = path.symlink_metadata().unwrap().is_dir();
        if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    lchown(folder, Some(0), Some(0)).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// With the time 0 in the headers of whiteouts, and of what looks like one but for the name: the name may be in another
/// header.
fn without_times_of_whiteouts(mut tar: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at + 512 <= tar.len() {
        let block = &mut tar[at..at + 512];
        let number = |field: &[u8]| {
            let text = std::str::from_utf8(field).unwrap().trim_matches(['\0', ' ']);
            usize::from_str_radix(text, 8).unwrap_or(0)
        };
        let size = number(&block[124..136]);
        // Mode, owner, group and size.
        if block[156] == b'0' && [100..108, 108..116, 116..124, 124..136].map(|field| number(&block[field])) == [0; 4] {
            block[136..147].fill(b'0');
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        at += 512 + size.next_multiple_of(512);
    }
    tar
}

fn compare(containerd: &Containerd, before: &[Step], steps: &[Step]) {
    let (old, new) = (containerd.before(), containerd.now());
    empty(old);
    empty(new);
    let mut world = World::new(new);
    for step in before {
        world.take(step);
    }
    set_times(new);
    let status = Command::new("cp").args(["-a", "--"]).arg(new.join(".")).arg(old).status().unwrap();
    assert!(status.success(), "cp -a: {status}");
    let folders_before = folders(new);

    let root = RootFs::open(new, Ignore::default()).unwrap();
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    snapshotter.reset(&root).unwrap();
    snapshotter.settle(&root).unwrap();
    for step in steps {
        world.take(step);
    }
    for (path, (names, _, _)) in folders(new) {
        if let Some((old_names, seconds, nanoseconds)) = folders_before.get(&path)
            && names == *old_names
        {
            set_time(&path, *seconds, *nanoseconds);
        }
    }
    let changes = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
    let mut ours = Vec::new();
    write_tar(&changes, &root, &mut ours, &WriteOptions::default()).unwrap();
    let ours = without_times_of_whiteouts(ours);
    let theirs = without_times_of_whiteouts(containerd.diff().unwrap());
    if ours != theirs {
        let text = |tar: &[u8]| tree::render_tar(&mut &*tar).unwrap();
        assert_eq!(text(&theirs), text(&ours), "containerd's on the left; {changes:#?}");
        let at = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs).unwrap_or(0);
        let shown = |tar: &[u8]| tar[at / 512 * 512 + 100..][..257].escape_ascii().to_string();
        panic!("the same entries in other bytes, from {at} on: {}\n{}\n{}", shown(&theirs), shown(&ours), text(&ours));
    }
}

/// Steps that do nothing of which containerd writes something else on purpose.
fn plain_step() -> impl Strategy<Value = Step> {
    step().prop_filter("what containerd overlooks", |step| {
        !matches!(
            step,
            Step::Attribute { .. }
                | Step::NoAttribute { .. }
                | Step::DefaultAcl { .. }
                | Step::Overwrite { keep_time: true, .. }
        )
    })
}

#[test]
fn layers_are_what_containerd_writes_for_the_same_change_byte_for_byte() {
    let containerd = Containerd::start().unwrap();
    let steps = || proptest::collection::vec(plain_step(), 1..25);
    proptest!(ProptestConfig::with_cases(100), |(before in steps(), steps in steps())| {
        compare(&containerd, &before, &steps);
    });
}
