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

/// Every path below a folder, the folder itself first, and whether it is a folder.
fn paths(root: &Path) -> Vec<(PathBuf, bool)> {
    let mut paths = vec![(root.to_path_buf(), true)];
    let mut at = 0;
    while at < paths.len() {
        let (path, is_folder) = &paths[at];
        if *is_folder {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
            let mut below: Vec<(PathBuf, bool)> =
                entries.map(|entry| (entry.path(), entry.file_type().unwrap().is_dir())).collect();
            below.sort();
            paths.extend(below);
        }
        at += 1;
    }
    paths
}

/// A tree that things happen to, and its paths, so that nobody has to look for them at each step.
struct World {
    paths: Vec<(PathBuf, bool)>,
}

impl World {
    fn new(root: &Path) -> Self {
        Self { paths: paths(root) }
    }

    fn root(&self) -> &Path {
        &self.paths[0].0
    }

    fn any(&self, number: u16) -> PathBuf {
        self.paths[usize::from(number) % self.paths.len()].0.clone()
    }

    /// A path of that name in a folder that the number chooses.
    fn new_path(&self, number: u16, name: &Name) -> PathBuf {
        let count = self.paths.iter().filter(|(_, is_folder)| *is_folder).count();
        let mut folders = self.paths.iter().filter(|(_, is_folder)| *is_folder);
        let (folder, _) = folders.nth(usize::from(number) % count).unwrap();
        folder.join(OsStr::from_bytes(&name.0))
    }

    /// Something was made, if it was.
    fn made(&mut self, path: PathBuf, is_folder: bool, made: bool) {
        if made && !self.paths.iter().any(|(known, _)| *known == path) {
            self.paths.push((path, is_folder));
        }
    }

    /// Does a step; one that makes no sense here does nothing.
    fn take(&mut self, step: &Step) {
        let private = Mode::from(0o644);
        match step {
            Step::File { folder, name, content, length } => {
                let path = self.new_path(*folder, name);
                if !path.is_dir() {
                    let _ = fs::remove_file(&path);
                    let made = fs::write(&path, vec![*content; usize::from(*length)]).is_ok();
                    self.made(path, false, made);
                }
            }
            Step::Dir { folder, name } => {
                let path = self.new_path(*folder, name);
                let made = fs::create_dir(&path).is_ok();
                self.made(path, true, made);
            }
            Step::Link { folder, name, target } => {
                let targets = ["a", "/a/b", "../../..", "/", ".", "gone/and/gone", "b\u{e4}", &"long/".repeat(30)];
                let path = self.new_path(*folder, name);
                let made = symlink(targets[usize::from(*target) % targets.len()], &path).is_ok();
                self.made(path, false, made);
            }
            Step::HardLink { folder, name, of } => {
                let path = self.new_path(*folder, name);
                let made = fs::hard_link(self.any(*of), &path).is_ok();
                self.made(path, false, made);
            }
            Step::Pipe { folder, name } => {
                let path = self.new_path(*folder, name);
                let made = rustix::fs::mknodat(CWD, &path, FileType::Fifo, private, 0).is_ok();
                self.made(path, false, made);
            }
            Step::Device { folder, name } => {
                let path = self.new_path(*folder, name);
                let number = rustix::fs::makedev(1, 3);
                let made = rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, private, number).is_ok();
                self.made(path, false, made);
            }
            Step::Remove { path } => {
                let path = self.any(*path);
                if path != self.root() {
                    let _ = fs::remove_file(&path);
                    let _ = fs::remove_dir_all(&path);
                    self.paths.retain(|(known, _)| !known.starts_with(&path));
                }
            }
            Step::Rename { path, folder, name } => {
                let path = self.any(*path);
                if path != self.root() && fs::rename(&path, self.new_path(*folder, name)).is_ok() {
                    *self = Self::new(self.root());
                }
            }
            Step::DefaultAcl { path } if self.any(*path) == self.root() => {}
            step => dress(step, &self.any(step.number())),
        }
    }
}

impl Step {
    /// Which path something happens to.
    fn number(&self) -> u16 {
        match self {
            Step::Overwrite { path, .. }
            | Step::Mode { path, .. }
            | Step::Owner { path, .. }
            | Step::Time { path, .. }
            | Step::Attribute { path, .. }
            | Step::NoAttribute { path }
            | Step::DefaultAcl { path } => *path,
            _ => 0,
        }
    }
}

/// What happens to an entry that stays where it is.
fn dress(step: &Step, path: &Path) {
    match step {
        Step::Overwrite { content, keep_time, .. } => {
            let facts = fs::symlink_metadata(path).unwrap();
            if facts.is_file() {
                let length = usize::try_from(facts.size()).unwrap();
                fs::write(path, vec![*content; length]).unwrap();
                if *keep_time {
                    fs::File::open(path).unwrap().set_modified(facts.modified().unwrap()).unwrap();
                }
            }
        }
        Step::Mode { mode, .. } => {
            if !fs::symlink_metadata(path).unwrap().is_symlink() {
                fs::set_permissions(path, fs::Permissions::from_mode(u32::from(*mode))).unwrap();
            }
        }
        Step::Owner { uid, gid, .. } => lchown(path, Some(*uid), Some(*gid)).unwrap(),
        Step::Time { seconds, nanoseconds, .. } => {
            // From 1902 to 2038, which every filesystem has.
            let time = Timespec { tv_sec: i64::from(*seconds), tv_nsec: i64::from(*nanoseconds) };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        Step::Attribute { value, .. } => {
            let _ = rustix::fs::lsetxattr(path, "user.note", value, XattrFlags::empty());
        }
        Step::NoAttribute { .. } => drop(rustix::fs::lremovexattr(path, "user.note")),
        Step::DefaultAcl { .. } => {
            // user::rwx, user:5:r--, group::r-x, mask::r-x, other::---, for what is made in it.
            let entries: [(u16, u16, u32); 5] = [(1, 7, !0), (2, 4, 5), (4, 5, !0), (0x10, 5, !0), (0x20, 0, !0)];
            let mut acl = 2_u32.to_le_bytes().to_vec();
            for (tag, permissions, id) in entries {
                acl.extend(tag.to_le_bytes());
                acl.extend(permissions.to_le_bytes());
                acl.extend(id.to_le_bytes());
            }
            let _ = rustix::fs::lsetxattr(path, "system.posix_acl_default", &acl, XattrFlags::empty());
        }
        _ => unreachable!("that makes, moves or removes something"),
    }
}

/// The tree as text, with times in whole seconds, as a layer has them.
fn picture(root: &RootFs) -> String {
    let mut picture = tree::render(root).unwrap();
    for (path, _) in paths(root.path()).iter().skip(1) {
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
    let mut world = World::new(original.path());
    for steps in groups {
        for step in steps {
            world.take(step);
        }
        let tar = layer(&mut *snapshotter, &original, parents);
        told.adopt(&apply(&tar, &copy));
        let expected = picture(&original);
        assert_eq!(expected, picture(&copy), "{}", tree::render_tar(&mut &tar[..]).unwrap());
        // Twice is as good as once.
        told.adopt(&apply(&tar, &copy));
        assert_eq!(expected, picture(&copy));
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
