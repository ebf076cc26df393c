//! What decides the layer of a step, by kind of [`Action`]. Every field of an action is named here, so that one that is
//! added does not compile before somebody has said whether it decides anything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use zuwai_registry::{Compression, Image};

use super::content::{Content, Taking};
use super::key::{Inputs, Key, Kind};
use super::remote::{Remotes, Unknown};
use crate::context::Dockerignore;
use crate::instruction::{Action, CopyAction, Mount, MountKind, RunAction, SourceKind, WorkdirAction};
use crate::request::{BuildRequest, CacheRequest};
use crate::settings::Settings;
use crate::step::{StepError, absolute, names_folder};

/// What a stage begins with when it begins with an image or with nothing. Of the base's configuration nothing is taken
/// but the layers: its environment, user and folder reach a layer through the actions that they decide.
pub(super) fn of_base(name: &str, image: Option<&Image>, request: &BuildRequest, cache: &CacheRequest) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add(Kind::Base, format!("base image {name}"), &[layers(image).bytes()]);
    inputs.show(Kind::Setting, "platform", &request.platform.to_string());
    let compression = match request.compression {
        Compression::Gzip { level } => format!("gzip {level}"),
        Compression::Zstd { level } => format!("zstd {level}"),
        Compression::None => "none".to_owned(),
    };
    inputs.show(Kind::Setting, "--compression", &compression);
    inputs.show(Kind::Setting, "--snapshot-mode", &format!("{:?}", request.snapshot_mode).to_lowercase());
    inputs.show(Kind::Setting, "--single-snapshot", if request.single_snapshot { "true" } else { "false" });
    let latest = request.latest_mtime().map(|time| time.to_string());
    inputs.show(Kind::Setting, "--reproducible", latest.as_deref().unwrap_or("false"));
    let mut ignored: Vec<String> = cache.ignored.iter().map(|path| path.display().to_string()).collect();
    ignored.sort();
    inputs.show(Kind::Setting, "--ignore-path", &ignored.join(" "));
    inputs
}

/// The key of an image that COPY reads from.
pub(super) fn of_image(image: &Image) -> Key {
    layers(Some(image))
}

/// The files of an image, by the digests of its layers' tars.
fn layers(image: Option<&Image>) -> Key {
    let diff_ids: Vec<String> =
        image.iter().flat_map(|image| &image.layers).map(|layer| layer.diff_id.to_string()).collect();
    Key::of(&diff_ids.iter().map(String::as_bytes).collect::<Vec<_>>())
}

/// What each `--from` and `from=` of an instruction names, as written there.
pub(super) type Origins<'a> = BTreeMap<String, Origin<'a>>;

/// What one of them names.
pub(super) enum Origin<'a> {
    /// A stage or an image: its name for people, and the key of all of it.
    Made(String, Key),
    /// A named context, of which only what is taken counts.
    Given(&'a Content<'a>),
}

/// Where an action finds what it reads besides the root filesystem.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) origins: &'a Origins<'a>,
    pub(super) content: &'a Content<'a>,
    pub(super) remotes: &'a Remotes<'a>,
}

impl<'a> Sources<'a> {
    /// What a `from` names: the stage or the image, or the context, which without one is the main one.
    fn of(&self, from: Option<&str>) -> Result<(&'a str, &'a Key), &'a Content<'a>> {
        match from.and_then(|from| self.origins.get(from)) {
            Some(Origin::Made(name, key)) => Ok((name, key)),
            Some(Origin::Given(content)) => Err(content),
            None => Err(self.content),
        }
    }
}

/// What an action reads besides the root filesystem that it finds. An error is what would keep the action from being
/// carried out, or what a server does not tell.
pub(super) fn of_action(action: &Action, settings: &Settings, from: Sources<'_>) -> Result<Inputs, Unknown> {
    let mut inputs = Inputs::default();
    match action {
        Action::Run(action) => run(action, settings, from, &mut inputs)?,
        Action::Copy(action) => copy(action, from, &mut inputs)?,
        Action::MakeDir(WorkdirAction { path, user }) => {
            inputs.show(Kind::Argument, "folder", path);
            inputs.show(Kind::Argument, "user", user);
        }
    }
    Ok(inputs)
}

