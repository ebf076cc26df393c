//! The law: applying the tar of the changes from A to B onto A gives B. Trees and what happens to them are generated;
//! the number of cases is `PROPTEST_CASES`, 2,000 unless said otherwise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use zuwai_snapshot::{
    ApplyOptions, Ignore, Parents, RootFs, Scope, SnapshotMode, Snapshotter, WriteOptions, apply_tar, tree, write_tar,
};

/// Something that happens to a tree. Numbers choose among the paths there are.
#[derive(Debug, Clone)]
enum Step {
    File { folder: u16, name: Name, content: u8, length: u16 },
    Dir { folder: u16, name: Name },
    Link { folder: u16, name: Name, target: u8 },
    HardLink { folder: u16, name: Name, of: u16 },
    Pipe { folder: u16, name: Name },
    Device { folder: u16, name: Name },
    Remove { path: u16 },
    Rename { path: u16, folder: u16, name: Name },
    Overwrite { path: u16, content: u8, keep_time: bool },
    Mode { path: u16, mode: u16 },
    Owner { path: u16, uid: u32, gid: u32 },
    Time { path: u16, seconds: i32, nanoseconds: u32 },
    Attribute { path: u16, value: Vec<u8> },
    NoAttribute { path: u16 },
    DefaultAcl { path: u16 },
}

#[derive(Debug, Clone)]
struct Name(Vec<u8>);

fn name() -> impl Strategy<Value = Name> {
    let byte = any::<u8>().prop_filter("neither NUL nor slash", |byte| *byte != 0 && *byte != b'/');
    prop_oneof![
        8 => "[a-d]{1,2}".prop_map(String::into_bytes),
        2 => "[a.]{1,3}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(byte, 1..20),
        1 => (80_usize..=255).prop_map(|length| vec![b'n'; length]),
    ]
    .prop_filter("a name", |name| name != b"." && name != b".." && !name.starts_with(b".wh."))
    .prop_map(Name)
}

