//! What an instruction does to a root filesystem. Each kind of [`Action`] has its file here; an action is plain data
//! that `instruction` made, and the only thing read besides it is what lies in the ground it is carried out on.

mod add;
mod copy;
mod link;
mod mounts;
mod ownership;
mod remote;
mod run;
mod workdir;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zuwai_registry::TransportOptions;
use zuwai_snapshot::{RootFs, Scope, SnapshotError, Snapshotter};

use crate::context::{Dockerignore, FilesError, GitError, Sight};
use crate::event::Observer;
use crate::instruction::Action;
use crate::isolation::mount::MountError;
use crate::isolation::{self, Cancel, Isolation, IsolationError};
use crate::passwd::PasswdError;
use crate::request::GitOptions;
use crate::secrets::Secrets;
use crate::web::WebError;

pub(crate) use mounts::folder_of;

/// Where an action is carried out, and with what.
pub(crate) struct Ground<'a> {
    /// The stage's root filesystem, its base unpacked.
    pub(crate) root: &'a RootFs,
    /// The build context.
    pub(crate) context: &'a Sight,
    /// What each `--from` and `from=` of the instruction names.
    pub(crate) origins: BTreeMap<String, Tree>,
    /// Secrets and agents of whoever asked for the build.
    pub(crate) secrets: &'a Secrets,
    /// Folders that `--mount=type=cache` keeps from build to build.
    pub(crate) caches: &'a Path,
    /// How git servers are spoken to.
    pub(crate) git: &'a GitOptions,
    /// How servers are reached.
    pub(crate) transport: &'a TransportOptions,
    /// A folder of the machine for what is put down while the action goes on. It need not exist.
    pub(crate) scratch: PathBuf,
    /// Runs commands.
    pub(crate) isolation: &'a dyn Isolation,
    /// What is known of the root. Before a command starts it waits until the filesystem's clock has moved past that.
    pub(crate) snapshotter: &'a dyn Snapshotter,
    /// Told what happens.
    pub(crate) observer: &'a dyn Observer,
    /// Asks for an end.
    pub(crate) cancel: &'a Cancel,
    /// What servers told of what is to be fetched, where somebody counts on it.
    pub(crate) told: Option<&'a Told>,
}

/// What a `--from` names.
pub(crate) enum Tree {
    /// A stage that is done, or an image unpacked aside.
    Made(Arc<RootFs>),
    /// A named context.
    Given(Arc<Sight>),
}

/// What servers told of addresses before anything was fetched from them, and whether it was still so then.
#[derive(Debug, Default)]
pub(crate) struct Told {
    addresses: BTreeMap<String, String>,
    otherwise: AtomicBool,
}

impl Told {
    pub(crate) fn new(addresses: BTreeMap<String, String>) -> Told {
        Told { addresses, otherwise: AtomicBool::new(false) }
    }

    /// Something was fetched from the address, and this is what the server says of it now.
    fn compare(&self, address: &str, now: Option<&str>) {
        if self.addresses.get(address).is_some_and(|before| Some(before.as_str()) != now) {
            self.otherwise.store(true, Ordering::SeqCst);
        }
    }

    /// Whether something else was fetched than was told of.
    pub(crate) fn is_outdated(&self) -> bool {
        self.otherwise.load(Ordering::SeqCst)
    }
}

impl Ground<'_> {
    /// What a `--from` names, or the build context without one. An ignore file holds in a context, and in nothing else; the
    /// files of one are root's, whoever they belong to on this machine.
    fn tree(&self, from: Option<&str>) -> (&RootFs, Option<&Dockerignore>) {
        let sight = match from.map(|name| self.origins.get(name).expect("every --from was resolved")) {
            Some(Tree::Made(root)) => return (root, None),
            Some(Tree::Given(sight)) => sight,
            None => self.context,
        };
        (&sight.root, Some(&sight.ignore))
    }

    /// An error about what a `--from` names, worded for what that is.
    fn worded(&self, from: Option<&str>, error: FilesError) -> FilesError {
        if from.is_some() && self.tree(from).1.is_some() { error.in_named_context() } else { error }
    }

    /// Puts something down in the scratch folder, or says what it was for.
    fn put_down<T>(&self, what: &'static str, done: io::Result<T>) -> Result<T, StepError> {
        done.map_err(|source| StepError::Scratch { what, path: self.scratch.clone(), source })
    }
}

/// Carries out an action. What it may have changed comes back.
pub(crate) fn execute(action: &Action, ground: &Ground<'_>) -> Result<Scope, StepError> {
    match action {
        Action::Run(action) => run::execute(action, ground),
        Action::Copy(action) => copy::execute(action, ground),
        Action::MakeDir(action) => workdir::execute(action, ground),
    }
}

