//! Where a RUN runs. An isolation gives the folder that is the image's "/" while a stage is built, and runs commands
//! in it. It decides nothing about what is run, as whom, or what becomes of the changes: that is `step`.

mod container;
mod direct;
mod files_only;
pub mod mount;
mod mounts;
mod namespace;
mod private_root;
mod running;
mod sandbox;
mod spawn;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zuwai_snapshot::{Ignore, RootFs, UnmappedId};

pub use self::container::Evidence;
pub use self::direct::{Direct, DirectOptions};
pub use self::files_only::{FilesOnly, FilesOnlyOptions};
use self::mount::{Laid, Mount, MountError};
pub use self::mounts::mount_points;
pub use self::namespace::{Namespace, NamespaceOptions};
use crate::event::Stream;

/// Tries out whether the kernel lets this user have the namespaces and mounts that [`Namespace`] is made of; one that is not
/// root, in a new user namespace. Nothing is changed.
///
/// # Errors
/// What was refused, and the kernel's answer.
pub fn namespaces_allowed(user_namespace: bool) -> Result<(), IsolationError> {
    sandbox::try_out(user_namespace).map_err(|(what, source)| IsolationError::Refused { what, source })
}

/// How a RUN is run, and in which root. One build at a time: `begin`, then `enter` and `leave` for each stage, then `end`.
pub trait Isolation: Send + Sync {
    /// Whether commands can be run at all: asked before anything is downloaded.
    fn check_run(&self) -> Result<(), IsolationError> {
        Ok(())
    }

    /// Opens a tree of this build that lies aside: a stage that is done, an image that COPY reads from.
    fn open(&self, folder: &Path) -> Result<RootFs, IsolationError> {
        Ok(RootFs::open(folder, Ignore::default())?)
    }

    /// Whether each stage has a root of its own, so that several can be built at once.
    fn builds_side_by_side(&self) -> bool {
        false
    }

    /// Finishes what a build that was killed left unfinished: what it had parked is put back, and its image's files go
    /// to `leftover`. Called before anything else; does nothing where nothing was left, as where each stage has a folder
    /// of its own.
    fn recover(&self, _parked: &Path, _leftover: &Path) -> Result<(), IsolationError> {
        Ok(())
    }

    /// Makes room for the first stage. What lay in the place where images are built is kept in `parked`. When this fails,
    /// everything lies where it lay before, or the error says where it is.
    fn begin(&self, _parked: &Path, _contexts: &[&Path]) -> Result<(), IsolationError> {
        Ok(())
    }

    /// An empty root filesystem for a stage, with everything in it that is no part of an image marked as ignored.
    /// `folder` is where the stage will be found once it is done; it does not exist yet.
    fn enter(&self, folder: &Path) -> Result<RootFs, IsolationError>;

    /// The stage is done: from now on its tree is found in `folder`, and the place where it was built is free.
    fn leave(&self, root: &RootFs, folder: &Path) -> Result<(), IsolationError>;

    /// Puts back what `begin` has parked. Whatever else lies in the place where images are built is moved to `leftover`.
    fn end(&self, _parked: &Path, _leftover: &Path) -> Result<(), IsolationError> {
        Ok(())
    }

    /// Where a context that was given to [`Isolation::begin`] is found while the build goes on.
    fn moved(&self, context: &Path, _parked: &Path) -> PathBuf {
        context.to_owned()
    }