fn step() -> impl Strategy<Value = Step> {
    let any_path = any::<u16>;
    prop_oneof![
        6 => (any_path(), name(), any::<u8>(), prop_oneof![Just(0_u16), 1_u16..20, any::<u16>()])
            .prop_map(|(folder, name, content, length)| Step::File { folder, name, content, length }),
        4 => (any_path(), name()).prop_map(|(folder, name)| Step::Dir { folder, name }),
        2 => (any_path(), name(), any::<u8>())
            .prop_map(|(folder, name, target)| Step::Link { folder, name, target }),
        3 => (any_path(), name(), any_path()).prop_map(|(folder, name, of)| Step::HardLink { folder, name, of }),
        1 => (any_path(), name()).prop_map(|(folder, name)| Step::Pipe { folder, name }),
        1 => (any_path(), name()).prop_map(|(folder, name)| Step::Device { folder, name }),
        4 => any_path().prop_map(|path| Step::Remove { path }),
        3 => (any_path(), any_path(), name()).prop_map(|(path, folder, name)| Step::Rename { path, folder, name }),
        3 => (any_path(), any::<u8>(), any::<bool>())
            .prop_map(|(path, content, keep_time)| Step::Overwrite { path, content, keep_time }),
        3 => (any_path(), 0_u16..0o10000).prop_map(|(path, mode)| Step::Mode { path, mode }),
        2 => (any_path(), prop_oneof![0_u32..3, Just(3_000_000)], 0_u32..3)
            .prop_map(|(path, uid, gid)| Step::Owner { path, uid, gid }),
        2 => (any_path(), any::<i32>(), 0_u32..1_000_000_000)
            .prop_map(|(path, seconds, nanoseconds)| Step::Time { path, seconds, nanoseconds }),
        2 => (any_path(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(path, value)| Step::Attribute { path, value }),
        1 => any_path().prop_map(|path| Step::NoAttribute { path }),
        1 => any_path().prop_map(|path| Step::DefaultAcl { path }),
    ]
}

/// Every path below a folder, the folder itself first.
fn paths(root: &Path) -> Vec<PathBuf> {
    let mut paths = vec![root.to_path_buf()];
    let mut at = 0;
    while at < paths.len() {
        if fs::symlink_metadata(&paths[at]).unwrap().is_dir() {
            let mut below: Vec<PathBuf> =
                fs::read_dir(&paths[at]).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            paths.extend(below);
        }
        at += 1;
    }
    paths
}

/// Does a step; one that makes no sense here does nothing.
fn take(step: &Step, root: &Path) {
    let all = paths(root);
    let any = |number: &u16| all[usize::from(*number) % all.len()].clone();
    let folder = |number: &u16| {
        let folders: Vec<&PathBuf> = all.iter().filter(|path| fs::symlink_metadata(path).unwrap().is_dir()).collect();
        folders[usize::from(*number) % folders.len()].clone()
    };
    let new = |number: &u16, name: &Name| folder(number).join(OsStr::from_bytes(&name.0));
    let private = Mode::from(0o644);
    match step {
        Step::File { folder, name, content, length } => {
            let path = new(folder, name);
            if !path.is_dir() {
                let _ = fs::remove_file(&path);
                let _ = fs::write(path, vec![*content; usize::from(*length)]);
            }
        }
        Step::Dir { folder, name } => drop(fs::create_dir(new(folder, name))),
        Step::Link { folder, name, target } => {
            let targets = ["a", "/a/b", "../../..", "/", ".", "gone/and/gone", "b\u{e4}", &"long/".repeat(30)];
            let _ = symlink(targets[usize::from(*target) % targets.len()], new(folder, name));
        }
        Step::HardLink { folder, name, of } => drop(fs::hard_link(any(of), new(folder, name))),
        Step::Pipe { folder, name } => drop(rustix::fs::mknodat(CWD, new(folder, name), FileType::Fifo, private, 0)),
        Step::Device { folder, name } => {
            let number = rustix::fs::makedev(1, 3);
            let _ = rustix::fs::mknodat(CWD, new(folder, name), FileType::CharacterDevice, private, number);
        }
        Step::Remove { path } => {
            let path = any(path);
            if path != root {
                let _ = fs::remove_file(&path);
                let _ = fs::remove_dir_all(&path);
            }
        }
        Step::Rename { path, folder, name } => {
            let path = any(path);
            if path != root {
                let _ = fs::rename(&path, new(folder, name));
            }
        }
        Step::Overwrite { path, content, keep_time } => {
            let path = any(path);
            let facts = fs::symlink_metadata(&path).unwrap();
            if facts.is_file() {
                let length = usize::try_from(facts.size()).unwrap();
                fs::write(&path, vec![*content; length]).unwrap();
                if *keep_time {
                    fs::File::open(&path).unwrap().set_modified(facts.modified().unwrap()).unwrap();
                }
            }
        }
        Step::Mode { path, mode } => {
            let path = any(path);
            if !fs::symlink_metadata(&path).unwrap().is_symlink() {
                fs::set_permissions(&path, fs::Permissions::from_mode(u32::from(*mode))).unwrap();
            }
        }
        Step::Owner { path, uid, gid } => lchown(any(path), Some(*uid), Some(*gid)).unwrap(),
        Step::Time { path, seconds, nanoseconds } => {
            // From 1902 to 2038, which every filesystem has.
            let time = Timespec { tv_sec: i64::from(*seconds), tv_nsec: i64::from(*nanoseconds) };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, any(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        Step::Attribute { path, value } => {
            let _ = rustix::fs::lsetxattr(any(path), "user.note", value, XattrFlags::empty());
        }
        Step::NoAttribute { path } => drop(rustix::fs::lremovexattr(any(path), "user.note")),
        Step::DefaultAcl { path } => {
            if any(path) == root {
                return;
            }
            // user::rwx, user:5:r--, group::r-x, mask::r-x, other::---, for what is made in it.
            let entries: [(u16, u16, u32); 5] = [(1, 7, !0), (2, 4, 5), (4, 5, !0), (0x10, 5, !0), (0x20, 0, !0)];
            let mut acl = 2_u32.to_le_bytes().to_vec();
            for (tag, permissions, id) in entries {
                acl.extend(tag.to_le_bytes());
                acl.extend(permissions.to_le_bytes());
                acl.extend(id.to_le_bytes());
            }
            let _ = rustix::fs::lsetxattr(any(path), "system.posix_acl_default", &acl, XattrFlags::empty());
        }
    }
}

/// The tree as text, with times in whole seconds, as a layer has them.
fn picture(root: &RootFs) -> String {
    let mut picture = tree::render(root).unwrap();
    for path in paths(root.path()).iter().skip(1) {
        let facts = fs::symlink_metadata(path).unwrap();
        let name = path.strip_prefix(root.path()).unwrap().as_os_str().as_bytes().escape_ascii();
        let _ = writeln!(picture, "{} {name}", facts.mtime());
    }
    picture
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

/// A tree is made in steps, and after each group of steps its layer is put onto a copy that is made of layers alone. The
/// copy's own snapshotter, which was only told what was applied, must know it as it is.
fn follow(groups: &[Vec<Step>], parents: Parents) {
    let tmp = tempfile::tempdir().unwrap();
    let (original, copy) = (open(&tmp.path().join("original")), open(&tmp.path().join("copy")));
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    let mut told = SnapshotMode::Full.snapshotter();
    snapshotter.reset(&original).unwrap();
    snapshotter.settle(&original).unwrap();
    for steps in groups {
        for step in steps {
            take(step, original.path());
        }
        let tar = layer(&mut *snapshotter, &original, parents);
        told.adopt(&apply(&tar, &copy));
        assert_eq!(picture(&original), picture(&copy), "{}", tree::render_tar(&mut &tar[..]).unwrap());
        // Twice is as good as once.
        told.adopt(&apply(&tar, &copy));
        assert_eq!(picture(&original), picture(&copy));
        told.settle(&copy).unwrap();
        assert_eq!(told.changes(&copy, &Scope::Everywhere).unwrap(), []);
        assert_eq!(snapshotter.changes(&original, &Scope::Everywhere).unwrap(), []);
    }
}

/// Half of them each of the two tests.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000) / 2
}

fn groups() -> impl Strategy<Value = Vec<Vec<Step>>> {
    proptest::collection::vec(proptest::collection::vec(step(), 1..25), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn applying_the_changes_from_a_to_b_onto_a_gives_b(groups in groups()) {
        follow(&groups, Parents::Always);
    }

    #[test]
    fn applying_them_without_the_folders_above_gives_b_as_well(groups in groups()) {
        follow(&groups, Parents::Changed);
    }
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
            for step in &steps {
                take(step, root.path());
            }
            let time = Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 };
            for path in paths(root.path()) {
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
