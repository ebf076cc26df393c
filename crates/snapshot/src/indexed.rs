//! The snapshotter: an index of the tree, compared with the tree by the rule of its mode.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use tracing::info_span;

use crate::index::{Id, Index, LISTED, NO_HASH, Node, ROOT, Shape, UNKNOWN, low};
use crate::journal::{Card, What};
use crate::look::{self, Audit, Rules, Seen};
use crate::metadata::Stat;
use crate::watch::Watch;
use crate::{Applied, Change, Result, RootFs, Scope, SnapshotMode, Snapshotter, Written, clock};

/// The snapshotter behind every [`SnapshotMode`].
pub(crate) struct Indexed {
    mode: SnapshotMode,
    index: Index,
    /// Whether an unmoved ctime proves anything on the root's filesystem; found out once.
    trusted: OnceLock<bool>,
    /// An entry with a ctime before this was looked at after that tick had passed.
    safe_before: AtomicI64,
    /// The latest ctime that was seen.
    newest: i128,
    watching: Watching,
    /// See [`Snapshotter::missed`].
    missed: Vec<PathBuf>,
}

/// Whether the kernel tells what happens in the tree.
enum Watching {
    /// Nobody asked it to, or what it told is worth nothing any more.
    NotYet,
    Yes(Watch),
    /// It does not, or not of so many folders.
    No,
}

impl Indexed {
    pub(crate) fn new(mode: SnapshotMode) -> Self {
        Self {
            mode,
            index: Index::new(),
            trusted: OnceLock::new(),
            safe_before: AtomicI64::new(i64::MIN),
            newest: i128::MIN,
            watching: Watching::NotYet,
            missed: Vec::new(),
        }
    }

    /// A snapshotter that believes no ctime, as on a filesystem that does not move it.
    #[cfg(test)]
    pub(crate) fn distrustful(mode: SnapshotMode) -> Self {
        let distrustful = Self::new(mode);
        distrustful.trusted.set(false).expect("nobody has set it before");
        distrustful
    }

    /// Whether an unmoved time proves anything, by the rule of the mode and on this filesystem.
    fn trusts_times(&self, root: &RootFs) -> bool {
        self.mode != SnapshotMode::Full || *self.trusted.get_or_init(|| clock::ctime_is_trusted(root.beneath().root()))
    }

    fn rules(&self, root: &RootFs, hash_from: i64) -> Rules {
        Rules {
            mode: self.mode,
            trusted: self.trusts_times(root),
            safe_before: self.safe_before.load(Ordering::Relaxed),
            hash_from,
        }
    }

    /// What the kernel told since the last look; `None` where nobody listened, or not all was told.
    fn told(&mut self) -> Option<Audit> {
        let Watching::Yes(watch) = &mut self.watching else { return None };
        (watch.holds(&self.index) && watch.listen()).then(|| Audit::new(&self.index, watch))
    }

    /// Looks at what the kernel told of, or at everything and has it tell from then on.
    fn look_watched(&mut self, root: &RootFs, rules: Rules) -> Result<Seen> {
        let told = self.told();
        let index = &mut self.index;
        let mut seen = None;
        if let (Watching::Yes(watch), Some(told)) = (&mut self.watching, &told) {
            let looked = look::told(index, root, rules, watch, told)?;
            seen = looked.map(|seen| Seen { newest: self.newest.max(seen.newest), ..seen });
        }
        if seen.is_none() && !matches!(self.watching, Watching::No) {
            self.watching = Watch::begin(index).map_or(Watching::No, Watching::Yes);
        }
        let seen = match (seen, &mut self.watching) {
            (Some(seen), _) => seen,
            (None, Watching::Yes(watch)) => look::watching(index, root, rules, watch, told.as_ref())?,
            (None, _) => look::everywhere(index, root, rules, told.as_ref())?,
        };
        if matches!(&self.watching, Watching::Yes(watch) if watch.is_refused()) {
            self.watching = Watching::No;
        }
        Ok(seen)
    }

    /// Looks at everything. Whoever was told what happens is not told any more.
    fn look_everywhere(&mut self, root: &RootFs, rules: Rules) -> Result<Seen> {
        let told = self.told();
        self.forget_watch();
        look::everywhere(&mut self.index, root, rules, told.as_ref())
    }

    /// What is watched is worth nothing any more.
    fn forget_watch(&mut self) {
        if matches!(self.watching, Watching::Yes(_)) {
            self.watching = Watching::NotYet;
        }
    }