fn run(action: &RunAction, settings: &Settings, from: Sources<'_>, inputs: &mut Inputs) -> Result<(), Unknown> {
    let RunAction { arguments, env, deciding, user, working_dir, mounts, offline, text: _ } = action;
    inputs.add(Kind::Command, "command", &arguments.iter().map(String::as_bytes).collect::<Vec<_>>());
    for variable in &env[..*deciding] {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        let entry = format!("{name}=");
        let kept = settings.config().config.env.iter().any(|known| known.starts_with(&entry));
        inputs.add(Kind::Variable, format!("{} {name}", if kept { "ENV" } else { "ARG" }), &[variable.as_bytes()]);
        if let (Some(input), true) = (inputs.list.last_mut(), is_harmless(name, value)) {
            input.shown = Some(value.to_owned());
        }
    }
    inputs.show(Kind::Argument, "user", user);
    inputs.show(Kind::Argument, "folder", working_dir);
    if *offline {
        inputs.show(Kind::Argument, "--network", "none");
    }
    mounts.iter().try_for_each(|mount| self::mount(mount, from, inputs))
}

/// What a mount shows decides, but for what is in a cache and for the values of secrets: `BuildKit` has it so, too.
fn mount(mount: &Mount, sources: Sources<'_>, inputs: &mut Inputs) -> Result<(), Unknown> {
    let Mount { target, kind } = mount;
    let what = match kind {
        MountKind::Bind { from, source, writable } => {
            match sources.of(from.as_deref()) {
                Ok((name, key)) => inputs.add(Kind::Origin, name, &[key.bytes()]),
                Err(content) => content.show(inputs, source)?,
            }
            format!("bind {source} {}", if *writable { "rw" } else { "ro" })
        }
        MountKind::Cache { id, sharing: _, from, source, writable, ownership } => {
            // What a new one begins as may be all that a command finds in it.
            match sources.of(from.as_deref()) {
                Ok((name, key)) => inputs.add(Kind::Origin, name, &[key.bytes()]),
                Err(content) if from.is_some() => content.show(inputs, source)?,
                Err(_) => {}
            }
            format!("cache {id} {source} {} {ownership:?}", if *writable { "rw" } else { "ro" })
        }
        MountKind::Tmpfs { size } => format!("tmpfs {size:?}"),
        MountKind::Secret { id, env, required: _, ownership } => format!("secret {id} {env:?} {ownership:?}"),
        MountKind::Ssh { id, required: _, ownership } => format!("ssh {id} {ownership:?}"),
        MountKind::Script { name, content } => {
            inputs.add(Kind::Command, format!("heredoc {name}"), &[content.as_bytes()]);
            "script".to_owned()
        }
    };
    inputs.add(Kind::Argument, format!("--mount on {target}"), &[what.as_bytes()]);
    Ok(())
}

