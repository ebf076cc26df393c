//! A look at what the kernel told of finds what a look at everything finds: whatever happens to a generated tree.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod overlay;
mod world;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use zuwai_snapshot::{Ignore, RootFs, Scope, SnapshotMode, Snapshotter, WriteOptions, write_tar};

use overlay::Overlay;
use world::{Step, World, step};

/// What is found by a look at what was told, after something happened to a tree, and that everybody finds the same: who asks
/// for everything, who is told, and who is told and then asks for everything. Of the tree all was known.
fn found(ignore: &[&str], before: impl Fn(&Path), happens: impl Fn(&Path)) -> Vec<String> {
    let tmp = tempfile::tempdir().unwrap();
    before(tmp.path());
    let root = RootFs::open(tmp.path(), Ignore::new(ignore.iter().map(PathBuf::from))).unwrap();
    let scopes =
        [(Scope::Everywhere, Scope::Everywhere), (Scope::Watched, Scope::Watched), (Scope::Watched, Scope::Everywhere)];
    let mut all = scopes.map(|(first, second)| {
        let mut snapshotter = SnapshotMode::Full.snapshotter();
        snapshotter.reset(&root).unwrap();
        assert_eq!(snapshotter.changes(&root, &first).unwrap(), []);
        snapshotter.settle(&root).unwrap();
        (snapshotter, second)
    });
    happens(tmp.path());
    let [changes, told, audited] = all.each_mut().map(|(snapshotter, scope)| {
        let changes = snapshotter.changes(&root, scope).unwrap();
        assert_eq!(snapshotter.missed(), [] as [PathBuf; 0], "all was told");
        changes
    });
    assert_eq!((&told, &audited), (&changes, &changes));
    changes.iter().map(|change| change.path.display().to_string()).collect()
}

#[test]
fn folders_change_places_in_which_others_have_the_same_name() {
    let make = |root: &Path| {
        for path in ["a/x/y/one", "b/x/y/two"] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "").unwrap();
        }
    };
    let changes = found(&[], make, |root| {
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        let (a, b) = (root.join("a"), root.join("b"));
        rustix::fs::renameat_with(rustix::fs::CWD, a, rustix::fs::CWD, b, exchange).unwrap();
    });
    let files = ["/a/x/y/one", "/a/x/y/two", "/b/x/y/one", "/b/x/y/two"];
    assert!(files.iter().all(|&file| changes.iter().any(|change| change == file)), "{changes:?}");
}

#[test]
fn a_file_comes_into_a_folder_that_only_led_to_something_ignored() {
    let make = |root: &Path| {
        fs::create_dir_all(root.join("known/two/ignored")).unwrap();
        fs::write(root.join("known/else"), "").unwrap();
    };
    let changes = found(&["/known/two/ignored"], make, |root| fs::write(root.join("known/two/file"), "").unwrap());
    assert_eq!(changes, ["/known/two", "/known/two/file"]);
}

#[test]
fn a_file_of_one_name_gets_another_and_is_written_by_that() {
    let make = |root: &Path| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("c")).unwrap();
        fs::write(root.join("a/b/file"), "1").unwrap();
    };
    let changes = found(&[], make, |root| {
        fs::hard_link(root.join("a/b/file"), root.join("c/file")).unwrap();
        fs::write(root.join("c/file"), "2").unwrap();
    });
    assert_eq!(changes, ["/a/b/file", "/c", "/c/file"]);
}

/// Three look at one tree after each group of steps, and must find the same: one asks for everything each time, one is told,
/// and one does this and that in turns and misses nothing.
fn follow(groups: &[Vec<Step>], ignore: &[&str]) {
    let tmp = tempfile::tempdir().unwrap();
    follow_in(tmp.path(), groups, ignore);
}

fn follow_in(folder: &Path, groups: &[Vec<Step>], ignore: &[&str]) {
    let root = RootFs::open(folder, Ignore::new(ignore.iter().map(PathBuf::from))).unwrap();
    let mut all: [Box<dyn Snapshotter>; 3] = std::array::from_fn(|_| SnapshotMode::Full.snapshotter());
    for snapshotter in &mut all {
        snapshotter.reset(&root).unwrap();
        snapshotter.settle(&root).unwrap();
    }
    let mut world = World::new(folder);
    for (number, steps) in groups.iter().enumerate() {
        for step in steps {
            world.take(step);
            if unlink_hidden(folder, ignore) {
                world = World::new(folder);
            }
        }
        let [everywhere, watched, in_turns] = &mut all;
        let changes = everywhere.changes(&root, &Scope::Everywhere).unwrap();
        assert_eq!(watched.changes(&root, &Scope::Watched).unwrap(), changes, "after group {number}");
        let scope = if number % 2 == 0 { Scope::Watched } else { Scope::Everywhere };
        assert_eq!(in_turns.changes(&root, &scope).unwrap(), changes, "after group {number}");
        for snapshotter in [watched, in_turns] {
            assert_eq!(snapshotter.missed(), [] as [PathBuf; 0], "after group {number}");
        }
        let written = write_tar(&changes, &root, &mut std::io::sink(), &WriteOptions::default()).unwrap();
        for snapshotter in &mut all {
            snapshotter.learn(&changes, &written);
            snapshotter.settle(&root).unwrap();
        }
    }
    let [_, watched, _] = &mut all;
    assert_eq!(watched.changes(&root, &Scope::Everywhere).unwrap(), []);
    assert_eq!(watched.missed(), [] as [PathBuf; 0]);
}

/// Takes names out of ignored folders that are not the only ones of their files, and says whether there were any: what is done to
/// a file by a name that nobody watches is told to nobody, and left to the look at everything to find.
fn unlink_hidden(root: &Path, ignore: &[&str]) -> bool {
    let root = root.canonicalize().unwrap();
    let mut folders: Vec<PathBuf> = ignore.iter().map(|path| root.join(&path[1..])).collect();
    // What a link leads to is not ignored, and perhaps not in the tree.
    folders.retain(|path| path.parent().is_some_and(|above| above.canonicalize().is_ok_and(|real| real == above)));
    let mut any = false;
    while let Some(path) = folders.pop() {
        match fs::symlink_metadata(&path) {
            Ok(facts) if facts.is_dir() => {
                folders.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            Ok(facts) if facts.nlink() > 1 => {
                fs::remove_file(&path).unwrap();
                any = true;
            }
            _ => {}
        }
    }
    any
}

fn groups() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let first = proptest::collection::vec(step(), 10..40);
    (first, proptest::collection::vec(proptest::collection::vec(step(), 0..6), 2..8)).prop_map(|(first, mut groups)| {
        groups.insert(0, first);
        groups
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_was_told_is_all_that_happened(groups in groups()) {
        follow(&groups, &[]);
    }

    #[test]
    fn and_so_beside_what_is_ignored(groups in groups()) {
        follow(&groups, &["/a", "/b/c", "/d/a/b"]);
    }
}

#[test]
fn it_is_so_on_an_overlay_over_the_tree() {
    proptest!(ProptestConfig::with_cases(40), |(groups in groups())| {
        let tmp = tempfile::tempdir().unwrap();
        let lower = tmp.path().join("lower");
        fs::create_dir(&lower).unwrap();
        let (before, groups) = groups.split_first().unwrap();
        let mut world = World::new(&lower);
        for step in before {
            world.take(step);
        }
        let overlay = Overlay::mount(&lower, tmp.path());
        follow_in(&overlay.0, groups, &[]);
    });
}
