//! What can keep a build from its end. The line of the Dockerfile is added here, once; everything below names its own
//! object.

use std::io;
use std::path::PathBuf;

use zuwai_registry::RegistryError;
use zuwai_snapshot::SnapshotError;

use crate::context::ContextError;
use crate::isolation::{self, IsolationError};
use crate::output::OutputError;
use crate::plan::PlanError;
use crate::secrets::SecretError;
use crate::step::StepError;
use crate::syntax::{Span, SyntaxError};

/// A build that did not reach its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The context could not be had.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// There is no Dockerfile where it was looked for.
    #[error("no Dockerfile {name}: it is neither {} nor {}", first.display(), second.display())]
    NoDockerfile {
        /// As it was asked for.
        name: String,
        /// Relative to the current directory.
        first: PathBuf,
        /// Relative to the context.
        second: PathBuf,
    },
    /// The Dockerfile is there and cannot be read.
    #[error("read the Dockerfile {}", path.display())]
    ReadDockerfile {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The text of the Dockerfile is wrong.
    #[error("{at}: {0}", at = .0.span())]
    Syntax(SyntaxError),
    /// The stages do not fit together.
    #[error("{}{problem}", place(span.as_ref()))]
    Plan {
        /// The line, if one is to blame.
        span: Option<Span>,
        /// What is wrong.
        problem: PlanError,
    },
    /// An instruction failed.
    #[error("{span}: {text}")]
    Step {
        /// Where it stands.
        span: Span,
        /// The instruction as written.
        text: String,
        /// What happened.
        source: Box<StepError>,
    },
    /// A base image, or one that COPY reads from, could not be had.
    #[error("{}pull {image}", place(span.as_ref()))]
    Pull {
        /// The line that names it.
        span: Option<Span>,
        /// Its name.
        image: String,
        /// A stage of the file whose name is nearly this.
        stage: Option<String>,
        /// Why not.
        #[source]
        source: Box<RegistryError>,
    },
    /// A base image could not be written into the root filesystem.
    #[error("unpack {image}")]
    Unpack {
        /// Its name.
        image: String,
        /// Why not.
        #[source]
        source: UnpackError,
    },
    /// The registry does not let this image be pushed.
    #[error("push to {destination} is not possible")]
    PushPermission {
        /// The destination.
        destination: String,
        /// What the registry said.
        #[source]
        source: Box<RegistryError>,
    },
    /// The push failed.
    #[error("push {}", destinations.join(", "))]
    Push {
        /// Where to.
        destinations: Vec<String>,
        /// Why not.
        #[source]
        source: Box<RegistryError>,
    },
    /// An output could not be written.
    #[error("--{flag}")]
    Output {
        /// The flag that asked for it.
        flag: &'static str,
        /// Why not.
        #[source]
        source: OutputError,
    },
    /// A secret or an agent that was given cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is no place to build in.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// The work folder could not be used.
    #[error("work folder {}", path.display())]
    Work {
        /// Which part of it.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The root filesystem could not be looked at, or a layer not be packed.
    #[error("look at what changed in the root filesystem")]
    Snapshot(#[from] SnapshotError),
    /// A layer could not be packed.
    #[error("pack a layer")]
    Pack(#[source] io::Error),
    /// The build was asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

impl From<SyntaxError> for BuildError {
    fn from(error: SyntaxError) -> Self {
        BuildError::Syntax(error)
    }
}

/// What keeps a layer from being unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// Its bytes could not be had, or are not what the manifest says.
    #[error("read layer {digest}")]
    Read {
        /// The layer.
        digest: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its entries could not be written.
    #[error("layer {digest}")]
    Apply {
        /// The layer.
        digest: String,
        /// Why not.
        #[source]
        source: SnapshotError,
    },
}

/// The part of a build in which it failed: users' scripts look for it in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before and while the image is built.
    Build,
    /// While the registry is asked for the right to push.
    CheckPush,
    /// While the image is pushed.
    Push,
}

impl BuildError {
    /// The part of the build in which it failed.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            BuildError::PushPermission { .. } => Phase::CheckPush,
            BuildError::Push { .. } => Phase::Push,
            _ => Phase::Build,
        }
    }

    /// The lines of the Dockerfile that are to blame, if it is lines.
    #[must_use]
    pub fn span(&self) -> Option<&Span> {
        match self {
            BuildError::Syntax(error) => Some(error.span()),
            BuildError::Plan { span, .. } | BuildError::Pull { span, .. } => span.as_ref(),
            BuildError::Step { span, .. } => Some(span),
            _ => None,
        }
    }

    /// A way out, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            BuildError::Context(error) => error.hint(),
            BuildError::NoDockerfile { .. } => {
                Some("name it with --dockerfile, relative to the current directory or to the context".to_owned())
            }
            BuildError::Syntax(error) => error.hint(),
            BuildError::Plan { problem, .. } => problem.hint(),
            BuildError::Step { source, .. } => source.hint(),
            BuildError::Pull { stage: Some(stage), .. } => Some(format!("did you mean the stage {stage}?")),
            BuildError::Pull { source, .. }
            | BuildError::PushPermission { source, .. }
            | BuildError::Push { source, .. } => source.hint(),
            BuildError::Output { source: OutputError::Image(source), .. } => source.hint(),
            BuildError::Isolation(error) => error.hint(),
            // A layer is fetched when it is read: the registry's error comes through the reader.
            error @ BuildError::Unpack { .. } => {
                let registry = || registry_behind(error).and_then(RegistryError::hint);
                isolation::hint_for_ids(error).or_else(registry)
            }
            error @ BuildError::Snapshot(_) => isolation::hint_for_ids(error),
            _ => None,
        }
    }

    /// The exit code a command line gives for it: a RUN's own code, 1 for all else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            BuildError::Step { source, .. } => source.exit_code(),
            _ => 1,
        }
    }
}

/// The registry's error at the bottom of an error of reading a layer.
fn registry_behind(error: &BuildError) -> Option<&RegistryError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>().and_then(RegistryError::behind) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// `Dockerfile:3: `, or nothing.
fn place(span: Option<&Span>) -> String {
    span.map_or_else(String::new, |span| format!("{span}: "))
}
