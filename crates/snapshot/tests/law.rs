//! The law: applying the tar of the changes from A to B onto A gives B. Trees and what happens to them are generated;
//! the number of cases of each of the two tests is `PROPTEST_CASES`, 1,000 unless said otherwise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod overlay;
mod world;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use zuwai_snapshot::{
    ApplyOptions, Ignore, Parents, RootFs, Scope, SnapshotMode, Snapshotter, WriteOptions, apply_tar, tree, write_tar,
};

use overlay::Overlay;
use world::{Name, Step, World, paths, step};

/// All that a layer has of one entry, asked of the kernel by other means than the crate's.
#[derive(PartialEq, Eq)]
struct Facts {
    path: PathBuf,
    /// With the bits of the type.
    mode: u32,
    owner: (u32, u32),
    /// In whole seconds, as a layer has it.
    mtime: i64,
    device: u64,
    /// Of a file with several names in the tree, which entry is the first of them.
    first_name: Option<usize>,
    /// Of a file, or the target of a link.
    content: Vec<u8>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Every entry of a tree but the root.
fn picture(root: &Path) -> Vec<Facts> {
    let mut names: HashMap<u64, usize> = HashMap::new();
    let entries = paths(root);
    let entries = entries.iter().skip(1).enumerate().map(|(number, (path, is_folder))| {
        let facts = fs::symlink_metadata(path).unwrap();
        let first_name = (!is_folder).then(|| *names.entry(facts.ino()).or_insert(number));
        let content = if facts.is_symlink() {
            fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()
        } else if facts.is_file() && facts.size() > 0 && first_name == Some(number) {
            fs::read(path).unwrap()
        } else {
            Vec::new()
        };
        Facts {
            path: path.strip_prefix(root).unwrap().to_owned(),
            mode: facts.mode(),
            owner: (facts.uid(), facts.gid()),
            mtime: facts.mtime(),
            device: facts.rdev(),
            first_name,
            content,
            attributes: attributes(path),
        }
    });
    entries.collect()
}

fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = [0; 1024];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut attributes: Vec<_> = names
        .map(|name| {
            let mut value = [0; 1024];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect();
    attributes.sort();
    attributes
}

fn open(path: &Path) -> RootFs {
    fs::create_dir_all(path).unwrap();
    RootFs::open(path, Ignore::default()).unwrap()
}

fn layer(snapshotter: &mut dyn Snapshotter, root: &RootFs, parents: Parents) -> Vec<u8> {
    let changes = snapshotter.changes(root, &Scope::Everywhere).unwrap();
    let mut tar = Vec::new();
    let options = WriteOptions { parents, ..WriteOptions::default() };
    let written = write_tar(&changes, root, &mut tar, &options).unwrap();
    assert!(written.warnings.is_empty(), "{:?}", written.warnings);
    snapshotter.learn(&changes, &written);
    snapshotter.settle(root).unwrap();
    tar
}

fn apply(tar: &[u8], root: &RootFs) -> zuwai_snapshot::Applied {
    apply_tar(&mut &tar[..], root, &ApplyOptions::default()).unwrap()
}

/// The copy is the original. What is not is shown as text.
fn assert_same(expected: &[Facts], original: &RootFs, copy: &RootFs, tar: &[u8]) {
    if expected == picture(copy.path()) {
        return;
    }
    let text = |root: &RootFs| {
        let times = |facts: &Facts| format!("{} {}\n", facts.mtime, facts.path.display());
        tree::render(root).unwrap() + &picture(root.path()).iter().map(times).collect::<String>()
    };
    assert_eq!(text(original), text(copy), "{}", tree::render_tar(&mut &tar[..]).unwrap());
    panic!("the trees differ in what is not shown of them");
}

/// A tree is made in steps, and after each group of steps its layer is put onto a copy that is made of layers alone. The
/// copy's own snapshotter, which was only told what was applied, must know it as it is.
fn follow(groups: &[Vec<Step>], parents: Parents) {
    let tmp = tempfile::tempdir().unwrap();
    let (original, copy) = (open(&tmp.path().join("original")), open(&tmp.path().join("copy")));
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    let mut told = SnapshotMode::Full.snapshotter();
    snapshotter.reset(&original).unwrap();
    snapshotter.settle(&original).unwrap();
    let mut world = World::new(original.path());
    for steps in groups {
        for step in steps {
            world.take(step);
        }
        let tar = layer(&mut *snapshotter, &original, parents);
        told.adopt(&apply(&tar, &copy));
        let expected = picture(original.path());
        assert_same(&expected, &original, &copy, &tar);
        // Twice is as good as once.
        told.adopt(&apply(&tar, &copy));
        assert_same(&expected, &original, &copy, &tar);
        told.settle(&copy).unwrap();
        assert_eq!(told.changes(&copy, &Scope::Everywhere).unwrap(), []);
        assert_eq!(snapshotter.changes(&original, &Scope::Everywhere).unwrap(), []);
    }
}

fn groups() -> impl Strategy<Value = Vec<Vec<Step>>> {
    proptest::collection::vec(proptest::collection::vec(step(), 1..25), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn applying_the_changes_from_a_to_b_onto_a_gives_b(groups in groups()) {
        follow(&groups, Parents::Always);
    }

    #[test]
    fn applying_them_without_the_folders_above_gives_b_as_well(groups in groups()) {
        follow(&groups, Parents::Changed);
    }
}

/// The tree is made in a folder, and the other groups happen on an overlay over it, where a file that is touched becomes
/// another one: it gets another inode if it had several names, and loses them.
fn follow_on_an_overlay(groups: &[Vec<Step>]) {
    let tmp = tempfile::tempdir().unwrap();
    let (lower, copy) = (open(&tmp.path().join("lower")), open(&tmp.path().join("copy")));
    let mut told = SnapshotMode::Full.snapshotter();
    let mut first = SnapshotMode::Full.snapshotter();
    first.reset(&lower).unwrap();
    let (before, groups) = groups.split_first().unwrap();
    let mut world = World::new(lower.path());
    for step in before {
        world.take(step);
    }
    told.adopt(&apply(&layer(&mut *first, &lower, Parents::Always), &copy));
    let overlay = Overlay::mount(lower.path(), tmp.path());
    let original = open(&overlay.0);
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    snapshotter.reset(&original).unwrap();
    snapshotter.settle(&original).unwrap();
    let mut world = World::new(original.path());
    for steps in groups {
        for step in steps {
            world.take(step);
        }
        let tar = layer(&mut *snapshotter, &original, Parents::Always);
        told.adopt(&apply(&tar, &copy));
        assert_same(&picture(original.path()), &original, &copy, &tar);
        told.settle(&copy).unwrap();
        assert_eq!(told.changes(&copy, &Scope::Everywhere).unwrap(), []);
        assert_eq!(snapshotter.changes(&original, &Scope::Everywhere).unwrap(), []);
    }
}

#[test]
fn it_holds_on_an_overlay_over_the_tree() {
    let groups = proptest::collection::vec(proptest::collection::vec(step(), 1..25), 2..4);
    proptest!(ProptestConfig::with_cases(30), |(groups in groups)| follow_on_an_overlay(&groups));
}

fn dir(folder: u16, name: &[u8]) -> Step {
    Step::Dir { folder, name: Name(name.to_vec()) }
}

fn file(folder: u16, name: &[u8]) -> Step {
    Step::File { folder, name: Name(name.to_vec()), content: 0, length: 0 }
}

fn link(folder: u16, name: &[u8]) -> Step {
    Step::Link { folder, name: Name(name.to_vec()), target: 0 }
}

#[test]
fn a_link_becomes_a_file_and_a_folder_of_a_long_name_moves_below_a_link() {
    let groups = [
        vec![link(0, b"a"), dir(0, &[b'n'; 252]), dir(512, b"b")],
        vec![
            file(33043, b"a"),
            link(17752, b"b"),
            Step::Rename { path: 20871, folder: 462, name: Name(b"c".to_vec()) },
        ],
    ];
    follow(&groups, Parents::Always);
}

#[test]
fn a_file_is_made_anew_beside_a_folder_of_a_long_name_in_which_another_is() {
    let groups = [vec![], vec![dir(0, &[b'n'; 98]), file(0, b"a"), file(559, b"aa"), file(0, b"a")]];
    follow(&groups, Parents::Always);
}

#[test]
fn the_same_tree_gives_the_same_bytes_on_one_core_and_on_all() {
    let tmp = tempfile::tempdir().unwrap();
    let steps: Vec<Step> = (0..60)
        .map(|number: u16| Step::File {
            folder: number,
            name: Name(format!("f{}", number % 40).into_bytes()),
            content: 7,
            length: number * 100,
        })
        .collect();
    let layers: Vec<Vec<u8>> = ["one", "two"]
        .map(|name| {
            let root = open(&tmp.path().join(name));
            let mut snapshotter = SnapshotMode::Full.snapshotter();
            snapshotter.reset(&root).unwrap();
            fs::create_dir(root.path().join("folder")).unwrap();
            let mut world = World::new(root.path());
            for step in &steps {
                world.take(step);
            }
            let time = Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 };
            for (path, _) in paths(root.path()) {
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            }
            if name == "two" {
                // How many threads there are is asked of the cores that this thread may run on.
                let all = rustix::thread::sched_getaffinity(None).unwrap();
                let mut one = rustix::thread::CpuSet::new();
                one.set((0..1024).find(|&core| all.is_set(core)).unwrap());
                rustix::thread::sched_setaffinity(None, &one).unwrap();
            }
            layer(&mut *snapshotter, &root, Parents::Always)
        })
        .into();
    assert_eq!(layers[0], layers[1]);
}
