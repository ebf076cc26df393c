//! Trees and what happens to them, generated: for the law of layers, and for the comparison with other packers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// Something that happens to a tree. Numbers choose among the paths there are.
#[derive(Debug, Clone)]
pub(crate) enum Step {
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
    Capability { path: u16, bits: u8 },
}

#[derive(Debug, Clone)]
pub(crate) struct Name(pub(crate) Vec<u8>);

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

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let any_path = any::<u16>;
    prop_oneof![
        6 => (any_path(), name(), any::<u8>(), length())
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
        1 => (any_path(), any::<u8>()).prop_map(|(path, bits)| Step::Capability { path, bits }),
    ]
}

/// Mostly short, around the blocks of an archive, and now and then longer than any buffer of a page.
fn length() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(0_u16), 6 => 1_u16..20, 4 => 505_u16..520, 2 => 1000_u16..2100, 1 => any::<u16>()]
}

/// Every path below a folder, the folder itself first, and whether it is a folder.
pub(crate) fn paths(root: &Path) -> Vec<(PathBuf, bool)> {
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
pub(crate) struct World {
    paths: Vec<(PathBuf, bool)>,
}

impl World {
    pub(crate) fn new(root: &Path) -> Self {
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
    pub(crate) fn take(&mut self, step: &Step) {
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
            | Step::DefaultAcl { path }
            | Step::Capability { path, .. } => *path,
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
        Step::Capability { bits, .. } => {
            // Version 2, effective: what setcap writes. A file alone can have it.
            let capability = [&b"\x01\0\0\x02"[..], &[*bits], &[0; 15]].concat();
            if fs::symlink_metadata(path).unwrap().is_file() {
                rustix::fs::lsetxattr(path, "security.capability", &capability, XattrFlags::empty()).unwrap();
            }
        }
        _ => unreachable!("that makes, moves or removes something"),
    }
}
