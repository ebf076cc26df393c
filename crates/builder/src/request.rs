//! What is wanted of a build, as plain values: everything here was decided by the caller (a command line, another
//! program); nothing below it reads an environment, a home folder or a terminal.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zuwai_registry::{Compression, Digest, ImageFormat, Platform, Reference, TransportOptions};
use zuwai_snapshot::SnapshotMode;

use crate::output::TextPlace;

/// One build: from which text and files, for which platform, and what becomes of the image.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct BuildRequest {
    /// The Dockerfile as it was named: tried against [`BuildRequest::current_directory`] first, then against the
    /// context, as Kaniko does.
    pub dockerfile: PathBuf,
    /// What relative paths on the local machine are relative to. Absolute.
    pub current_directory: PathBuf,
    /// Where the files for COPY and ADD come from.
    pub context: ContextRequest,
    /// Contexts besides that one, each with a name that FROM, `COPY --from` and `RUN --mount=from=…` can use. Of several with one
    /// name the last counts.
    pub contexts: Vec<NamedContext>,
    /// Values for ARG, in the order given; a later one of the same name wins.
    pub build_args: Vec<(String, String)>,
    /// What `RUN --mount=type=secret` can ask for.
    pub secrets: Vec<SecretRequest>,
    /// What `RUN --mount=type=ssh` can ask for.
    pub agents: Vec<AgentRequest>,
    /// Labels put on the image; they win over LABEL in the Dockerfile.
    pub labels: Vec<(String, String)>,
    /// The stage to build, by name (case does not matter); `None` is the last one.
    pub target: Option<String>,
    /// The platform the image is for.
    pub platform: Platform,
    /// Whether the platform was asked for: then the image says it is for it, whatever its last stage begins with.
    pub platform_given: bool,
    /// How changes of the root filesystem are found.
    pub snapshot_mode: SnapshotMode,
    /// Whether the kernel is asked to tell which folders commands touch (see [`Scope::Watched`](zuwai_snapshot::Scope)), so
    /// that the look after each of several commands need not ask for every file. The look after the last one does.
    pub watch_folders: bool,
    /// One layer for the whole stage instead of one for each instruction.
    pub single_snapshot: bool,
    /// How layers made by this build are compressed.
    pub compression: Compression,
    /// The manifest's family; `None` takes the base image's, and OCI for scratch.
    pub image_format: Option<ImageFormat>,
    /// What the image is called. The first name also names it in the archive and the layout.
    pub destinations: Vec<Reference>,
    /// Whether the image is pushed to its destinations.
    pub push: bool,
    /// Whether the registry is asked for the right to push before anything is built.
    pub check_push_permission: bool,
    /// Files that are written beside, or instead of, the push.
    pub outputs: OutputRequest,
    /// Leave the image's files where they were built, for somebody who goes on in this container. The base is unpacked even
    /// where no step looks at it.
    pub materialize: bool,
    /// The time written as `created` into the image and its history, where the build argument `SOURCE_DATE_EPOCH`, or the
    /// default of an ARG of that name before the first FROM, says no other.
    pub created: SystemTime,
    /// No file of a layer that the build makes is younger than [`BuildRequest::created`]: what is is written with that time.
    /// Where nothing says another time, it is 1970.
    pub reproducible: bool,
    /// Annotations of the image's manifest. Docker's manifests have none.
    pub annotations: Vec<(String, String)>,
    /// Where layers are kept and found again; `None` makes every layer anew.
    pub cache: Option<CacheRequest>,
    /// A folder that [`warm`](crate::warm) has put base images into; relative to [`BuildRequest::current_directory`].
    pub base_images: Option<PathBuf>,
}

/// How the cache of layers is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRequest {
    /// Where layers are kept.
    pub place: CachePlace,
    /// Layers that were made, or last used, longer ago are not used.
    pub ttl: Duration,
    /// Whether layers of COPY and ADD are kept and found.
    pub copy_layers: bool,
    /// Whether layers of RUN and WORKDIR are kept and found.
    pub run_layers: bool,
    /// Whether new layers are kept.
    pub keep: bool,
    /// Paths that the user keeps out of every layer: they decide what is in one.
    pub ignored: Vec<PathBuf>,
    /// Whether the folders of `RUN --mount=type=cache` are kept in the same place, and the most bytes of one.
    pub mounts: Option<u64>,
}

/// A place for layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// A repository of a registry; its tag does not count.
    Repository(Reference),
    /// A folder, which becomes an OCI layout; relative to [`BuildRequest::current_directory`].
    Layout(PathBuf),
}

