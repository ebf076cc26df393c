//! What COPY makes of a file does not depend on the umask, which is the whole process's: so this test has a file of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use rustix::fs::{Mode, XattrFlags};
use zuwai_snapshot::{CopyRequest, Ignore, Include, Ownership, RootFs, copy};

#[test]
fn a_file_is_what_it_was_whatever_the_umask_and_the_group_of_the_folder() {
    let tmp = tempfile::tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    let sizes = [0, 1, 65_535, 65_536, 65_537, 200_000];
    fs::create_dir(&from).unwrap();
    for size in sizes {
        let path = from.join(size.to_string());
        fs::write(&path, &"0123456789abcdef".repeat(size / 16 + 1)[..size]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4666)).unwrap();
    }
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    rustix::fs::lsetxattr(from.join("1"), "security.capability", capability, XattrFlags::empty()).unwrap();
    fs::create_dir(&to).unwrap();
    chown(&to, None, Some(7)).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o2755)).unwrap();
    fs::write(to.join("0"), "old and longer").unwrap();
    symlink("/outside", to.join("1")).unwrap();

    rustix::process::umask(Mode::from(0o077));
    let [source, target] = [&from, &to].map(|path| RootFs::open(path, Ignore::default()).unwrap());
    let request = CopyRequest {
        source: &source,
        from: "/".into(),
        to: "/".into(),
        owner: None,
        mode: None,
        parents: Ownership::default(),
        include: &|_| Include::Yes,
        cancelled: None,
    };
    copy(&request, &target).unwrap();
    for size in sizes {
        let (from, to) = (from.join(size.to_string()), to.join(size.to_string()));
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap(), "{size}");
        let facts = fs::symlink_metadata(&to).unwrap();
        let expected = (0o104_666, 0, 0, fs::metadata(&from).unwrap().modified().unwrap());
        assert_eq!((facts.mode(), facts.uid(), facts.gid(), facts.modified().unwrap()), expected, "{size}");
    }
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(to.join("1"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(&value[..length], capability);
}
