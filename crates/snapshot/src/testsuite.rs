//! The exam that every [`Snapshotter`] must pass, whatever is behind it: a table of things that happen to a tree, and what
//! must be found of each.
//!
//! A test of an implementation is one call of [`Case::run`] for each of [`CASES`]. The exam makes device files and changes
//! owners, so it runs as root.

#![allow(clippy::unwrap_used, reason = "an exam fails by panicking, as tests do")]

mod tree;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode};

use tree::{
    break_link, change_places, chown_to_the_same, long_ago, mode, not_text, overwrite_unseen, plant, rename_over,
    rename_over_unseen, set_attribute, set_time,
};

use crate::{ChangeKind, Ignore, RootFs, Scope, SnapshotMode, Snapshotter, WriteOptions, write_tar};

/// Something that happens to a tree, and what must be found.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What happens, as a sentence.
    pub name: &'static str,
    /// Does it, to the folder given.
    happen: fn(&Path),
    /// What every mode that promises it must find: `A`, `M`, `D` or `L` and the path, one each.
    found: &'static [&'static str],
    /// The modes that promise it.
    by: Promise,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Every mode.
    All,
    /// Those that look at more than the time.
    FullAndRedo,
    /// The exact one.
    Full,
}

const fn case(name: &'static str, by: Promise, happen: fn(&Path), found: &'static [&'static str]) -> Case {
    Case { name, happen, found, by }
}

/// Everything that happens in the exam.
pub const CASES: &[Case] = &[
    case("nothing", Promise::All, |_| {}, &[]),
    case("a file is overwritten with its size and time kept", Promise::Full, overwrite_unseen, &["M /etc/passwd"]),
    case("a file is renamed over another", Promise::All, rename_over, &["M /etc", "M /etc/passwd"]),
    case(
        "a file of the same size and time is renamed over another",
        Promise::Full,
        rename_over_unseen,
        &["M /etc/passwd"],
    ),
    case(
        "a hard link is added",
        Promise::All,
        |root| fs::hard_link(root.join("etc/passwd"), root.join("etc/link")).unwrap(),
        &["M /etc", "A /etc/link", "L /etc/passwd"],
    ),
    case(
        "a hard link is added in another folder",
        Promise::All,
        |root| fs::hard_link(root.join("etc/passwd"), root.join("srv/link")).unwrap(),
        &["L /etc/passwd", "M /srv", "A /srv/link"],
    ),
    case(
        "a hard link is removed",
        Promise::All,
        |root| fs::remove_file(root.join("usr/bin/link")).unwrap(),
        &["M /usr/bin", "D /usr/bin/link"],
    ),
    case(
        "a hard link is renamed",
        Promise::All,
        |root| fs::rename(root.join("usr/bin/link"), root.join("usr/bin/other")).unwrap(),
        &["M /usr/bin", "D /usr/bin/link", "A /usr/bin/other", "L /usr/bin/tool"],
    ),
    case(
        "a hard link becomes a file of its own with the same content",
        Promise::Full,
        break_link,
        &["M /usr/bin/link"],
    ),
    case(
        "a file's content changes through another name",
        Promise::All,
        |root| fs::write(root.join("usr/bin/link"), "else").unwrap(),
        &["M /usr/bin/link", "M /usr/bin/tool"],
    ),
    case("a folder is made", Promise::All, |root| fs::create_dir(root.join("new")).unwrap(), &["A /new"]),
    case(
        "a tree is made",
        Promise::All,
        |root| {
            fs::create_dir_all(root.join("new/a/b")).unwrap();
            fs::write(root.join("new/a/b/file"), "x").unwrap();
            symlink("a", root.join("new/link")).unwrap();
        },
        &["A /new", "A /new/a", "A /new/a/b", "A /new/a/b/file", "A /new/link"],
    ),
    case("a mode changes", Promise::FullAndRedo, |root| mode(&root.join("etc/passwd"), 0o600), &["M /etc/passwd"]),
    case("a folder becomes sticky", Promise::FullAndRedo, |root| mode(&root.join("empty"), 0o1777), &["M /empty"]),
    case(
        "an owner changes",
        Promise::FullAndRedo,
        |root| chown(root.join("etc/passwd"), Some(12), None).unwrap(),
        &["M /etc/passwd"],
    ),
    case(
        "a link's owner changes",
        Promise::FullAndRedo,
        |root| lchown(root.join("bin"), None, Some(7)).unwrap(),
        &["M /bin"],
    ),
    case(
        "an extended attribute is set",
        Promise::Full,
        |root| set_attribute(&root.join("etc/passwd"), "user.note", b"a\0b\n"),
        &["M /etc/passwd"],
    ),
    case(
        "a folder's extended attribute is set",
        Promise::Full,
        |root| set_attribute(&root.join("empty"), "user.note", b"x"),
        &["M /empty"],
    ),
    case(
        "an extended attribute is removed",
        Promise::Full,
        |root| rustix::fs::lremovexattr(root.join("usr/share/doc/a"), "user.note").unwrap(),
        &["M /usr/share/doc/a"],
    ),
    case(
        "a capability is set",
        Promise::Full,
        // Version 2, effective, CAP_NET_RAW.
        |root| {
            let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
            set_attribute(&root.join("usr/bin/tool"), "security.capability", capability);
        },
        &["M /usr/bin/link", "M /usr/bin/tool"],
    ),
    case(
        "an ACL is set",
        Promise::Full,
        |root| {
            // user::rw-, user:5:r--, group::r--, mask::r--, other::r--: what mode 0644 says, and one user more.
            let acl: Vec<u8> = [(1, 6, !0), (2, 4, 5), (4, 4, !0), (0x10, 4, !0), (0x20, 4, !0_u32)]
                .iter()
                .flat_map(|&(tag, permissions, id): &(u16, u16, u32)| {
                    [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
                })
                .collect();
            let acl = [&2_u32.to_le_bytes()[..], &acl].concat();
            set_attribute(&root.join("etc/passwd"), "system.posix_acl_access", &acl);
        },
        &["M /etc/passwd"],
    ),
    case(
        "a default ACL is set",
        Promise::Full,
        |root| {
            // user::rwx, group::r-x, other::r-x.
            let acl = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x05\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff";
            set_attribute(&root.join("empty"), "system.posix_acl_default", acl);
        },
        &["M /empty"],
    ),
    case(
        "a time is moved back",
        Promise::All,
        |root| set_time(&root.join("etc/passwd"), UNIX_EPOCH + Duration::from_secs(5)),
        &["M /etc/passwd"],
    ),
    case(
        "a time moves by a nanosecond",
        Promise::All,
        |root| set_time(&root.join("etc/passwd"), long_ago() + Duration::from_nanos(1)),
        &["M /etc/passwd"],
    ),
    case(
        "a file is cut and grows again",
        Promise::Full,
        |root| {
            let file = fs::File::options().write(true).open(root.join("etc/passwd")).unwrap();
            file.set_len(1).unwrap();
            file.set_len(4).unwrap();
            file.set_modified(long_ago()).unwrap();
        },
        &["M /etc/passwd"],
    ),
    case(
        "a file is written through a mapping and its time put back",
        Promise::Full,
        |root| {
            crate::mapping::overwrite(&root.join("etc/passwd")).unwrap();
            set_time(&root.join("etc/passwd"), long_ago());
        },
        &["M /etc/passwd"],
    ),
    case(
        "a file becomes a folder",
        Promise::All,
        |root| {
            fs::remove_file(root.join("etc/hosts")).unwrap();
            fs::create_dir(root.join("etc/hosts")).unwrap();
            fs::write(root.join("etc/hosts/x"), "").unwrap();
        },
        &["M /etc", "M /etc/hosts", "A /etc/hosts/x"],
    ),
    case(
        "a file becomes a link",
        Promise::All,
        |root| {
            fs::remove_file(root.join("etc/hosts")).unwrap();
            symlink("passwd", root.join("etc/hosts")).unwrap();
        },
        &["M /etc", "M /etc/hosts"],
    ),
    case(
        "a link becomes a file",
        Promise::All,
        |root| {
            fs::remove_file(root.join("bin")).unwrap();
            fs::write(root.join("bin"), "usr/bin").unwrap();
        },
        &["M /bin"],
    ),
    case(
        "a folder becomes a file",
        Promise::All,
        |root| {
            fs::remove_dir_all(root.join("usr/share")).unwrap();
            fs::write(root.join("usr/share"), "").unwrap();
        },
        &["M /usr", "M /usr/share"],
    ),
    case(
        "a folder becomes a link",
        Promise::All,
        |root| {
            fs::remove_dir_all(root.join("usr/share")).unwrap();
            symlink("bin", root.join("usr/share")).unwrap();
        },
        &["M /usr", "M /usr/share"],
    ),
    case(
        "a link becomes a folder",
        Promise::All,
        |root| {
            fs::remove_file(root.join("bin")).unwrap();
            fs::create_dir(root.join("bin")).unwrap();
            fs::write(root.join("bin/sh"), "#!").unwrap();
        },
        &["M /bin", "A /bin/sh"],
    ),
    case(
        "a link points elsewhere with its time kept",
        Promise::Full,
        |root| {
            fs::remove_file(root.join("bin")).unwrap();
            symlink("usr/nib", root.join("bin")).unwrap();
            set_time(&root.join("bin"), long_ago());
        },
        &["M /bin"],
    ),
    case(
        "two files of the same size and time change places",
        Promise::Full,
        |root| change_places(root, "etc/passwd", "usr/bin/tool"),
        &["M /etc/passwd", "L /usr/bin/link", "M /usr/bin/tool"],
    ),
    case(
        "two folders change places",
        Promise::All,
        |root| change_places(root, "usr/bin", "usr/share"),
        &[
            "A /usr/bin/doc",
            "A /usr/bin/doc/a",
            "A /usr/bin/doc/b",
            "D /usr/bin/link",
            "D /usr/bin/tool",
            "D /usr/share/doc",
            "A /usr/share/link",
            "A /usr/share/tool",
        ],
    ),
    case(
        "a folder is renamed",
        Promise::All,
        |root| fs::rename(root.join("usr/share"), root.join("usr/other")).unwrap(),
        &["M /usr", "A /usr/other", "A /usr/other/doc", "A /usr/other/doc/a", "A /usr/other/doc/b", "D /usr/share"],
    ),
    case(
        "a folder is renamed and renamed back",
        Promise::All,
        |root| {
            fs::rename(root.join("usr/share"), root.join("usr/other")).unwrap();
            fs::rename(root.join("usr/other"), root.join("usr/share")).unwrap();
            set_time(&root.join("usr"), long_ago());
        },
        &[],
    ),
    case("a folder is deleted", Promise::All, |root| fs::remove_dir_all(root.join("usr")).unwrap(), &["D /usr"]),
    case(
        "a folder is deleted and made anew",
        Promise::All,
        |root| {
            fs::remove_dir_all(root.join("usr/share")).unwrap();
            fs::create_dir(root.join("usr/share")).unwrap();
            fs::write(root.join("usr/share/new"), "").unwrap();
        },
        &["M /usr", "M /usr/share", "D /usr/share/doc", "A /usr/share/new"],
    ),
    case(
        "a device and a pipe are made",
        Promise::All,
        |root| {
            let null = rustix::fs::makedev(1, 3);
            let private = Mode::from(0o600);
            rustix::fs::mknodat(CWD, root.join("null"), FileType::CharacterDevice, private, null).unwrap();
            rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, private, 0).unwrap();
        },
        &["A /null", "A /pipe"],
    ),
    case(
        "a device gets another number",
        Promise::Full,
        |root| {
            fs::remove_file(root.join("srv/device")).unwrap();
            let zero = rustix::fs::makedev(1, 5);
            let device = root.join("srv/device");
            rustix::fs::mknodat(CWD, &device, FileType::CharacterDevice, Mode::from(0o600), zero).unwrap();
            mode(&device, 0o600);
            set_time(&device, long_ago());
            set_time(&root.join("srv"), long_ago());
        },
        &["M /srv/device"],
    ),
    case("a socket is made", Promise::All, |root| drop(UnixListener::bind(root.join("socket"))), &["A /socket"]),
    case(
        "a file becomes a socket",
        Promise::All,
        |root| {
            fs::remove_file(root.join("etc/hosts")).unwrap();
            drop(UnixListener::bind(root.join("etc/hosts")));
            assert!(fs::symlink_metadata(root.join("etc/hosts")).unwrap().file_type().is_socket());
        },
        &["M /etc", "D /etc/hosts"],
    ),
    case(
        "a file with holes is made",
        Promise::All,
        |root| fs::File::create(root.join("holes")).unwrap().set_len(1 << 30).unwrap(),
        &["A /holes"],
    ),
    case(
        "a name is not text",
        Promise::All,
        |root| fs::write(root.join(std::ffi::OsStr::new(not_text())), "").unwrap(),
        &["A /\u{fffd}(\u{fffd}"],
    ),
    case("owners are set to what they are", Promise::All, chown_to_the_same, &[]),
    case(
        "a time is moved and moved back",
        Promise::All,
        |root| {
            set_time(&root.join("etc/passwd"), SystemTime::now());
            set_time(&root.join("etc/passwd"), long_ago());
        },
        &[],
    ),
    case(
        "a file is written anew with the same bytes and time",
        Promise::All,
        |root| {
            fs::remove_file(root.join("etc/passwd")).unwrap();
            fs::write(root.join("etc/passwd"), "root").unwrap();
            mode(&root.join("etc/passwd"), 0o644);
            set_time(&root.join("etc/passwd"), long_ago());
            set_time(&root.join("etc"), long_ago());
        },
        &[],
    ),
    case(
        "a file comes and goes",
        Promise::All,
        |root| {
            fs::write(root.join("etc/passing"), "").unwrap();
            fs::remove_file(root.join("etc/passing")).unwrap();
            set_time(&root.join("etc"), long_ago());
        },
        &[],
    ),
];

impl Case {
    /// Whether a snapshotter of that mode must pass.
    pub fn is_promised_by(&self, mode: SnapshotMode) -> bool {
        match self.by {
            Promise::All => true,
            Promise::FullAndRedo => mode != SnapshotMode::Time,
            Promise::Full => mode == SnapshotMode::Full,
        }
    }

    /// Makes a tree in an empty folder, lets the case happen to it and asks a snapshotter that knows of nothing yet for what
    /// happened there, by [`Scope::Everywhere`] or by [`Scope::Watched`]. After that nothing more may be found: not at once,
    /// and not when every owner is set to what it is.
    ///
    /// # Panics
    /// The snapshotter found something else than it must, or failed.
    pub fn run(&self, mut snapshotter: Box<dyn Snapshotter>, folder: &Path, scope: &Scope) {
        plant(folder);
        let root = RootFs::open(folder, Ignore::default()).unwrap();
        snapshotter.reset(&root).unwrap();
        snapshotter.settle(&root).unwrap();
        if *scope == Scope::Watched {
            assert_eq!(snapshotter.changes(&root, scope).unwrap(), [], "{}: found before it happened", self.name);
            snapshotter.settle(&root).unwrap();
        }
        (self.happen)(folder);
        let changes = snapshotter.changes(&root, scope).unwrap();
        let text: Vec<String> = changes
            .iter()
            .map(|change| {
                let letter = match change.kind {
                    ChangeKind::Add => 'A',
                    ChangeKind::Modify => 'M',
                    ChangeKind::Delete => 'D',
                    ChangeKind::Linked => 'L',
                };
                format!("{letter} {}", change.path.display())
            })
            .collect();
        assert_eq!(text, self.found, "{}", self.name);

        let written = write_tar(&changes, &root, &mut std::io::sink(), &WriteOptions::default()).unwrap();
        snapshotter.learn(&changes, &written);
        snapshotter.settle(&root).unwrap();
        let again = snapshotter.changes(&root, scope).unwrap();
        assert_eq!(again, [], "{}: found twice", self.name);
        chown_to_the_same(folder);
        let again = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
        assert_eq!(again, [], "{}: what was packed was not learned", self.name);
        assert!(snapshotter.missed().is_empty(), "{}: nobody told of {:?}", self.name, snapshotter.missed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indexed::Indexed;

    fn sit(make: impl Fn(SnapshotMode) -> Box<dyn Snapshotter>, mode: SnapshotMode) {
        for case in CASES.iter().filter(|case| case.is_promised_by(mode)) {
            let folder = tempfile::tempdir().unwrap();
            case.run(make(mode), folder.path(), &Scope::Everywhere);
            let folder = tempfile::tempdir().unwrap();
            case.run(make(mode), folder.path(), &Scope::Watched);
        }
    }

    #[test]
    fn full_passes() {
        sit(SnapshotMode::snapshotter, SnapshotMode::Full);
    }

    #[test]
    fn redo_passes() {
        sit(SnapshotMode::snapshotter, SnapshotMode::Redo);
    }

    #[test]
    fn time_passes() {
        sit(SnapshotMode::snapshotter, SnapshotMode::Time);
    }

    #[test]
    fn full_passes_where_no_ctime_is_believed() {
        sit(|mode| Box::new(Indexed::distrustful(mode)), SnapshotMode::Full);
    }

    #[test]
    fn full_passes_on_tmpfs_whose_ctime_cannot_be_believed() {
        let folder = tempfile::tempdir().unwrap();
        let _mounted = crate::scratch::mount_tmpfs(folder.path(), "64m");
        for (number, case) in CASES.iter().enumerate() {
            let folder = folder.path().join(number.to_string());
            fs::create_dir(&folder).unwrap();
            case.run(SnapshotMode::Full.snapshotter(), &folder, &Scope::Watched);
        }
    }
}
