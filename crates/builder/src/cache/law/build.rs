//! Builds without a context: bases, settings and actions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use zuwai_registry::{Compression, Descriptor, Digest, Image, ImageConfig, ImageFormat, Layer, MediaType};
use zuwai_snapshot::{Ignore, RootFs, SnapshotMode};

use super::super::content::Content;
use super::super::inputs::{Origin, Sources, of_action, of_base};
use super::super::key::Key;
use super::{Chance, Seen, Step, with_remotes};
use crate::context::Dockerignore;
use crate::instruction::testing::Stage;
use crate::instruction::{Action, CopyAction, InlineFile, Mount, MountKind, RunAction, WorkdirAction};
use crate::request::{BuildRequest, CachePlace, CacheRequest, ContextRequest, GitOptions, OutputRequest};
use crate::settings::Settings;

fn request() -> BuildRequest {
    BuildRequest {
        dockerfile: "Dockerfile".into(),
        current_directory: "/".into(),
        context: ContextRequest {
            location: ".".to_owned(),
            sub_path: None,
            git: GitOptions::default(),
            transport: zuwai_registry::TransportOptions::default(),
            standard_input: None,
        },
        contexts: Vec::new(),
        build_args: Vec::new(),
        secrets: Vec::new(),
        agents: Vec::new(),
        labels: Vec::new(),
        target: None,
        platform: "linux/amd64".parse().unwrap(),
        platform_given: false,
        snapshot_mode: SnapshotMode::Full,
        watch_folders: true,
        single_snapshot: false,
        materialize: false,
        compression: Compression::GZIP,
        image_format: None,
        destinations: Vec::new(),
        push: false,
        check_push_permission: false,
        outputs: OutputRequest::default(),
        created: SystemTime::UNIX_EPOCH,
        reproducible: false,
        annotations: Vec::new(),
        cache: None,
        base_images: None,
    }
}

fn cache() -> CacheRequest {
    CacheRequest {
        place: CachePlace::Layout("x".into()),
        ttl: Duration::ZERO,
        copy_layers: true,
        run_layers: true,
        keep: true,
        ignored: Vec::new(),
        mounts: None,
    }
}

/// A build without its context: a base and the actions of one stage.
struct Build {
    request: BuildRequest,
    cache: CacheRequest,
    base: Image,
    name: String,
    actions: Vec<Action>,
    /// What `--from` of the copies is called, and its key's seed.
    origin: (String, String),
}

impl Build {
    fn new() -> Build {
        let base = Image {
            config: ImageConfig::default(),
            layers: vec![layer(0)],
            format: ImageFormat::Oci,
            annotations: BTreeMap::new(),
        };
        let origin = ("the stage x".to_owned(), String::new());
        Build { request: request(), cache: cache(), base, name: "base".to_owned(), actions: Vec::new(), origin }
    }

    /// The key of every step.
    fn keys(&self, settings: &Settings, content: &Content<'_>) -> Vec<Key> {
        let base = of_base(&self.name, Some(&self.base), &self.request, &self.cache);
        let mut keys = vec![Key::after(None, &base.hash())];
        let origin = Key::of(&[self.origin.1.as_bytes()]);
        for action in &self.actions {
            let origins = [("x".to_owned(), Origin::Made(self.origin.0.clone(), origin))].into();
            let inputs = with_remotes(|remotes| {
                of_action(action, settings, Sources { origins: &origins, content, remotes }).unwrap()
            });
            keys.push(Key::after(keys.last(), &inputs.hash()));
        }
        keys
    }

    /// What decides each of them, as text that shares nothing with how it is hashed.
    fn decisions(&self) -> Vec<String> {
        let mut ignored = self.cache.ignored.clone();
        ignored.sort();
        let diff_ids: Vec<_> = self.base.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let request = &self.request;
        let mut text = format!(
            "{diff_ids:?} {} {:?} {:?} {} {:?} {ignored:?}",
            request.platform,
            request.compression,
            request.snapshot_mode,
            request.single_snapshot,
            request.latest_mtime(),
        );
        let mut all = vec![text.clone()];
        for action in &self.actions {
            let what = match action {
                Action::Run(run) => {
                    format!(
                        "run {:?} {:?} {:?} {:?} {:?} {}",
                        run.arguments,
                        &run.env[..run.deciding],
                        run.user,
                        run.working_dir,
                        run.mounts,
                        run.offline
                    )
                }
                Action::MakeDir(made) => format!("make {:?} {:?}", made.path, made.user),
                Action::Copy(copy) => {
                    let path = PathBuf::from("/").join(&copy.working_dir).join(&copy.destination);
                    let path: PathBuf = path.components().collect();
                    let folder = crate::step::names_folder(&copy.destination);
                    format!(
                        "copy {path:?} {folder} {:?} {:?} {:?} {} {:?} {:?} {} {} {:?} {} {:?} {:?}",
                        copy.chown.as_deref().unwrap_or_default(),
                        copy.chmod.as_deref().unwrap_or_default(),
                        copy.sources,
                        copy.unpack,
                        self.origin.1,
                        copy.inline,
                        copy.link,
                        copy.parents,
                        copy.exclude,
                        copy.unpack_remote,
                        copy.checksum.as_deref().unwrap_or_default(),
                        copy.keep_git_dir
                    )
                }
            };
            text = format!("{text}\n{what:?}");
            all.push(text.clone());
        }
        all
    }