    /// The number of a folder, taken up as unknown with the folders above it where it is not known.
    fn folder(&mut self, path: &Path) -> Id {
        let mut id = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                id = match self.index.find(id, name.as_bytes()) {
                    Some(found) => found,
                    None => self.index.add(name.as_bytes(), Node::unknown(id)),
                };
            }
        }
        id
    }

    /// Gives an entry a new card; its content and attributes are as they were, or as another entry's.
    fn touch(&mut self, folder: Id, name: &[u8], stat: &Stat, like: Option<Id>) {
        let like = like.or_else(|| self.index.find(folder, name)).map(|id| *self.index.node(id));
        let hash = like.filter(|_| !stat.is_dir()).map_or(NO_HASH, |node| node.hash);
        let card = Card { stat: *stat, hash, attributes: None };
        self.put(folder, name, &card);
        if let (Some(like), Some(id)) = (like, self.index.find(folder, name)) {
            self.index.node_mut(id).attributes = like.attributes;
        }
    }

    fn put(&mut self, folder: Id, name: &[u8], card: &Card) {
        self.newest = self.newest.max(card.stat.ctime);
        let proves = self.mode == SnapshotMode::Full && self.trusted.get() == Some(&true);
        let shape = self.index.shapes.number(Shape::of(&card.stat));
        let attributes = card.attributes.map_or(UNKNOWN, |digest| self.index.attributes.number(digest));
        let id = match self.index.find(folder, name) {
            Some(id) => id,
            None => self.index.add(name, Node::unknown(folder)),
        };
        let node = self.index.node_mut(id);
        node.set(&card.stat, shape);
        // A folder with another card was not listed since, unless all that is in it came with the card.
        node.hash = if card.stat.is_dir() && !(card.hash == LISTED && proves) { NO_HASH } else { card.hash };
        node.attributes = attributes;
    }
}

impl Snapshotter for Indexed {
    fn reset(&mut self, root: &RootFs) -> Result<()> {
        let now = clock::now(root.beneath().root());
        // Nobody else will compute the hashes of a starting point.
        let rules = self.rules(root, i64::MIN);
        self.index = Index::new();
        self.forget_watch();
        let Seen { newest, .. } = look::first(&mut self.index, root, rules)?;
        self.newest = newest;
        self.safe_before.store(low(now), Ordering::Relaxed);
        Ok(())
    }

    fn adopt(&mut self, applied: &Applied) {
        let _span = info_span!(target: "zuwai", "look").entered();
        // What comes in by a layer was perhaps put where nobody looks.
        self.forget_watch();
        let mut last: Option<(&Path, Id)> = None;
        let mut removed = false;
        for (path, name, what) in applied.journal().lines() {
            let folder = match last {
                Some((known, id)) if known.as_os_str() == path.as_os_str() => id,
                _ => self.folder(path),
            };
            last = Some((path, folder));
            match what {
                What::Made => unreachable!("files are written before the journal is handed out"),
                What::Put(card) => self.put(folder, name, card),
                What::Touched(stat) => self.touch(folder, name, stat, None),
                What::Linked(first, stat) => {
                    let first = self.index.at(first);
                    self.touch(folder, name, stat, first);
                }
                What::Removed => {
                    if let Some(id) = self.index.find(folder, name) {
                        self.index.forget(id);
                        removed = true;
                        // The folder that the next line names may have been the one that went away.
                        last = None;
                    }
                }
            }
        }
        if removed {
            self.index.sweep();
        }
    }

    fn changes(&mut self, root: &RootFs, scope: &Scope) -> Result<Vec<Change>> {
        let now = clock::now(root.beneath().root());
        // A look at some paths leaves the tick where it is: it is for the caller to settle before a command starts.
        let hash_from = if matches!(scope, Scope::Paths(_)) { i64::MAX } else { low(now) };
        let rules = self.rules(root, hash_from);
        let changes = match scope {
            Scope::Everywhere | Scope::Watched => {
                let watched = *scope == Scope::Watched && rules.cards_prove();
                let seen = if watched { self.look_watched(root, rules)? } else { self.look_everywhere(root, rules)? };
                self.newest = seen.newest;
                self.missed = seen.missed;
                self.safe_before.store(low(now), Ordering::Relaxed);
                seen.changes
            }
            Scope::Paths(paths) => {
                // Entries that this look leaves out are no safer than before, so the tick does not move.
                let seen = look::at_paths(&mut self.index, root, rules, paths)?;
                self.newest = self.newest.max(seen.newest);
                seen.changes
            }
        };
        root.scaffold().take_changed(&changes);
        Ok(changes)
    }

    fn missed(&self) -> &[PathBuf] {
        &self.missed
    }