    /// Why a command cannot have here what it asks for; `None` where it can.
    fn lacks(&self, wish: Wish<'_>) -> Option<&'static str> {
        Some(match wish {
            Wish::Offline => {
                "a command shares the network of the container it runs in; the isolation `namespace` can part them"
            }
            Wish::Insecure => "a command has the rights of the container it runs in and no more",
            Wish::Device(_) => "a command has the devices of the container it runs in",
        })
    }

    /// Refuses what a command asks for and cannot have here. Called before anything is downloaded.
    fn check(&self, wish: Wish<'_>) -> Result<(), IsolationError> {
        match self.lacks(wish) {
            Some(why) => Err(IsolationError::NotHere { what: wish.to_string(), why }),
            None => Ok(()),
        }
    }

    /// Lays mounts into the root for the next command. `aside` is a folder of the machine for what is in the way.
    fn lay(&self, mounts: &[Mount<'_>], root: &RootFs, aside: &Path) -> Result<Box<dyn Laid>, MountError> {
        mount::lay(mounts, root, aside)
    }

    /// Runs one command, in the root of a stage, to its end. When this returns, the command and everything it left behind
    /// are gone. What was laid for it ([`Isolation::lay`]) still lies in the root then. Output is handed on as it is read,
    /// from other threads than the caller's.
    ///
    /// A command that could not be started at all is not an error but an exit code, as a shell gives it: 127 when there
    /// is no such program, 126 when it may not be executed.
    fn run(
        &self,
        root: &RootFs,
        command: &Command,
        laid: &dyn Laid,
        output: &OutputSink<'_>,
        cancel: &Cancel,
    ) -> Result<Exit, IsolationError>;
}

/// What the user named as part of no image: `--ignore-path`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Paths, with all below them. Absolute.
    pub paths: Vec<PathBuf>,
    /// The same with wildcards: see [`Ignore::with_patterns`], by which they were checked.
    pub patterns: Vec<String>,
}

impl Named {
    /// These, and other paths.
    fn ignore(&self, others: impl IntoIterator<Item = PathBuf>) -> Ignore {
        let paths = Ignore::new(self.paths.iter().cloned().chain(others));
        // What is no pattern matches nothing.
        paths.clone().with_patterns(self.patterns.iter().map(String::as_str)).unwrap_or(paths)
    }
}

/// What a command asks for besides a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish<'a> {
    /// No network but a loopback.
    Offline,
    /// Every right there is.
    Insecure,
    /// A device, by its name in the Container Device Interface.
    Device(&'a str),
}

impl fmt::Display for Wish<'_> {
    /// The flag that asks for it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wish::Offline => formatter.write_str("--network=none"),
            Wish::Insecure => formatter.write_str("--security=insecure"),
            Wish::Device(name) => write!(formatter, "--device={name}"),
        }
    }
}

/// Takes a command's output: the stream, and the bytes of one read.
pub type OutputSink<'a> = dyn Fn(Stream, &[u8]) + Sync + 'a;

/// What is run, as whom, with what in sight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments. A program without a slash is looked for in the PATH of `environment`.
    pub arguments: Vec<String>,
    /// The whole environment, `NAME=value`: nothing else is seen by the command.
    pub environment: Vec<String>,
    /// User, group and supplementary groups.
    pub identity: Identity,
    /// The folder it starts in, a path inside the image.
    pub working_dir: PathBuf,
    /// What it can reach.
    pub network: Network,
}

/// What a command can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// What the builder can reach.
    #[default]
    Host,
    /// Nothing but itself.
    None,
}

/// Ids a command runs under.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// How a command ended, as a shell tells it: its exit code, or 128 and the number of the signal that ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 0 is success.
    pub code: u8,
}

impl Exit {
    /// Whether the command succeeded.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.code == 0
    }
}