    fn action(chance: &mut Chance) -> Action {
        match chance.below(5) {
            0 => Action::MakeDir(WorkdirAction { path: format!("/{}", chance.name()), user: chance.word() }),
            1 | 2 => Action::Copy(CopyAction {
                instruction: "COPY",
                from: Some("x".to_owned()),
                sources: (0..=chance.below(2)).map(|_| chance.name()).collect(),
                destination: chance.name(),
                working_dir: format!("/{}", chance.name()),
                chown: None,
                chmod: None,
                unpack: false,
                inline: Vec::new(),
                link: false,
                parents: false,
                exclude: Vec::new(),
                unpack_remote: false,
                checksum: None,
                keep_git_dir: None,
            }),
            _ => Action::Run(RunAction {
                arguments: (0..chance.below(4)).map(|_| chance.word()).collect(),
                env: (0..chance.below(4)).map(|_| format!("{}={}", chance.name(), chance.word())).collect(),
                deciding: 0,
                user: chance.word(),
                working_dir: format!("/{}", chance.name()),
                mounts: Vec::new(),
                offline: false,
                text: String::new(),
            }),
        }
    }

    /// Changes one thing.
    fn step(&mut self, chance: &mut Chance) -> Step {
        let choice = chance.below(19);
        if self.actions.len() < 2 || choice == 0 && self.actions.len() < 5 {
            self.actions.insert(chance.below(self.actions.len() + 1), Build::action(chance));
            return Step::Decides;
        }
        match choice {
            1 => drop(self.actions.remove(chance.below(self.actions.len()))),
            2 => {
                let (one, other) = (chance.below(self.actions.len()), chance.below(self.actions.len()));
                self.actions.swap(one, other);
            }
            3 => self.base.layers = (0..chance.below(3)).map(|_| layer(chance.below(4))).collect(),
            4 => {
                self.request.platform =
                    ["linux/amd64", "linux/arm64", "linux/arm/v7"][chance.below(3)].parse().unwrap();
            }
            5 => {
                let level = 1 + i32::try_from(chance.below(9)).unwrap();
                let gzip = Compression::Gzip { level: level.unsigned_abs() };
                self.request.compression = [gzip, Compression::Zstd { level }, Compression::None][chance.below(3)];
            }
            6 => self.request.snapshot_mode = [SnapshotMode::Full, SnapshotMode::Redo][chance.below(2)],
            7 => self.request.single_snapshot = !self.request.single_snapshot,
            15 => {
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(chance.below(3) as u64);
                (self.request.created, self.request.reproducible) = (time, chance.below(2) == 0);
            }
            8 => self.cache.ignored = (0..chance.below(3)).map(|_| PathBuf::from(chance.name())).collect(),
            9 => self.origin.1 = chance.word(),
            10..15 => {
                let place = chance.below(self.actions.len());
                change(&mut self.actions[place], chance);
            }
            _ => {
                self.idle(chance);
                return Step::Idle;
            }
        }
        Step::Decides
    }

    /// Changes one thing that no layer sees.
    fn idle(&mut self, chance: &mut Chance) {
        let word = chance.name();
        match chance.below(13) {
            0 => self.name = word,
            1 => self.origin.0 = word,
            2 => self.request.labels.push((word.clone(), word)),
            3 => self.request.destinations = vec![format!("r.test/{word}").parse().unwrap()],
            4 if !self.request.reproducible => self.request.created += Duration::from_secs(1),
            5 => self.request.current_directory = word.into(),
            6 => self.request.target = Some(word),
            7 => self.base.config.config.labels = [(word.clone(), word)].into(),
            8 => self.base.config.created = Some(word),
            9 => self.request.image_format = Some(ImageFormat::Docker),
            10 => self.request.annotations.push((word.clone(), word)),
            11 => self.cache.place = CachePlace::Layout(word.into()),
            _ => {
                for action in &mut self.actions {
                    match action {
                        Action::Run(run) => {
                            run.text.push('x');
                            run.env.truncate(run.deciding);
                            run.env.push(format!("http_proxy={word}"));
                        }
                        Action::Copy(copy) => {
                            copy.instruction = if copy.instruction == "COPY" { "ADD" } else { "COPY" };
                            if copy.destination.ends_with('/') {
                                copy.destination.push('/');
                            }
                        }
                        Action::MakeDir(_) => {}
                    }
                }
            }
        }
    }
}