    fn learn(&mut self, changes: &[Change], written: &Written) {
        // Most changes lie beside the one before.
        let mut folder: Option<(&Path, Id)> = None;
        for learned in written.learned() {
            let Some(path) = changes.get(learned.change as usize).map(|change| change.path.as_path()) else { continue };
            let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let known = folder.filter(|(known, _)| known.as_os_str() == above.as_os_str());
            folder = known.or_else(|| self.index.at(above).map(|id| (above, id)));
            let Some(id) = folder.and_then(|(_, folder)| self.index.find(folder, name.as_bytes())) else { continue };
            let attributes = self.index.attributes.number(learned.attributes);
            let node = self.index.node_mut(id);
            // What was packed is what the look saw, or it is not learned.
            if node.ino == learned.ino && node.ctime == learned.ctime {
                node.attributes = attributes;
                if learned.hash != NO_HASH {
                    node.hash = learned.hash;
                }
            }
        }
    }

    fn settle(&self, root: &RootFs) -> Result<()> {
        if !self.trusts_times(root) {
            // Every entry will be hashed, however early it changes.
            return Ok(());
        }
        let now = clock::wait_past(root.beneath().root(), self.newest);
        self.safe_before.store(low(now), Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Ignore;

    /// A write through a mapping on a tmpfs leaves no trace in the card. Is it found where the file's ctime is as late as
    /// this, by a snapshotter that believes ctimes?
    fn is_found(safe_before: impl Fn(i64) -> i64) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let _mounted = crate::scratch::mount_tmpfs(folder.path(), "1m");
        let path = folder.path().join("file");
        fs::write(&path, "content").unwrap();
        let root = RootFs::open(folder.path(), Ignore::default()).unwrap();
        let mut snapshotter = Indexed::new(SnapshotMode::Full);
        snapshotter.trusted.set(true).unwrap();
        snapshotter.reset(&root).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let stat = crate::beneath::stat_of(std::os::fd::AsFd::as_fd(&file)).unwrap();
        snapshotter.safe_before.store(safe_before(low(stat.ctime)), Ordering::Relaxed);
        crate::mapping::overwrite(&path).unwrap();
        !snapshotter.changes(&root, &Scope::Everywhere).unwrap().is_empty()
    }

    /// What a look finds, once the tick of what was done before is over.
    fn found(snapshotter: &mut Indexed, root: &RootFs) -> Vec<String> {
        let changes = snapshotter.changes(root, &Scope::Everywhere).unwrap();
        snapshotter.settle(root).unwrap();
        changes.iter().map(|change| change.path.display().to_string()).collect()
    }

    #[test]
    fn what_comes_and_goes_in_a_folder_that_is_not_listed_any_more_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("one/below")).unwrap();
        fs::write(at("one/below/file"), "1").unwrap();
        let root = RootFs::open(folder.path(), Ignore::default()).unwrap();
        let mut snapshotter = Indexed::new(SnapshotMode::Full);
        snapshotter.reset(&root).unwrap();
        snapshotter.settle(&root).unwrap();
        let mut look = || found(&mut snapshotter, &root);
        assert!(look().is_empty());
        fs::write(at("one/below/file"), "2").unwrap();
        assert_eq!(look(), ["/one/below/file"]);
        fs::write(at("one/below/new"), "").unwrap();
        assert_eq!(look(), ["/one/below", "/one/below/new"]);
        fs::rename(at("one/below/new"), at("one/below/file")).unwrap();
        assert_eq!(look(), ["/one/below", "/one/below/file", "/one/below/new"]);
        fs::remove_dir_all(at("one/below")).unwrap();
        assert_eq!(look(), ["/one", "/one/below"]);
        assert!(look().is_empty());
        let (id, trusted) = (snapshotter.index.at(Path::new("/one")).unwrap(), snapshotter.trusts_times(&root));
        assert_eq!(snapshotter.index.node(id).hash == LISTED, trusted, "it is asked entry by entry from then on");
    }

    /// A tar archive of folders and empty files, in this order; those of folders end with a slash.
    fn archive(names: &[&str]) -> Vec<u8> {
        let mut tar = Vec::new();
        for name in names {
            let mut header = [0; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            let folder = name.ends_with('/');
            header[100..108].copy_from_slice(if folder { b"0000755\0" } else { b"0000644\0" });
            header[124..136].copy_from_slice(b"00000000000\0");
            header[136..148].copy_from_slice(b"00000000001\0");
            header[156] = if folder { b'5' } else { b'0' };
            header[257..265].copy_from_slice(b"ustar\x0000");
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            tar.extend_from_slice(&header);
        }
        tar.resize(tar.len() + 1024, 0);
        tar
    }

    #[test]
    fn a_folder_that_a_layer_made_need_not_be_listed_and_one_that_was_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("there")).unwrap();
        let root = RootFs::open(folder.path(), Ignore::default()).unwrap();
        let mut snapshotter = Indexed::new(SnapshotMode::Full);
        snapshotter.reset(&root).unwrap();
        // Nobody tells of it.
        fs::write(at("there/before"), "").unwrap();
        let tar = archive(&[
            "there/new",
            "there/",
            "made/",
            "made/one",
            "made/below/",
            "made/below/two",
            "made/",
            "above/three",
        ]);
        let applied = crate::apply_tar(&mut &*tar, &root, &crate::ApplyOptions::default()).unwrap();
        snapshotter.adopt(&applied);
        snapshotter.settle(&root).unwrap();
        let listed = |snapshotter: &Indexed| -> Vec<bool> {
            let ids =
                ["/there", "/made", "/made/below", "/above"].map(|path| snapshotter.index.at(Path::new(path)).unwrap());
            ids.iter().map(|&id| snapshotter.index.node(id).hash == LISTED).collect()
        };
        let trusted = snapshotter.trusts_times(&root);
        assert_eq!(listed(&snapshotter), [false, trusted, trusted, false]);
        assert_eq!(found(&mut snapshotter, &root), ["/there/before"]);
        assert_eq!(listed(&snapshotter), [trusted; 4]);
        // A second layer puts something into a folder of the first one, and the next look is the first one to see others.
        let tar = archive(&["made/below/", "made/below/four", "made/five"]);
        let applied = crate::apply_tar(&mut &*tar, &root, &crate::ApplyOptions::default()).unwrap();
        snapshotter.adopt(&applied);
        snapshotter.settle(&root).unwrap();
        fs::write(at("made/below/six"), "").unwrap();
        fs::remove_file(at("made/one")).unwrap();
        fs::write(at("above/seven"), "").unwrap();
        let expected = ["/above", "/above/seven", "/made", "/made/below", "/made/below/six", "/made/one"];
        assert_eq!(found(&mut snapshotter, &root), expected);
        assert!(found(&mut snapshotter, &root).is_empty());
    }

    /// A tree of a folder, its snapshotter, which believes ctimes and was told of nothing yet, and its root.
    fn watched(folder: &Path) -> (Indexed, RootFs) {
        fs::create_dir_all(folder.join("one/below")).unwrap();
        fs::write(folder.join("one/below/file"), "1").unwrap();
        let root = RootFs::open(folder, Ignore::default()).unwrap();
        let mut snapshotter = Indexed::new(SnapshotMode::Full);
        snapshotter.trusted.set(true).unwrap();
        snapshotter.reset(&root).unwrap();
        snapshotter.settle(&root).unwrap();
        assert!(snapshotter.changes(&root, &Scope::Watched).unwrap().is_empty());
        snapshotter.settle(&root).unwrap();
        (snapshotter, root)
    }

    fn watch(snapshotter: &mut Indexed) -> &mut Watch {
        let Watching::Yes(watch) = &mut snapshotter.watching else { panic!("three folders are not too many") };
        watch
    }

    fn paths(changes: &[Change]) -> Vec<String> {
        changes.iter().map(|change| change.path.display().to_string()).collect()
    }

    #[test]
    fn what_was_not_told_is_found_by_the_look_at_everything_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let (mut snapshotter, root) = watched(folder.path());
        fs::write(folder.path().join("one/below/file"), "2").unwrap();
        watch(&mut snapshotter).be_deaf();
        assert!(snapshotter.changes(&root, &Scope::Watched).unwrap().is_empty(), "nobody told of it");
        assert!(snapshotter.missed().is_empty());
        snapshotter.settle(&root).unwrap();
        fs::write(folder.path().join("one/told"), "").unwrap();
        let changes = snapshotter.changes(&root, &Scope::Everywhere).unwrap();
        assert_eq!(paths(&changes), ["/one", "/one/below/file", "/one/told"]);
        assert_eq!(snapshotter.missed(), [Path::new("/one/below/file")]);
    }

    #[test]
    fn a_write_through_a_mapping_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (mut snapshotter, _root) = watched(folder.path());
        let id = snapshotter.index.at(Path::new("/one/below")).unwrap();
        let watch = watch(&mut snapshotter);
        assert!(watch.listen() && watch.watches(id));
        crate::mapping::overwrite(&folder.path().join("one/below/file")).unwrap();
        assert!(watch.listen() && !watch.watches(id));
    }

    #[test]
    fn a_folder_that_a_mount_covers_since_it_was_watched_is_left_as_it_was_known() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("covered")).unwrap();
        fs::write(at("covered/file"), "").unwrap();
        // A file with two names is asked for each time.
        fs::hard_link(at("covered/file"), at("name")).unwrap();
        let (mut snapshotter, root) = watched(folder.path());
        let mounted = crate::scratch::mount_tmpfs(&at("covered"), "1m");
        fs::write(at("covered/file"), "of the mount").unwrap();
        fs::write(at("one/told"), "").unwrap();
        assert_eq!(paths(&snapshotter.changes(&root, &Scope::Watched).unwrap()), ["/one", "/one/told"]);
        drop(mounted);
        assert!(snapshotter.changes(&root, &Scope::Watched).unwrap().is_empty());
    }

    #[test]
    fn what_was_not_told_is_said_where_folders_change_places_and_everything_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/x")).unwrap();
        fs::create_dir_all(at("b/x")).unwrap();
        fs::write(at("b/x/moved"), "").unwrap();
        let (mut snapshotter, root) = watched(folder.path());
        fs::write(at("one/below/file"), "2").unwrap();
        watch(&mut snapshotter).be_deaf();
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, at("a"), rustix::fs::CWD, at("b"), exchange).unwrap();
        let changes = paths(&snapshotter.changes(&root, &Scope::Watched).unwrap());
        assert!(changes.contains(&"/a/x/moved".to_owned()) && changes.contains(&"/one/below/file".to_owned()));
        assert_eq!(snapshotter.missed(), [Path::new("/one/below/file")]);
    }

    #[test]
    fn where_there_are_fewer_watches_than_folders_everything_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (mut snapshotter, root) = watched(folder.path());
        watch(&mut snapshotter).be_modest(4);
        fs::create_dir_all(folder.path().join("one/a/b/c")).unwrap();
        assert_eq!(paths(&snapshotter.changes(&root, &Scope::Watched).unwrap()).len(), 4);
        assert!(matches!(snapshotter.watching, Watching::No), "six folders");
        snapshotter.settle(&root).unwrap();
        fs::write(folder.path().join("one/a/b/c/file"), "").unwrap();
        assert_eq!(paths(&snapshotter.changes(&root, &Scope::Watched).unwrap()), ["/one/a/b/c", "/one/a/b/c/file"]);
        assert!(matches!(snapshotter.watching, Watching::No), "nobody tries again");
    }

    #[test]
    fn a_look_at_some_paths_does_not_pass_for_a_list_of_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("one")).unwrap();
        let root = RootFs::open(folder.path(), Ignore::default()).unwrap();
        let mut snapshotter = Indexed::new(SnapshotMode::Full);
        snapshotter.reset(&root).unwrap();
        assert!(found(&mut snapshotter, &root).is_empty());
        let time = fs::metadata(at("one")).unwrap().modified().unwrap();
        fs::write(at("one/named"), "").unwrap();
        fs::write(at("one/other"), "").unwrap();
        fs::File::open(at("one")).unwrap().set_modified(time).unwrap();
        let scope = Scope::Paths(vec!["/one/named".into()]);
        assert_eq!(snapshotter.changes(&root, &scope).unwrap().len(), 1, "the folder looks as before");
        snapshotter.settle(&root).unwrap();
        assert_eq!(found(&mut snapshotter, &root), ["/one/other"]);
    }

    #[test]
    fn what_a_mount_covered_when_its_folder_was_listed_is_found_when_the_mount_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let root = RootFs::open(folder.path(), Ignore::default()).unwrap();
        let mut snapshotter = Indexed::new(SnapshotMode::Full);
        snapshotter.reset(&root).unwrap();
        fs::create_dir_all(folder.path().join("one/place")).unwrap();
        fs::write(folder.path().join("one/place/file"), "").unwrap();
        let mounted = crate::scratch::mount_tmpfs(&folder.path().join("one/place"), "1m");
        snapshotter.settle(&root).unwrap();
        assert_eq!(found(&mut snapshotter, &root), ["/one"]);
        assert!(found(&mut snapshotter, &root).is_empty());
        drop(mounted);
        assert_eq!(found(&mut snapshotter, &root), ["/one/place", "/one/place/file"]);
    }

    #[test]
    fn an_entry_whose_ctime_is_not_past_is_hashed() {
        assert!(is_found(|ctime| ctime), "of the tick of the last look");
        assert!(is_found(|ctime| ctime - 1_000_000_000), "in the future");
        assert!(!is_found(|ctime| ctime + 1), "this test would see nothing: the card was not what decided");
    }
}
