//! COPY's rules, each seen in what `BuildKit` does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use zuwai_snapshot::{Copied, CopyRequest, Ignore, Include, Ownership, Result, RootFs, SnapshotError, copy, tree};

struct Scratch {
    _tmp: tempfile::TempDir,
    source: RootFs,
    target: RootFs,
}

fn scratch() -> Scratch {
    let tmp = tempfile::tempdir().unwrap();
    for name in ["source", "target", "outside"] {
        fs::create_dir(tmp.path().join(name)).unwrap();
    }
    let source = RootFs::open(&tmp.path().join("source"), Ignore::default()).unwrap();
    let target = RootFs::open(&tmp.path().join("target"), Ignore::new(["/proc".into(), "/etc/hosts".into()])).unwrap();
    Scratch { _tmp: tmp, source, target }
}

impl Scratch {
    fn at(&self, path: &str) -> PathBuf {
        self.target.path().join(path)
    }

    fn from(&self, path: &str) -> PathBuf {
        self.source.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.from(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn request(&self, from: &str, to: &str) -> CopyRequest<'_> {
        CopyRequest {
            source: &self.source,
            from: from.into(),
            to: to.into(),
            owner: None,
            mode: None,
            parents: Ownership::default(),
            include: &|_| Include::Yes,
            cancelled: None,
        }
    }

    fn copy(&self, from: &str, to: &str) -> Result<Copied> {
        copy(&self.request(from, to), &self.target)
    }

    fn tree(&self) -> Vec<String> {
        let text = tree::render(&self.target).unwrap();
        text.lines().map(|line| line.split(' ').skip(5).collect::<Vec<_>>().join(" ")).collect()
    }
}

fn paths(copied: &Copied) -> Vec<&str> {
    copied.paths.iter().map(|path| path.to_str().unwrap()).collect()
}

#[test]
fn a_folders_contents_are_merged_and_everything_is_kept() {
    let scratch = scratch();
    scratch.put("d/sub/file", "new");
    scratch.put("d/setuid", "x");
    fs::set_permissions(scratch.from("d/setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    chown(scratch.from("d/setuid"), Some(3), Some(4)).unwrap();
    fs::set_permissions(scratch.from("d/setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(scratch.from("d/sub"), fs::Permissions::from_mode(0o2700)).unwrap();
    fs::hard_link(scratch.from("d/setuid"), scratch.from("d/sub/again")).unwrap();
    symlink("/sub/file", scratch.from("d/link")).unwrap();
    rustix::fs::lsetxattr(scratch.from("d/sub"), "user.note", b"x", XattrFlags::empty()).unwrap();
    let old = UNIX_EPOCH + Duration::from_millis(1_500);
    fs::File::open(scratch.from("d/sub/file")).unwrap().set_modified(old).unwrap();
    fs::File::open(scratch.from("d/sub")).unwrap().set_modified(old).unwrap();
    fs::create_dir(scratch.at("there")).unwrap();
    fs::set_permissions(scratch.at("there"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(scratch.at("there/kept"), "").unwrap();

    let copied = scratch.copy("/d", "/there").unwrap();
    assert_eq!(paths(&copied), ["/there/link", "/there/setuid", "/there/sub", "/there/sub/again", "/there/sub/file"]);
    let facts = |path: &str| fs::symlink_metadata(scratch.at(path)).unwrap();
    assert_eq!(facts("there").mode() & 0o7777, 0o711, "a folder that is there keeps its mode");
    let setuid = facts("there/setuid");
    assert_eq!((setuid.mode() & 0o7777, setuid.uid(), setuid.gid()), (0o6755, 3, 4));
    assert_eq!(setuid.ino(), facts("there/sub/again").ino());
    assert_eq!((facts("there/sub").mode() & 0o7777, facts("there/sub").mtime_nsec()), (0o2700, 500_000_000));
    assert_eq!(facts("there/sub/file").modified().unwrap(), old);
    let text = tree::render(&scratch.target).unwrap();
    assert!(text.contains("there/sub user.note=78\n"), "{text}");
    assert!(text.contains("l 0777 0:0 - - there/link -> /sub/file\n"), "{text}");
}

#[test]
fn a_file_that_is_longer_than_it_says_comes_whole() {
    // Files of the kernel say that they are empty, and come in pieces.
    let (scratch, content) = (scratch(), fs::read("/proc/kallsyms").unwrap());
    assert!(content.len() > 200_000 && fs::metadata("/proc/kallsyms").unwrap().len() == 0);
    let source = RootFs::open(Path::new("/proc"), Ignore::default()).unwrap();
    let request = CopyRequest { source: &source, ..scratch.request("/kallsyms", "/kallsyms") };
    copy(&request, &scratch.target).unwrap();
    assert!(fs::read(scratch.at("kallsyms")).unwrap() == content);
}

#[test]
fn new_parents_get_the_ownership_and_files_the_owner_and_mode() {
    let scratch = scratch();
    scratch.put("d/sub/file", "x");
    symlink("x", scratch.from("d/link")).unwrap();
    fs::set_permissions(scratch.from("d"), fs::Permissions::from_mode(0o700)).unwrap();
    let request = CopyRequest {
        owner: Some((12, 13)),
        mode: Some("u=rwX,go=rX".parse().unwrap()),
        parents: Ownership { uid: 12, gid: 13, mode: 0o750 },
        ..scratch.request("/d", "/a/b")
    };
    let copied = copy(&request, &scratch.target).unwrap();
    assert_eq!(paths(&copied), ["/a", "/a/b", "/a/b/link", "/a/b/sub", "/a/b/sub/file"]);
    let text: Vec<String> = tree::render(&scratch.target)
        .unwrap()
        .lines()
        .map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(text, ["d 0750 12:13", "d 0750 12:13", "l 0777 12:13", "d 0755 12:13", "f 0644 12:13"]);
}

#[test]
fn links_in_the_destination_are_followed_inside_the_target() {
    let scratch = scratch();
    scratch.put("file", "new");
    fs::create_dir(scratch.at("real")).unwrap();
    fs::write(scratch.at("real/old"), "old").unwrap();
    symlink("/real", scratch.at("dir-link")).unwrap();
    symlink("real/old", scratch.at("file-link")).unwrap();
    symlink("/made/later", scratch.at("dangling")).unwrap();
    symlink("../../outside", scratch.at("escape")).unwrap();
    assert_eq!(paths(&scratch.copy("/file", "/dir-link/x").unwrap()), ["/real/x"]);
    assert_eq!(paths(&scratch.copy("/file", "/file-link").unwrap()), ["/real/old"]);
    assert_eq!(paths(&scratch.copy("/file", "/dangling").unwrap()), ["/made", "/made/later"]);
    assert_eq!(paths(&scratch.copy("/file", "/escape/x").unwrap()), ["/outside", "/outside/x"]);
    assert_eq!(fs::read_to_string(scratch.at("real/old")).unwrap(), "new");
    assert!(fs::symlink_metadata(scratch.at("file-link")).unwrap().is_symlink());
}

#[test]
fn a_named_link_of_the_source_is_followed_inside_the_source() {
    let scratch = scratch();
    scratch.put("d/file", "x");
    symlink("/d", scratch.from("absolute")).unwrap();
    symlink("../../../etc/passwd", scratch.from("escape")).unwrap();
    scratch.copy("/absolute", "/to").unwrap();
    assert_eq!(scratch.tree(), ["to", "to/file"]);
    let error = scratch.copy("/escape", "/x").unwrap_err();
    assert_eq!(error.to_string(), "copy /escape");
}

#[test]
fn what_is_not_included_is_left_out_and_empty_folders_are_not_made_for_it() {
    let scratch = scratch();
    for path in ["a/x", "a/y", "b/x", "c/d/y", "e/f/z"] {
        scratch.put(path, "");
    }
    let include = |path: &Path| match path.to_str().unwrap() {
        "a" | "c" | "c/d" | "e" | "e/f" => Include::Below,
        "a/x" | "b" | "b/x" | "c/d/y" => Include::Yes,
        _ => Include::No,
    };
    let request = CopyRequest { include: &include, ..scratch.request("/", "/to") };
    let copied = copy(&request, &scratch.target).unwrap();
    assert_eq!(paths(&copied), ["/to", "/to/a", "/to/a/x", "/to/b", "/to/b/x", "/to/c", "/to/c/d", "/to/c/d/y"]);
}

#[test]
fn folders_and_files_do_not_replace_each_other() {
    let scratch = scratch();
    scratch.put("d/x", "");
    scratch.put("file", "");
    fs::write(scratch.at("file"), "").unwrap();
    fs::create_dir_all(scratch.at("to/x")).unwrap();
    let error = |from: &str, to: &str| scratch.copy(from, to).unwrap_err().to_string();
    assert_eq!(error("/d", "/file"), "/file: something that is not a folder is in the way of a folder");
    assert_eq!(error("/d", "/to"), "/to/x: a folder is in the way of something that is not a folder");
    assert_eq!(error("/file", "/to/x"), "/to/x: a folder is in the way of something that is not a folder");
    assert_eq!(error("/none", "/to/y"), "copy /none");
    symlink("x", scratch.at("to/sub")).unwrap();
    scratch.put("e/sub/file", "");
    assert_eq!(error("/e", "/to"), "/to/sub: something that is not a folder is in the way of a folder");
}

#[test]
fn pipes_and_devices_are_copied_and_sockets_told_of() {
    let scratch = scratch();
    fs::create_dir(scratch.from("d")).unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, scratch.from("d/pipe"), FileType::Fifo, Mode::from(0o640), 0).unwrap();
    rustix::fs::mknodat(CWD, scratch.from("d/null"), FileType::CharacterDevice, Mode::from(0o600), null).unwrap();
    drop(UnixListener::bind(scratch.from("d/socket")).unwrap());
    let copied = scratch.copy("/d", "/d").unwrap();
    assert_eq!(paths(&copied), ["/d", "/d/null", "/d/pipe"]);
    assert_eq!(copied.warnings, ["sockets are not part of an image and were left out: /d/socket"]);
    assert!(fs::symlink_metadata(scratch.at("d/pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn what_is_ignored_is_an_error_by_name_and_a_warning_within_a_folder() {
    let scratch = scratch();
    scratch.put("root/etc/hosts", "image");
    scratch.put("root/etc/passwd", "root");
    fs::create_dir(scratch.from("root/proc")).unwrap();
    symlink("/proc", scratch.at("link")).unwrap();
    fs::create_dir(scratch.at("proc")).unwrap();
    for to in ["/proc/x", "/link/x", "/proc"] {
        assert!(matches!(scratch.copy("/root", to), Err(SnapshotError::Ignored { .. })), "{to}");
    }
    let copied = scratch.copy("/root", "/").unwrap();
    assert_eq!(paths(&copied), ["/etc", "/etc/passwd"]);
    assert_eq!(copied.warnings.len(), 1);
    assert!(copied.warnings[0].ends_with(": /etc/hosts"), "{:?}", copied.warnings);
}