/// Asks a build to stop. It is looked at between steps and by everything that waits.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the stop. There is no way back.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// The flag itself, for whoever else is to look at it.
    #[must_use]
    pub fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// The same, for libraries that look at a flag.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Whether the stop was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What keeps a root filesystem or a command from being had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolationError {
    /// `direct` builds in the machine's own "/": on a machine that is not a container, that is somebody's system.
    #[error("zuwai should only be run inside of a container: it builds in the root filesystem it finds, and {why}")]
    NotInContainer {
        /// What was seen instead of a container.
        why: String,
        /// Whether the user's word would do: nothing shows a machine either.
        confirmable: bool,
    },
    /// Files of many owners can only be written by root.
    #[error("zuwai runs as user {uid} here; building in the container's own root filesystem needs user 0")]
    NotRoot {
        /// The user it runs as.
        uid: u32,
    },
    /// The mount points could not be read, so it is not known what must not be touched.
    #[error("read {path}")]
    Mounts {
        /// The file that lists them.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The context is the whole container.
    #[error("the build context is /, which is where the image is built")]
    ContextIsRoot,
    /// A context is one of the folders that every image has, and cannot be moved out of its way.
    #[error("the context {} has mounts of this container in it, and the image's own {} is to lie there", path.display(), path.display())]
    ContextInTheWay {
        /// The folder.
        path: PathBuf,
    },
    /// What lay in the container before the build is not all back in its place. Nothing of it is lost.
    #[error("put the container's own files back from {}", parked.display())]
    PutBack {
        /// Where they are.
        parked: PathBuf,
        /// Why they are not back.
        #[source]
        source: zuwai_snapshot::SnapshotError,
    },
    /// A right that every container has by default was taken away.
    #[error("run a command as user {uid} and group {gid} without the capability {capability}")]
    MissingCapability {
        /// The capability.
        capability: &'static str,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// The kernel, or what stands before it, does not allow what a private root needs.
    #[error("{what}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// What surrounds a command could not be made.
    #[error("{what}")]
    Sandbox {
        /// What of it.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A command was to run as somebody who is not in the user namespace.
    #[error("the id {id} cannot be had here: there are {ids}, counted from 0")]
    UnmappedId {
        /// The user or group.
        id: u32,
        /// How many there are.
        ids: u32,
    },
    /// Nobody here may run commands in another root.
    #[error("no command can be run here: {why}")]
    NoCommands {
        /// What is missing.
        why: String,
        /// What would help.
        hint: String,
    },
    /// The folder for a stage, or for what belongs to all of them, could not be made.
    #[error("make {}", path.display())]
    Place {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A command asks for what the place where it runs cannot give.
    #[error("{what} cannot be had here: {why}")]
    NotHere {
        /// What it asks for.
        what: String,
        /// Why not.
        why: &'static str,
    },
    /// The mark that says whose files lie in the root could not be written.
    #[error("write {}", path.display())]
    Mark {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The root filesystem could not be opened or changed.
    #[error(transparent)]
    Snapshot(#[from] zuwai_snapshot::SnapshotError),
    /// The command could not be started for a reason that is not its own.
    #[error("start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The command could not be waited for.
    #[error("wait for {program}")]
    Wait {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The build was asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

impl IsolationError {
    /// A way out, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            IsolationError::NotInContainer { confirmable: true, .. } => Some(
                "run the zuwai image as a container (a Pod, podman run, a CI job's image); a container that is not \
                 recognised can be confirmed with --force"
                    .to_owned(),
            ),
            IsolationError::NotInContainer { confirmable: false, .. } => {
                Some("run the zuwai image as a container (a Pod, podman run, a CI job's image)".to_owned())
            }
            IsolationError::NotRoot { .. } => {
                Some("set runAsUser: 0 in the Pod's securityContext; no other right is needed".to_owned())
            }
            IsolationError::ContextIsRoot => Some("name a folder of its own with --context".to_owned()),
            IsolationError::ContextInTheWay { .. } => {
                Some("copy what is needed of it into a folder of its own, and name that one".to_owned())
            }
            IsolationError::PutBack { .. } => {
                Some("make room on the disk and start a build again: it begins by putting them back".to_owned())
            }
            IsolationError::NotHere { .. } => Some("leave the flag out".to_owned()),
            IsolationError::MissingCapability { capability, .. } => {
                Some(format!("add {capability} to the container's capabilities: it is one of the default ones"))
            }
            IsolationError::NoCommands { hint, .. } => Some(hint.clone()),
            IsolationError::UnmappedId { id, .. } => Some(more_ids(*id)),
            _ => None,
        }
    }
}

/// A way out where an error comes from an id that this user namespace does not have.
pub(crate) fn hint_for_ids(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    UnmappedId::behind(error).map(|unmapped| more_ids(unmapped.id))
}

/// What gives a user so many ids.
fn more_ids(id: u32) -> String {
    const FIRST: u32 = 100_000;
    let last = FIRST.saturating_add(id);
    format!(
        "give the user subordinate ids up to {id}, as root with `usermod --add-subuids {FIRST}-{last} --add-subgids \
         {FIRST}-{last} NAME` (they must not overlap those of others in /etc/subuid and /etc/subgid), or build as root"
    )
}