/// A secret that commands may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRequest {
    /// What commands call it.
    pub id: String,
    /// Where its value is.
    pub source: SecretSource,
}

/// Where the value of a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file; a relative path begins at [`BuildRequest::current_directory`].
    File(PathBuf),
    /// Here.
    Value(Vec<u8>),
}

impl fmt::Debug for SecretSource {
    /// Never shows a value.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::File(path) => formatter.debug_tuple("File").field(path).finish(),
            SecretSource::Value(_) => formatter.write_str("Value(…)"),
        }
    }
}

/// An agent that commands may speak to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRequest {
    /// What commands call it.
    pub id: String,
    /// Its socket; a relative path begins at [`BuildRequest::current_directory`].
    pub socket: PathBuf,
}

impl BuildRequest {
    /// The latest time in whole seconds since 1970, as layers have it.
    pub(crate) fn latest_mtime(&self) -> Option<i64> {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let created = self.created.duration_since(SystemTime::UNIX_EPOCH);
        self.reproducible.then(|| created.map_or_else(|before| -seconds(before.duration()), seconds))
    }
}

/// Where the build context comes from.
#[derive(Debug, Clone)]
pub struct ContextRequest {
    /// As typed: a folder, `dir://…`, `git://…`, `tar://…`.
    pub location: String,
    /// A folder inside the context that is used instead of the whole.
    pub sub_path: Option<PathBuf>,
    /// How a git context is cloned.
    pub git: GitOptions,
    /// How servers are reached.
    pub transport: TransportOptions,
    /// What `tar://stdin` reads; `None` refuses it.
    pub standard_input: Option<Arc<File>>,
}

/// A context with a name: `--build-context NAME=VALUE`. [`NamedContext::parse`] makes one.
#[derive(Debug, Clone)]
pub struct NamedContext {
    /// As given.
    pub name: String,
    /// The same as an image's name, since names are compared so.
    pub reference: Reference,
    /// What the name stands for.
    pub source: NamedSource,
}

/// What the name of a context stands for.
#[derive(Debug, Clone)]
pub enum NamedSource {
    /// Files, as the main context can be.
    Files(ContextRequest),
    /// The files of a repository: an address as ADD takes it, `https://HOST/PATH.git[#REF[:FOLDER]]`.
    Repository(ContextRequest),
    /// An image of a registry.
    Image(Reference),
    /// No files at all: `docker-image://scratch`.
    Nothing,
    /// An image in a folder in OCI image layout.
    Layout {
        /// The folder; relative to [`BuildRequest::current_directory`].
        folder: PathBuf,
        /// Which of its images; without either of these the only one, or `latest`.
        tag: Option<String>,
        /// The manifest, or the index, that is meant.
        digest: Option<Digest>,
    },
}

/// Options of a git context: `--git key=value` and the credentials that come from outside.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own that users set one by one")]
pub struct GitOptions {
    /// The branch, or tag, to check out instead of the one the location names.
    pub branch: Option<String>,
    /// Where all of the history is fetched: that of this branch alone.
    pub single_branch: bool,
    /// How many commits of history to fetch. `None` is one: a build needs no history. 0 is all of it, with all tags.
    pub depth: Option<u32>,
    /// Also fetch submodules, and theirs.
    pub recurse_submodules: bool,
    /// Do not verify the server's certificate.
    pub insecure_skip_tls: bool,
    /// User name and password; they beat those in the location.
    pub credentials: Option<(String, String)>,
    /// Speak plain HTTP (`GIT_PULL_METHOD=http`).
    pub plain_http: bool,
}

/// What is written when the image is done. Each appears whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct OutputRequest {
    /// An archive as `docker save` writes it.
    pub tar_path: Option<PathBuf>,
    /// A folder in OCI image layout.
    pub oci_layout_path: Option<PathBuf>,
    /// A place for the digest alone, without a newline.
    pub digest_file: Option<TextPlace>,
    /// A place for one `repository@digest` line for each destination.
    pub image_name_with_digest_file: Option<TextPlace>,
    /// A place for one `repository:tag@digest` line for each destination.
    pub image_name_tag_with_digest_file: Option<TextPlace>,
}

impl OutputRequest {
    /// Whether the image itself is written somewhere.
    #[must_use]
    pub fn any(&self) -> bool {
        self.tar_path.is_some() || self.oci_layout_path.is_some()
    }
}
