//! A layer is applied with few open files, as a process has them left that builds several stages at once. In a process of its own:
//! the limit is the process's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zuwai_snapshot::{ApplyOptions, Ignore, RootFs, Scope, SnapshotMode, WriteOptions, apply_tar, write_tar};

#[test]
fn a_layer_of_many_files_needs_few_that_are_open() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |folder: &tempfile::TempDir| RootFs::open(folder.path(), Ignore::default()).unwrap();
    let root = open(&source);
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    snapshotter.reset(&root).unwrap();
    for folder in 0..40 {
        fs::create_dir(source.path().join(format!("folder{folder}"))).unwrap();
        for file in 0..30 {
            fs::write(source.path().join(format!("folder{folder}/file{file}")), format!("{folder} {file}")).unwrap();
        }
    }
    let changes = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
    let mut tar = Vec::new();
    write_tar(&changes, &root, &mut tar, &WriteOptions::default()).unwrap();

    let onto = open(&target);
    let in_use = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(in_use + 12), ..getrlimit(Resource::Nofile) }).unwrap();
    apply_tar(&mut &*tar, &onto, &ApplyOptions::default()).unwrap();
    for (folder, file) in [(0, 0), (17, 29), (39, 29)] {
        let path = target.path().join(format!("folder{folder}/file{file}"));
        assert_eq!(fs::read_to_string(path).unwrap(), format!("{folder} {file}"));
    }
}
