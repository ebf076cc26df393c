//! What a look must not miss, and what it must not tell.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use zuwai_snapshot::{
    ApplyOptions, Change, ChangeKind, Ignore, RootFs, Scope, SnapshotError, SnapshotMode, Snapshotter, WriteOptions,
    apply_tar, tree, write_tar,
};

fn open(path: &Path, ignore: &[&str]) -> RootFs {
    RootFs::open(path, Ignore::new(ignore.iter().map(PathBuf::from))).unwrap()
}

const MODES: [SnapshotMode; 3] = [SnapshotMode::Full, SnapshotMode::Redo, SnapshotMode::Time];

fn known(root: &RootFs) -> Box<dyn Snapshotter> {
    known_by(SnapshotMode::Full, root)
}

fn known_by(mode: SnapshotMode, root: &RootFs) -> Box<dyn Snapshotter> {
    let mut snapshotter = mode.snapshotter();
    snapshotter.reset(root).unwrap();
    snapshotter.settle(root).unwrap();
    snapshotter
}

fn look(snapshotter: &mut dyn Snapshotter, root: &RootFs) -> Vec<String> {
    text(&snapshotter.changes(root, &Scope::Everywhere).unwrap())
}

fn text(changes: &[Change]) -> Vec<String> {
    let letter = |change: &Change| match change.kind {
        ChangeKind::Add => 'A',
        ChangeKind::Modify => 'M',
        ChangeKind::Delete => 'D',
        ChangeKind::Linked => 'L',
    };
    changes.iter().map(|change| format!("{} {}", letter(change), change.path.display())).collect()
}

/// Overwrites a file with bytes of the same number and puts its time back, as fast as can be after each look.
fn overwrite_unseen(times: u32, settle: bool) {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("file");
    fs::write(&path, "0000").unwrap();
    let root = open(tmp.path(), &[]);
    let mut snapshotter = known(&root);
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    for round in 0..times {
        file.rewind().unwrap();
        write!(file, "{:04x}", round % 0xffff + 1).unwrap();
        file.set_modified(time).unwrap();
        let changes = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
        assert_eq!(text(&changes), ["M /file"], "missed in round {round}");
        let written = write_tar(&changes, &root, &mut std::io::sink(), &WriteOptions::default()).unwrap();
        snapshotter.learn(&changes, &written);
        if settle {
            snapshotter.settle(&root).unwrap();
        }
    }
}

#[test]
fn no_overwrite_is_missed_when_each_begins_as_soon_as_the_look_before_it_is_settled() {
    overwrite_unseen(10_000, true);
}

#[test]
fn no_overwrite_is_missed_even_by_who_does_not_wait_for_that() {
    // Without settling, entries as young as this are hashed.
    overwrite_unseen(10_000, false);
}

#[test]
fn a_time_in_the_future_is_not_believed() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("file");
    fs::write(&path, "abcd").unwrap();
    let future = SystemTime::now() + Duration::from_secs(1_000_000);
    fs::File::open(&path).unwrap().set_modified(future).unwrap();
    let root = open(tmp.path(), &[]);
    let mut snapshotter = known(&root);
    fs::write(&path, "dcba").unwrap();
    fs::File::open(&path).unwrap().set_modified(future).unwrap();
    assert_eq!(look(&mut *snapshotter, &root), ["M /file"]);
}

#[test]
fn a_mount_that_appears_hides_nothing_and_adds_nothing() {
    MODES.into_iter().for_each(a_mount_appears);
}