fn copy(action: &CopyAction, found: Sources<'_>, inputs: &mut Inputs) -> Result<(), Unknown> {
    let kind_of = |source: &String| action.kind_of(source);
    let CopyAction {
        instruction: _,
        from,
        sources,
        inline,
        destination,
        working_dir,
        chown,
        chmod,
        link,
        parents,
        exclude,
        unpack,
        unpack_remote,
        checksum,
        keep_git_dir,
    } = action;
    // `.` and slashes at the end mean nothing but that it is a folder.
    let path: PathBuf = absolute(working_dir, destination).components().collect();
    inputs.show(Kind::Argument, "destination", &path.display().to_string());
    let as_folder = if names_folder(destination) { "a folder" } else { "a file or a folder" };
    inputs.show(Kind::Argument, "destination's kind", as_folder);
    let several = sources.len() + inline.len() > 1;
    inputs.show(Kind::Argument, "number of sources", if several { "several" } else { "one" });
    inputs.show(Kind::Argument, "--chown", chown.as_deref().unwrap_or_default());
    inputs.show(Kind::Argument, "--chmod", chmod.as_deref().unwrap_or_default());
    inputs.show(Kind::Argument, "unpacking", if *unpack { "yes" } else { "no" });
    for (flag, given) in [("--link", link), ("--parents", parents), ("--unpack", unpack_remote)] {
        if *given {
            inputs.show(Kind::Argument, flag, "yes");
        }
    }
    if *parents {
        inputs.add(Kind::Argument, "paths", &sources.iter().map(String::as_bytes).collect::<Vec<_>>());
    }
    if !exclude.is_empty() {
        inputs.add(Kind::Argument, "--exclude", &exclude.iter().map(String::as_bytes).collect::<Vec<_>>());
    }
    for file in inline {
        inputs.add(Kind::Argument, format!("heredoc {}", file.name), &[file.content.as_bytes()]);
    }
    inputs.show(Kind::Argument, "--checksum", checksum.as_deref().unwrap_or_default());
    inputs.show(Kind::Argument, "--keep-git-dir", &format!("{keep_git_dir:?}"));
    let content = match found.of(from.as_deref()) {
        Ok((name, key)) => {
            inputs.add(Kind::Origin, name, &[key.bytes()]);
            inputs.add(Kind::Argument, "sources", &sources.iter().map(String::as_bytes).collect::<Vec<_>>());
            return Ok(());
        }
        Err(content) => content,
    };
    let chmod = chmod.as_deref().map(str::parse).transpose().map_err(StepError::from)?;
    // The patterns were checked when the instruction took effect.
    let exclude = Dockerignore::excluding(exclude).unwrap_or_default();
    let (paths, remote): (Vec<String>, Vec<String>) =
        sources.iter().cloned().partition(|source| kind_of(source) == SourceKind::Path);
    if !remote.is_empty() {
        // What comes later is put over what came before.
        let kinds: Vec<String> = sources.iter().map(|source| format!("{:?}", kind_of(source))).collect();
        inputs.show(Kind::Argument, "kinds of sources", &kinds.join(" "));
    }
    for source in &remote {
        match kind_of(source) {
            SourceKind::Git => found.remotes.git(source, checksum.as_deref(), inputs)?,
            _ => found.remotes.web(source, checksum.as_deref(), inputs)?,
        }
    }
    let taking = Taking { sources: &paths, chmod: chmod.as_ref(), parents: *parents, exclude: Some(&exclude) };
    Ok(content.add(inputs, &taking)?)
}

/// Parts of names of variables whose values are nobody's business.
const SECRET_NAMES: [&str; 10] = ["pass", "pwd", "secret", "token", "key", "auth", "cred", "private", "login", "pin"];

/// Whether a value may be told: a version, a number or a yes or no, of a variable whose name does not speak of a secret.
/// All else may be one, and is told by its hash alone.
fn is_harmless(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let looks_secret = SECRET_NAMES.iter().any(|part| name.contains(part));
    let word = matches!(value, "" | "true" | "false" | "yes" | "no" | "on" | "off");
    !looks_secret && (word || is_version(value))
}

/// Numbers with dots between them, maybe behind a `v`: too short and too plain for a secret.
fn is_version(value: &str) -> bool {
    let numbers = value.strip_prefix('v').unwrap_or(value);
    value.len() <= 16
        && numbers
            .split('.')
            .all(|part| (1..=5).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_told() {
        for (name, value) in [("VERSION", "1.2"), ("NODE_VERSION", "v20.11.1"), ("DEBUG", "true"), ("JOBS", "4")] {
            assert!(is_harmless(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("VERSION", "glpat-x1"),
            ("DB_PASSWORD", "1.2"),
            ("NPM_TOKEN", "1"),
            ("PORT", "8080808080"),
            ("URL", "https://a:b@c"),
            ("X", "hunter2"),
        ] {
            assert!(!is_harmless(name, value), "{name}={value}");
        }
    }
}
