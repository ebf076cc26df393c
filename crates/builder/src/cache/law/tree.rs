//! What COPY takes: files, folders and links on a disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zuwai_snapshot::{Ignore, RootFs};

use super::super::content::{Content, Taking};
use super::super::key::{Inputs, Key};
use super::{Chance, Seen, Step};
use crate::context::Dockerignore;

/// One entry of a context, as the layer shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File { bytes: String, mode: u32, attribute: Option<String> },
    Link { target: String },
    Folder { mode: u32 },
}

/// A context of one folder and one below it, on the disk and as it is meant to be.
struct Tree {
    folder: PathBuf,
    nodes: BTreeMap<String, Node>,
}

const NAMES: [&str; 5] = ["a", "b", "ab", "d/a", "d/b"];

impl Tree {
    fn new(folder: &Path) -> Tree {
        fs::create_dir_all(folder.join("top/d")).unwrap();
        fs::set_permissions(folder.join("top/d"), fs::Permissions::from_mode(0o755)).unwrap();
        let nodes = BTreeMap::from([("d".to_owned(), Node::Folder { mode: 0o755 })]);
        Tree { folder: folder.join("top"), nodes }
    }

    fn put(&mut self, name: &str, node: Node) {
        let path = self.folder.join(name);
        if !matches!(node, Node::Folder { .. }) {
            let _ = fs::remove_file(&path);
        }
        match &node {
            Node::File { bytes, mode, attribute } => {
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                if let Some(value) = attribute {
                    rustix::fs::setxattr(&path, "user.x", value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
                }
            }
            Node::Link { target } => symlink(target, &path).unwrap(),
            Node::Folder { mode } => fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap(),
        }
        self.nodes.insert(name.to_owned(), node);
    }

    fn step(&mut self, chance: &mut Chance, attributes: bool) -> Step {
        let name = NAMES[chance.below(NAMES.len())];
        match chance.below(8) {
            0 => {
                let _ = fs::remove_file(self.folder.join(name));
                self.nodes.remove(name);
            }
            1 => self.put(name, Node::Link { target: ["a", "b", "ab"][chance.below(3)].to_owned() }),
            2 => self.put("d", Node::Folder { mode: [0o755, 0o700, 0o1777][chance.below(3)] }),
            3..6 => {
                let bytes = chance.word();
                let mode = [0o644, 0o600, 0o755, 0o4755][chance.below(4)];
                let attribute = (attributes && chance.below(4) == 0).then(|| chance.name());
                self.put(name, Node::File { bytes, mode, attribute });
            }
            6 => {
                // Other times and another owner: neither reaches the image.
                for path in [self.folder.join("d"), self.folder.clone()] {
                    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(chance.below(1 << 30) as u64);
                    fs::File::open(&path).unwrap().set_modified(time).unwrap();
                    let _ = std::os::unix::fs::chown(&path, Some(u32::try_from(chance.below(9)).unwrap()), None);
                }
                return Step::Idle;
            }
            _ => {
                // The context is somewhere else.
                let moved = self.folder.with_file_name("moved");
                fs::rename(&self.folder, &moved).unwrap();
                fs::rename(&moved, &self.folder).unwrap();
                return Step::Idle;
            }
        }
        Step::Decides
    }
}

#[test]
fn whatever_can_change_the_files_that_are_copied_changes_the_key_and_nothing_else_does() {
    let place = tempfile::tempdir().unwrap();
    let mut tree = Tree::new(place.path());
    let root = RootFs::open(place.path(), Ignore::default()).unwrap();
    let ignore = Dockerignore::default();
    let probe = place.path().join("probe");
    fs::write(&probe, "").unwrap();
    let attributes = rustix::fs::setxattr(&probe, "user.x", b"", rustix::fs::XattrFlags::empty()).is_ok();
    let (mut chance, mut seen) = (Chance(0xF11E5), Seen::default());
    let mut before: Option<(Key, BTreeMap<String, Node>)> = None;
    for _ in 0..5_000 {
        let step = tree.step(&mut chance, attributes);
        // Nothing is remembered from one look to the next.
        let mut inputs = Inputs::default();
        Content::new(&root, &ignore)
            .add(&mut inputs, &Taking { sources: &["top".to_owned()], ..Taking::default() })
            .unwrap();
        let key = inputs.hash();
        seen.check(key, &format!("{:?}", tree.nodes));
        if let Some((old, nodes)) = &before {
            assert_eq!(key == *old, tree.nodes == *nodes, "{nodes:?} → {:?}", tree.nodes);
            assert!(matches!(step, Step::Decides) || key == *old);
        }
        before = Some((key, tree.nodes.clone()));
    }
}

#[test]
fn a_mode_that_chmod_replaces_does_not_count_and_one_that_it_changes_does() {
    let place = tempfile::tempdir().unwrap();
    let mut tree = Tree::new(place.path());
    let root = RootFs::open(place.path(), Ignore::default()).unwrap();
    let ignore = Dockerignore::default();
    let mut key = |mode: u32, chmod: Option<&str>| {
        tree.put("a", Node::File { bytes: "x".to_owned(), mode, attribute: None });
        let mut inputs = Inputs::default();
        let chmod = chmod.map(|text| text.parse().unwrap());
        let taking = Taking { sources: &["top".to_owned()], chmod: chmod.as_ref(), ..Taking::default() };
        Content::new(&root, &ignore).add(&mut inputs, &taking).unwrap();
        inputs.hash()
    };
    assert_eq!(key(0o644, Some("0600")), key(0o755, Some("0600")));
    assert_ne!(key(0o644, Some("u+x")), key(0o600, Some("u+x")));
    assert_ne!(key(0o644, None), key(0o600, None));
}

#[test]
fn hidden_files_do_not_count() {
    let place = tempfile::tempdir().unwrap();
    let mut tree = Tree::new(place.path());
    let root = RootFs::open(place.path(), Ignore::default()).unwrap();
    let ignore = Dockerignore::parse(b"top/b\ntop/d\n!top/d/a", Path::new(".dockerignore")).unwrap();
    let mut key = |name: &str, bytes: &str| {
        tree.put(name, Node::File { bytes: bytes.to_owned(), mode: 0o644, attribute: None });
        let mut inputs = Inputs::default();
        Content::new(&root, &ignore)
            .add(&mut inputs, &Taking { sources: &["top".to_owned()], ..Taking::default() })
            .unwrap();
        inputs.hash()
    };
    let one = key("a", "1");
    assert_eq!(key("b", "1"), one);
    assert_eq!(key("d/b", "1"), one);
    let shown = key("d/a", "1");
    assert_ne!(shown, one);
    assert_eq!(key("d/b", "2"), shown);
    assert_ne!(key("a", "2"), shown);
}

#[test]
fn the_folders_above_a_file_count_where_they_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let mut tree = Tree::new(place.path());
    tree.put("d/a", Node::File { bytes: "x".to_owned(), mode: 0o644, attribute: None });
    let root = RootFs::open(place.path(), Ignore::default()).unwrap();
    let ignore = Dockerignore::default();
    let key = |parents| {
        let mut inputs = Inputs::default();
        let taking = Taking { sources: &["top/*/a".to_owned()], parents, ..Taking::default() };
        Content::new(&root, &ignore).add(&mut inputs, &taking).unwrap();
        inputs.hash()
    };
    let before = [key(false), key(true)];
    fs::rename(place.path().join("top/d"), place.path().join("top/e")).unwrap();
    let after = [key(false), key(true)];
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
}