/// An action that could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The command of a RUN failed.
    #[error("the command ended with exit code {code}{}", tail(last_lines))]
    Exit {
        /// Its exit code.
        code: u8,
        /// The last lines it printed, on either stream.
        last_lines: Vec<String>,
    },
    /// The command could not be run at all.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// The name of a user or a group means nothing in this image.
    #[error(transparent)]
    Passwd(#[from] PasswdError),
    /// Sources of COPY or ADD.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Several sources and a destination that is no folder: all but one would be lost.
    #[error(
        "with more than one source the destination must be a folder and end with a slash, and {destination} does not"
    )]
    DestinationNotFolder {
        /// The destination as written.
        destination: String,
    },
    /// A folder cannot take the place of a file.
    #[error("copy the folder {source_path} to {destination}: something that is not a folder is there")]
    FolderOverFile {
        /// The source.
        source_path: String,
        /// The destination.
        destination: String,
    },
    /// The destination is a mount of the container or the builder's own folder.
    #[error("{} is not part of the image: it is a mount of this container or belongs to zuwai", path.display())]
    Ignored {
        /// The destination with links followed.
        path: PathBuf,
    },
    /// Something that is not a folder is where a folder must be.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path in the image.
        path: PathBuf,
    },
    /// `--chmod`.
    #[error("--chmod")]
    Mode(#[from] zuwai_snapshot::ModeChangeError),
    /// A command of another processor, which nobody here understands.
    #[error("a command of {platform} cannot be run on {host}")]
    Foreign {
        /// What the stage is for.
        platform: String,
        /// This machine.
        host: String,
    },
    /// A file behind a web address.
    #[error(transparent)]
    Web(#[from] WebError),
    /// A git repository.
    #[error(transparent)]
    Git(#[from] GitError),
    /// What came from elsewhere is not what was expected.
    #[error("{address} is not what --checksum says: {wanted} was wanted, and {found} came")]
    Checksum {
        /// The address.
        address: String,
        /// What was wanted.
        wanted: String,
        /// What came.
        found: String,
    },
    /// A folder that the repository has not.
    #[error("{address} has no folder {folder}")]
    NoFolderInRepository {
        /// The repository.
        address: String,
        /// The folder.
        folder: String,
    },
    /// A mount of RUN.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Two mounts of one command are one cache.
    #[error("the cache {id} is mounted twice in one command")]
    SameCache {
        /// Its id.
        id: String,
    },
    /// A secret that must be there was not given.
    #[error("the secret {id} is required, and was not given")]
    NoSecret {
        /// Its id.
        id: String,
    },
    /// An agent that must be there was not given.
    #[error("the ssh agent {id} is required, and was not given")]
    NoAgent {
        /// Its id.
        id: String,
    },
    /// A secret that is to be a variable and cannot be one.
    #[error("the secret {id} cannot be the value of {env}: it is not text, or holds a zero byte")]
    SecretNotText {
        /// Its id.
        id: String,
        /// The variable.
        env: String,
    },
    /// The folder for what is put down meanwhile could not be used.
    #[error("{what}: {}", path.display())]
    Scratch {
        /// What it was for.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A source of ADD could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The source.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An archive that ADD unpacks.
    #[error("unpack {}", path.display())]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// Why not.
        #[source]
        source: SnapshotError,
    },
    /// The root filesystem or the source could not be read or written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl StepError {
    /// A way out, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            StepError::Isolation(error) => error.hint(),
            StepError::Files(error) => error.hint(),
            StepError::DestinationNotFolder { destination } => Some(format!("write {destination}/")),
            StepError::Git(error) => error.hint(),
            StepError::Foreign { .. } => Some(
                "register an emulator with the kernel (the package qemu-user-static does), or run the command in a stage \
                 FROM --platform=$BUILDPLATFORM and COPY what it makes"
                    .to_owned(),
            ),
            StepError::NoSecret { id } => Some(format!("give it with --secret id={id},src=FILE")),
            StepError::NoAgent { id } => Some(format!("give it with --ssh {id}=SOCKET")),
            StepError::Ignored { .. } => {
                Some("choose another destination, or mount the volume elsewhere in the builder's container".to_owned())
            }
            StepError::SameCache { .. } => Some("give one of them another id".to_owned()),
            error => isolation::hint_for_ids(error),
        }
    }

    /// The exit code a command line gives for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            StepError::Exit { code, .. } => *code,
            _ => 1,
        }
    }
}

fn tail(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("; its last lines:\n    {}", lines.join("\n    "))
}

/// A path as the image sees it: relative ones begin at the working folder. Keeps a trailing slash's meaning out: see
/// [`names_folder`].
pub(crate) fn absolute(working_dir: &str, path: &str) -> PathBuf {
    Path::new("/").join(working_dir).join(path)
}

/// Whether a destination is meant as a folder by how it is written: it ends with a slash, or is `.` or `..`.
pub(crate) fn names_folder(destination: &str) -> bool {
    matches!(destination, "" | "." | "..")
        || destination.ends_with('/')
        || destination.ends_with("/.")
        || destination.ends_with("/..")
}