fn a_mount_appears(mode: SnapshotMode) {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir_all(tmp.path().join("d/below")).unwrap();
    fs::write(tmp.path().join("d/below/file"), "x").unwrap();
    fs::write(tmp.path().join("other"), "x").unwrap();
    let root = open(tmp.path(), &[]);
    let mut snapshotter = known_by(mode, &root);
    let at = tmp.path().join("d");
    rustix::mount::mount("tmpfs", &at, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    fs::write(at.join("secret"), "s").unwrap();
    fs::write(tmp.path().join("other"), "y").unwrap();
    let seen = look(&mut *snapshotter, &root);
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(seen, ["M /other"], "{mode}");
    fs::write(tmp.path().join("d/below/file"), "changed").unwrap();
    assert_eq!(look(&mut *snapshotter, &root), ["M /d/below/file"], "{mode}: what was hidden is known still");
}

#[test]
fn a_file_that_something_is_mounted_over_is_neither_changed_nor_gone() {
    for mode in MODES {
        let tmp = tempfile::tempdir().unwrap();
        let at = tmp.path().join("hosts");
        fs::write(&at, "own").unwrap();
        fs::write(tmp.path().join("other"), "somebody's").unwrap();
        let root = open(tmp.path(), &[]);
        let mut snapshotter = known_by(mode, &root);
        rustix::mount::mount_bind(tmp.path().join("other"), &at).unwrap();
        let hidden = look(&mut *snapshotter, &root);
        rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(hidden, [""; 0], "{mode}");
        fs::write(&at, "changed").unwrap();
        assert_eq!(look(&mut *snapshotter, &root), ["M /hosts"], "{mode}: what was hidden is known still");
    }
}

/// Kaniko's documentation of `--snapshot-mode`: with `redo` the time, size, mode, owner and group of a file decide, with
/// `time` its time alone.
#[test]
fn redo_reads_no_content_and_time_looks_at_nothing_but_the_time() {
    type Happening = (&'static str, fn(&Path), &'static [&'static str]);
    let happen: [Happening; 3] = [
        ("content", |path| fs::write(path, "dcba").unwrap(), &[]),
        ("mode", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o4711)).unwrap(), &["M /file"]),
        ("size", |path| fs::write(path, "longer").unwrap(), &["M /file"]),
    ];
    for mode in [SnapshotMode::Redo, SnapshotMode::Time] {
        for (what, happen, found) in happen {
            let tmp = tempfile::tempdir().unwrap();
            let path = tmp.path().join("file");
            fs::write(&path, "abcd").unwrap();
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            let root = open(tmp.path(), &[]);
            let mut snapshotter = known_by(mode, &root);
            happen(&path);
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
            let found = if mode == SnapshotMode::Redo { found } else { &[] };
            assert_eq!(look(&mut *snapshotter, &root), *found, "{mode}: {what}");
            fs::File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(look(&mut *snapshotter, &root), ["M /file"], "{mode}: the time");
        }
    }
}

#[test]
fn what_is_ignored_is_never_told_and_a_folder_that_leads_there_only_with_something_in_it() {
    let tmp = tempfile::tempdir().unwrap();
    let root = open(tmp.path(), &["/work", "/etc/hosts", "/var/run/secrets"]);
    let mut snapshotter = known(&root);
    fs::create_dir_all(tmp.path().join("work/deep")).unwrap();
    fs::create_dir_all(tmp.path().join("etc")).unwrap();
    fs::create_dir_all(tmp.path().join("var/run/secrets")).unwrap();
    fs::write(tmp.path().join("etc/hosts"), "").unwrap();
    assert_eq!(look(&mut *snapshotter, &root), [""; 0]);
    fs::write(tmp.path().join("etc/passwd"), "").unwrap();
    fs::create_dir(tmp.path().join("var/lib")).unwrap();
    assert_eq!(look(&mut *snapshotter, &root), ["A /etc", "A /etc/passwd", "A /var", "A /var/lib"]);
    fs::remove_file(tmp.path().join("etc/hosts")).unwrap();
    fs::remove_file(tmp.path().join("etc/passwd")).unwrap();
    assert_eq!(look(&mut *snapshotter, &root), ["M /etc", "D /etc/passwd"]);
}

#[test]
fn some_paths_and_the_folders_above_them_can_be_looked_at_alone() {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir_all(tmp.path().join("a/b")).unwrap();
    fs::write(tmp.path().join("a/gone"), "").unwrap();
    fs::write(tmp.path().join("a/other"), "").unwrap();
    let root = open(tmp.path(), &[]);
    let mut snapshotter = known(&root);
    fs::create_dir_all(tmp.path().join("a/b/new/deep")).unwrap();
    fs::write(tmp.path().join("a/b/new/file"), "x").unwrap();
    fs::write(tmp.path().join("a/other"), "changed").unwrap();
    fs::remove_file(tmp.path().join("a/gone")).unwrap();
    let paths = ["/a/b/new/file", "/a/gone", "/a/none"].map(PathBuf::from).to_vec();
    let changes = snapshotter.changes(&root, &Scope::Paths(paths)).unwrap();
    assert_eq!(text(&changes), ["M /a", "M /a/b", "A /a/b/new", "A /a/b/new/file", "D /a/gone"]);
    snapshotter.settle(&root).unwrap();
    assert_eq!(look(&mut *snapshotter, &root), ["A /a/b/new/deep", "M /a/other"]);
}

#[test]
fn files_that_come_and_go_while_they_are_looked_at_do_no_harm() {
    MODES.into_iter().for_each(files_come_and_go);
}

fn files_come_and_go(mode: SnapshotMode) {
    let tmp = tempfile::tempdir().unwrap();
    let root = open(tmp.path(), &[]);
    fs::create_dir(tmp.path().join("steady")).unwrap();
    for number in 0..200 {
        fs::write(tmp.path().join(format!("steady/{number}")), "x").unwrap();
    }
    let mut snapshotter = known_by(mode, &root);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let dir = tmp.path().join(format!("d{}", round % 7));
                let _ = fs::create_dir_all(dir.join("x/y"));
                let _ = fs::write(dir.join("x/file"), "x");
                let _ = fs::remove_dir_all(&dir);
                let _ = fs::write(&dir, "a file now");
                let _ = fs::remove_file(&dir);
                let _ = symlink("/nowhere", &dir);
                let _ = fs::remove_file(&dir);
            }
        });
        for _ in 0..100 {
            let changes = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
            assert!(changes.iter().all(|change| !change.path.starts_with("/steady")), "{changes:?}");
            match write_tar(&changes, &root, &mut std::io::sink(), &WriteOptions::default()) {
                Ok(written) => snapshotter.learn(&changes, &written),
                Err(SnapshotError::ChangedWhilePacked { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    // What is told in the end is what is there.
    snapshotter.changes(&root, &Scope::Everywhere).unwrap();
    assert_eq!(look(&mut *snapshotter, &root), [""; 0]);
}

/// When each file below a folder was last read, by its name.
fn read_at(folder: &Path) -> Vec<(String, i64, i64)> {
    let mut all: Vec<(String, i64, i64)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let facts = entry.metadata().unwrap();
            (entry.file_name().into_string().unwrap(), facts.atime(), facts.atime_nsec())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn nothing_is_read_but_what_changed_and_after_applying_nothing_at_all() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let tmp = tempfile::tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    for name in NAMES {
        fs::write(from.join(name), "content").unwrap();
        // A time that is yet to come: on a mount with `relatime` every read of such a file is noted.
        let later = SystemTime::now() + Duration::from_secs(1_000_000);
        fs::File::open(from.join(name)).unwrap().set_modified(later).unwrap();
    }
    rustix::mount::mount_bind(&to, &to).unwrap();
    let flags = rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RELATIME;
    rustix::mount::mount_remount(&to, flags, c"").unwrap();
    let found = std::panic::catch_unwind(|| {
        let mut tar = Vec::new();
        let changes = NAMES.map(|name| Change::new(ChangeKind::Add, Path::new("/").join(name)));
        write_tar(&changes, &open(&from, &[]), &mut tar, &WriteOptions::default()).unwrap();
        let root = open(&to, &[]);
        let mut snapshotter = SnapshotMode::Full.snapshotter();
        let applied = apply_tar(&mut &tar[..], &root, &ApplyOptions::default()).unwrap();
        snapshotter.adopt(&applied);
        snapshotter.settle(&root).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let before = read_at(&to);
        assert_eq!(look(&mut *snapshotter, &root), [""; 0]);
        assert_eq!(read_at(&to), before, "the starting point was read");

        let file = fs::File::options().write(true).open(to.join("b")).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        (&file).write_all(b"CONTENT").unwrap();
        file.set_modified(time).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(look(&mut *snapshotter, &root), ["M /b"]);
        let after = read_at(&to);
        let read: Vec<&str> = NAMES
            .into_iter()
            .zip(before.iter().zip(&after))
            .filter(|(_, (a, b))| a != b)
            .map(|(name, _)| name)
            .collect();
        assert_eq!(read, ["b"], "what was read");
    });
    rustix::mount::unmount(&to, rustix::mount::UnmountFlags::DETACH).unwrap();
    if let Err(panic) = found {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn very_deep_trees_are_looked_at() {
    let tmp = tempfile::tempdir().unwrap();
    let root = open(tmp.path(), &[]);
    let mut snapshotter = known(&root);
    let mut fd = rustix::fs::open(tmp.path(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..1500 {
        rustix::fs::mkdirat(&fd, "deep", 0o755.into()).unwrap();
        rustix::fs::mkdirat(&fd, "side", 0o755.into()).unwrap();
        fd = rustix::fs::openat(&fd, "deep", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    }
    assert_eq!(snapshotter.changes(&root, &Scope::Everywhere).unwrap().len(), 3000);
    assert_eq!(look(&mut *snapshotter, &root), [""; 0]);
    root.clear().unwrap();
    assert_eq!(look(&mut *snapshotter, &root), ["D /deep", "D /side"]);
}

#[test]
fn a_layer_says_what_it_left_out_and_refuses_names_that_would_delete() {
    let tmp = tempfile::tempdir().unwrap();
    let root = open(tmp.path(), &[]);
    drop(UnixListener::bind(tmp.path().join("a")).unwrap());
    drop(UnixListener::bind(tmp.path().join("b")).unwrap());
    fs::write(tmp.path().join("c"), "").unwrap();
    let add = |path: &str| Change::new(ChangeKind::Add, path);
    let mut tar = Vec::new();
    let changes = [add("/c"), add("/b"), add("/a"), add("/gone"), Change::new(ChangeKind::Modify, "/was")];
    let written = write_tar(&changes, &root, &mut tar, &WriteOptions::default()).unwrap();
    assert_eq!(written.warnings.len(), 3, "{:?}", written.warnings);
    assert_eq!(written.warnings[2], "sockets are not part of an image and were left out: /a and 1 more");
    let listed = tree::render_tar(&mut &tar[..]).unwrap();
    let names: Vec<&str> = listed.lines().map(|line| line.split(' ').nth(5).unwrap()).collect();
    assert_eq!(names, ["c", ".wh.was"]);
    assert_eq!(written.entries, 2);
    fs::write(tmp.path().join(".wh.c"), "").unwrap();
    let error = write_tar(&[add("/.wh.c")], &root, &mut tar, &WriteOptions::default()).unwrap_err();
    assert!(matches!(&error, SnapshotError::WhiteoutName { path } if path == Path::new("/.wh.c")), "{error}");
}

#[test]
fn a_writer_that_fails_is_told_with_the_entry() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let tmp = tempfile::tempdir().unwrap();
    let root = open(tmp.path(), &[]);
    fs::write(tmp.path().join("a"), vec![1; 3_000_000]).unwrap();
    fs::write(tmp.path().join("b"), vec![1; 9_000_000]).unwrap();
    let changes = ["/a", "/b"].map(|path| Change::new(ChangeKind::Add, path));
    let error = write_tar(&changes, &root, &mut Full(4_000_000), &WriteOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "write the layer at /b");
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull));
}

#[test]
fn parents_are_in_the_layer_before_what_is_in_them() {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir_all(tmp.path().join("a/b")).unwrap();
    fs::write(tmp.path().join("a/b/x"), "").unwrap();
    fs::write(tmp.path().join("a/y"), "").unwrap();
    let root = open(tmp.path(), &[]);
    let changes = [
        Change::new(ChangeKind::Modify, "/a/b/x"),
        Change::new(ChangeKind::Delete, "/a/b/z"),
        Change::new(ChangeKind::Modify, "/a/y"),
    ];
    let mut tar = Vec::new();
    write_tar(&changes, &root, &mut tar, &WriteOptions::default()).unwrap();
    let names: Vec<String> = (0..tar.len() / 512)
        .map(|block| tar[block * 512..].split(|&byte| byte == 0).next().unwrap())
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    assert_eq!(names, ["a/", "a/b/", "a/b/x", "a/b/.wh.z", "a/y"]);
    assert_eq!(tar.len(), 7 * 512);
    assert_eq!(&tar[3 * 512 + 100..3 * 512 + 108], b"0000000\0");
    assert_eq!(&tar[3 * 512 + 136..3 * 512 + 148], b"00000000000\0");
}

#[test]
fn times_later_than_the_latest_are_cut_to_it() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("new"), "").unwrap();
    fs::write(tmp.path().join("old"), "").unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
    fs::File::open(tmp.path().join("old")).unwrap().set_modified(old).unwrap();
    let root = open(tmp.path(), &[]);
    let changes = ["/new", "/old"].map(|path| Change::new(ChangeKind::Add, path));
    let mut tar = Vec::new();
    let options = WriteOptions { latest_mtime: Some(1000), ..WriteOptions::default() };
    write_tar(&changes, &root, &mut tar, &options).unwrap();
    assert_eq!(&tar[136..148], b"00000001750\0");
    assert_eq!(&tar[512 + 136..512 + 148], b"00000000007\0");
    assert!(fs::metadata(tmp.path().join("new")).unwrap().mtime() > 1000);
}
