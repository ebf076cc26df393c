//! The tree of the exam, and what happens to it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, XattrFlags};

/// The time that every entry of the exam's tree bears.
pub(super) fn long_ago() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_600_000_000)
}

pub(super) fn plant(root: &Path) {
    for folder in ["etc", "usr/bin", "usr/share/doc", "empty", "srv"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (file, content) in [("etc/passwd", "root"), ("etc/hosts", "local"), ("usr/bin/tool", "tool")] {
        fs::write(root.join(file), content).unwrap();
        mode(&root.join(file), 0o644);
    }
    fs::write(root.join("usr/share/doc/a"), "a").unwrap();
    fs::write(root.join("usr/share/doc/b"), "").unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/link")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    set_attribute(&root.join("usr/share/doc/a"), "user.note", b"x");
    let (private, null) = (Mode::from(0o600), rustix::fs::makedev(1, 3));
    rustix::fs::mknodat(CWD, root.join("srv/device"), FileType::CharacterDevice, private, null).unwrap();
    mode(&root.join("srv/device"), 0o600);
    each(root, &mut |path| set_time(path, long_ago()));
}

/// Every entry below a folder, what is in a folder before the folder.
pub(super) fn each(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            each(&entry.path(), visit);
        }
        visit(&entry.path());
    }
}

pub(super) fn overwrite_unseen(root: &Path) {
    let mut file = fs::File::options().write(true).open(root.join("etc/passwd")).unwrap();
    file.write_all(b"toor").unwrap();
    file.set_modified(long_ago()).unwrap();
}

pub(super) fn rename_over(root: &Path) {
    fs::write(root.join("etc/new"), "other").unwrap();
    fs::rename(root.join("etc/new"), root.join("etc/passwd")).unwrap();
}

pub(super) fn rename_over_unseen(root: &Path) {
    fs::write(root.join("etc/new"), "toor").unwrap();
    mode(&root.join("etc/new"), 0o644);
    set_time(&root.join("etc/new"), long_ago());
    fs::rename(root.join("etc/new"), root.join("etc/passwd")).unwrap();
    set_time(&root.join("etc"), long_ago());
}

/// With the times of the folders above put back.
pub(super) fn change_places(root: &Path, left: &str, right: &str) {
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(CWD, root.join(left), CWD, root.join(right), exchange).unwrap();
    for name in [left, right] {
        set_time(root.join(name).parent().unwrap(), long_ago());
    }
}

pub(super) fn break_link(root: &Path) {
    fs::remove_file(root.join("usr/bin/link")).unwrap();
    fs::write(root.join("usr/bin/link"), "tool").unwrap();
    mode(&root.join("usr/bin/link"), 0o644);
    set_time(&root.join("usr/bin/link"), long_ago());
    set_time(&root.join("usr/bin"), long_ago());
}

pub(super) fn chown_to_the_same(root: &Path) {
    each(root, &mut |path| {
        let facts = fs::symlink_metadata(path).unwrap();
        let has_attributes = facts.file_type().is_file() && facts.mode() & 0o6000 == 0;
        let capability = has_attributes.then(|| attribute(path, "security.capability")).flatten();
        lchown(path, Some(facts.uid()), Some(facts.gid())).unwrap();
        if facts.mode() & 0o6000 != 0 {
            mode(path, facts.mode() & 0o7777);
        }
        // A new owner, even the old one, takes the capability away.
        if let Some(capability) = capability {
            set_attribute(path, "security.capability", &capability);
        }
    });
}

pub(super) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(super) fn set_time(path: &Path, time: SystemTime) {
    let since = i128::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    rustix::fs::utimensat(CWD, path, &crate::place::times(since), AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub(super) fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

pub(super) fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

pub(super) fn not_text() -> &'static std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(b"\xff(\xfe")
}