fn change(action: &mut Action, chance: &mut Chance) {
    match action {
        Action::Run(run) => match chance.below(11) {
            9 => run.mounts.iter_mut().take(1).for_each(|mount| mount.target = format!("/{}", chance.name())),
            10 => {
                for mount in run.mounts.iter_mut().take(1) {
                    match &mut mount.kind {
                        MountKind::Script { name, .. } => *name = chance.name(),
                        MountKind::Secret { id, env, .. } => {
                            if chance.below(2) == 0 {
                                *id = chance.name();
                            } else {
                                *env = Some(chance.name());
                            }
                        }
                        MountKind::Tmpfs { size } => *size = Some(chance.below(3) as u64),
                        _ => {}
                    }
                }
            }
            6 => run.offline = !run.offline,
            7 => drop(run.mounts.pop()),
            8 => {
                let (target, id) = (format!("/{}", chance.name()), chance.name());
                let kind = match chance.below(3) {
                    0 => MountKind::Tmpfs { size: Some(chance.below(3) as u64) },
                    1 => MountKind::Script { name: id, content: chance.word() },
                    _ => MountKind::Secret { id, env: None, required: true, ownership: (0, 0, 0o400) },
                };
                run.mounts.push(Mount { target, kind });
            }
            0 => run.arguments.push(chance.word()),
            // The same letters, parted elsewhere.
            1 if run.arguments.len() > 1 => {
                let last = run.arguments.pop().unwrap();
                run.arguments.last_mut().unwrap().push_str(&last);
            }
            2 => {
                run.env.truncate(run.deciding);
                run.env.push(format!("{}={}", chance.name(), chance.word()));
                run.deciding = run.env.len();
            }
            3 => {
                run.env.truncate(run.deciding);
                run.env.pop();
                run.deciding = run.env.len();
            }
            4 => run.user = chance.word(),
            _ => run.working_dir = format!("/{}", chance.name()),
        },
        Action::Copy(copy) => match chance.below(14) {
            10 => copy.inline.iter_mut().take(1).for_each(|file| file.name = chance.name()),
            11 => copy.unpack_remote = !copy.unpack_remote,
            12 => copy.checksum = Some(chance.name()),
            13 => copy.keep_git_dir = [None, Some(false), Some(true)][chance.below(3)],
            6 => copy.inline.push(InlineFile { name: chance.name(), content: chance.word() }),
            7 => copy.link = !copy.link,
            8 => copy.parents = !copy.parents,
            9 => copy.exclude = (0..chance.below(3)).map(|_| chance.name()).collect(),
            0 => copy.destination = format!("{}{}", chance.name(), ["", "/"][chance.below(2)]),
            1 => copy.chown = Some(chance.word()),
            2 => copy.chmod = Some(["0644", "0755", "u+x"][chance.below(3)].to_owned()),
            3 => copy.sources = (0..=chance.below(2)).map(|_| chance.name()).collect(),
            4 => copy.unpack = !copy.unpack,
            _ => copy.working_dir = format!("/{}", chance.name()),
        },
        Action::MakeDir(made) => match chance.below(2) {
            0 => made.path = format!("/{}", chance.name()),
            _ => made.user = chance.word(),
        },
    }
}

fn layer(number: usize) -> Layer {
    let bytes = number.to_le_bytes().to_vec();
    Layer {
        descriptor: Descriptor::of(MediaType::OCI_LAYER, &bytes),
        diff_id: Digest::of(&bytes),
        blob: std::sync::Arc::new(zuwai_registry::blob::BytesBlob::new(bytes)),
        origin: None,
    }
}

#[test]
fn whatever_can_change_a_layer_changes_its_key_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let root = RootFs::open(folder.path(), Ignore::default()).unwrap();
    let ignore = Dockerignore::default();
    let content = Content::new(&root, &ignore);
    let settings = Stage::scratch().settings;
    let (mut chance, mut build, mut seen) = (Chance(0x5EED), Build::new(), Seen::default());
    let (mut idle, mut decisive) = (0, 0);
    let mut before = (build.keys(&settings, &content), build.decisions());
    for _ in 0..100_000 {
        let step = build.step(&mut chance);
        let now = (build.keys(&settings, &content), build.decisions());
        for (key, decision) in now.0.iter().zip(&now.1) {
            seen.check(*key, decision);
        }
        match step {
            Step::Idle => {
                idle += 1;
                assert_eq!(now.0, before.0, "{:?}", now.1.last());
            }
            Step::Decides => decisive += 1,
        }
        // Some steps write what was there before: then everything is as before.
        for place in 0..now.1.len().min(before.1.len()) {
            assert_eq!(now.0[place] == before.0[place], now.1[place] == before.1[place], "{:?}", now.1.last());
        }
        before = now;
    }
    assert!(idle > 10_000 && decisive > 50_000, "{idle} idle, {decisive} decisive");
}
