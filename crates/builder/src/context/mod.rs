//! The build context: where the files for COPY and ADD come from, and which of them may be seen.
//!
//! A context is named by a location: a folder, or a prefix and what follows it. Each kind of source is one file here and
//! one row in `SOURCES`; whatever it is, a folder comes out, which [`files`] and [`Dockerignore`] know how to read. What
//! is fetched is written only into the folder given for it.

pub(crate) mod blocking;
mod clean;
mod dir;
mod dockerignore;
pub mod files;
mod git;
mod ignore_pattern;
pub(crate) mod named;
mod pattern;
mod sight;
mod tar;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use thiserror::Error;
use zuwai_snapshot::{Ignore, Kind, RootFs, SnapshotError};

pub use self::dockerignore::{Dockerignore, DockerignoreError, Rule};
pub use self::files::{FilesError, Named};
pub use self::git::GitError;
pub(crate) use self::git::{Checkout, remove_git, repository};
pub use self::named::NamedContextError;
pub use self::pattern::BadPattern;
pub(crate) use self::sight::{Contexts, Fetched, Sight};
use crate::event::{Event, Observer};
use crate::request::ContextRequest;

/// Where a build context can come from.
pub(crate) trait ContextSource: Sync {
    /// The location without its prefix and without credentials, for messages.
    fn shown(&self, rest: &str) -> String {
        rest.to_owned()
    }

    /// Refuses what is asked for and cannot be had, before anything is downloaded.
    fn check(&self, rest: &str, request: &ContextRequest) -> Result<(), ContextError>;

    /// Gives the folder that is the context.
    fn fetch(&self, rest: &str, fetching: &Fetching<'_>) -> Result<Context, ContextError>;
}

/// What fetching is done with.
pub(crate) struct Fetching<'a> {
    /// What is asked for.
    pub(crate) request: &'a ContextRequest,
    /// What relative paths are relative to.
    pub(crate) current_directory: &'a Path,
    /// The folder for what comes from elsewhere; it does not exist yet, or is empty.
    pub(crate) into: &'a Path,
    /// Set when the build is to stop.
    pub(crate) cancelled: &'a AtomicBool,
    /// Told what the user should know of it.
    pub(crate) observer: &'a dyn Observer,
}

enum Row {
    Works(&'static dyn ContextSource),
    /// What to do instead.
    Refused(&'static str),
}

/// Every prefix a location can begin with. A location without any is a folder.
static SOURCES: [(&str, Row); 6] = [
    ("dir://", Row::Works(&dir::Dir)),
    ("git://", Row::Works(&git::Git)),
    ("tar://", Row::Works(&tar::Tar)),
    ("gs://", Row::Refused("fetch and unpack the archive first, and name the folder")),
    ("s3://", Row::Refused("fetch and unpack the archive first, and name the folder")),
    (
        "https://",
        Row::Refused("for a repository write git://host/path; fetch and unpack an archive first, and name the folder"),
    ),
];

/// A build context on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The folder, without links. It is only read.
    pub root: PathBuf,
    /// When what is in it was committed, in seconds since 1970; `None` for what comes out of no repository.
    pub time: Option<i64>,
}

/// A build context that cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ContextError {
    /// There is a prefix, and it is none of those there are.
    #[error("unknown build context prefix {prefix:?}, please use one of the following: {}", prefixes())]
    UnknownPrefix {
        /// The prefix.
        prefix: String,
    },
    /// The prefix is known and its work is not there yet.
    #[error("a build context from {prefix} is not supported yet")]
    Refused {
        /// The prefix.
        prefix: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// No such folder.
    #[error("the build context {} does not exist", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// A sentence for locations that look like something else.
        hint: Option<&'static str>,
    },
    /// There is something, and it is no folder.
    #[error("the build context {} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// `--context-sub-path` names nothing.
    #[error("--context-sub-path: the build context has no folder {}", sub_path.display())]
    SubPath {
        /// The path as given.
        sub_path: PathBuf,
    },
    /// A repository has no such folder.
    #[error("{place} has no folder {folder}")]
    NoFolder {
        /// The repository.
        place: String,
        /// The folder.
        folder: String,
    },
    /// A named context.
    #[error("--build-context {name}")]
    Named {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: Box<ContextError>,
    },
    /// A git repository could not be had.
    #[error(transparent)]
    Git(#[from] GitError),
    /// `tar://stdin` where nobody hands standard input to the build.
    #[error("the build context is to come from standard input, and there is none")]
    NoStandardInput,
    /// An archive could not be unpacked.
    #[error("unpack the build context from {name}")]
    Archive {
        /// Its path, or what else it is called.
        name: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The ignore file cannot be understood.
    #[error(transparent)]
    Dockerignore(#[from] DockerignoreError),
    /// Something on this machine could not be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// What with.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The context could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl ContextError {
    /// A way out, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { instead, .. } => Some((*instead).to_owned()),
            Self::Missing { hint, .. } => hint.map(str::to_owned),
            Self::NotAFolder { .. } => Some("an archive is named tar://PATH".to_owned()),
            Self::Archive { .. } => {
                Some("a tar archive is expected, plain or compressed with gzip, bzip2, xz or zstd".to_owned())
            }
            Self::NoStandardInput => Some("name a file: tar://PATH".to_owned()),
            Self::Git(error) => error.hint(),
            Self::Named { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// Refuses, before anything is downloaded, a location that [`fetch`] would refuse for what it asks.
pub fn check(request: &ContextRequest) -> Result<(), ContextError> {
    let (source, rest) = source(&request.location)?;
    source.check(rest, request)
}

/// Gives the context as a folder of this machine. What comes from elsewhere is written to `into`, which is zuwai's own:
/// whatever an earlier build left there is removed first.
pub fn fetch(
    request: &ContextRequest,
    current_directory: &Path,
    into: &Path,
    observer: &dyn Observer,
    cancelled: &AtomicBool,
) -> Result<Context, ContextError> {
    let (source, rest) = source(&request.location)?;
    source.check(rest, request)?;
    observer.event(&Event::ContextFetching { location: &source.shown(rest) });
    let fetched = source.fetch(rest, &Fetching { request, current_directory, into, cancelled, observer })?;
    let root = match &request.sub_path {
        Some(sub_path) => below(&fetched.root, sub_path)?,
        None => fetched.root,
    };
    Ok(Context { root, ..fetched })
}

/// A location without credentials.
fn shown(location: &str) -> String {
    source(location).map_or_else(|_| "a context".to_owned(), |(source, rest)| source.shown(rest))
}

/// Whether a location is a folder of this machine.
fn is_folder(location: &str) -> bool {
    !location.contains("://") || location.starts_with("dir://")
}

/// What of the context may not be seen: `<Dockerfile>.dockerignore` if there is one, else `.dockerignore` in the context,
/// else nothing. `dockerfile` is where the Dockerfile was found on this machine.
pub fn ignore_file(context: &Path, dockerfile: &Path) -> Result<Dockerignore, ContextError> {
    let mut beside = OsString::from(dockerfile);
    beside.push(".dockerignore");
    let root = RootFs::open(context, Ignore::default())?;
    // Links in a context are followed inside the context, whoever wrote it.
    let text = match Path::new(&beside).strip_prefix(context) {
        Ok(inside) => read_inside(&root, inside)?,
        Err(_) => match fs::read(&beside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(|source| DockerignoreError::Read { file: PathBuf::from(&beside), source })?),
        },
    };
    if let Some(text) = text {
        let file = Path::new(&beside);
        return Ok(Dockerignore::parse(&text, file.strip_prefix(context).unwrap_or(file))?);
    }
    own_ignore_file(&root)
}

/// What a context's own `.dockerignore` hides.
fn own_ignore_file(root: &RootFs) -> Result<Dockerignore, ContextError> {
    let name = Path::new(".dockerignore");
    Ok(match read_inside(root, name)? {
        Some(text) => Dockerignore::parse(&text, name)?,
        None => Dockerignore::default(),
    })
}

/// No list of patterns is longer than this many bytes.
const LONGEST_IGNORE_FILE: u64 = 4 << 20;

fn read_inside(root: &RootFs, path: &Path) -> Result<Option<Vec<u8>>, SnapshotError> {
    root.read_file(&Path::new("/").join(path), LONGEST_IGNORE_FILE)
}

/// The source a location is of, and the rest of the location.
fn source(location: &str) -> Result<(&'static dyn ContextSource, &str), ContextError> {
    let Some((scheme, _)) = location.split_once("://") else { return Ok((&dir::Dir, location)) };
    let prefix = format!("{scheme}://");
    let Some((prefix, row)) = SOURCES.iter().find(|(known, _)| *known == prefix) else {
        return Err(ContextError::UnknownPrefix { prefix });
    };
    match row {
        Row::Works(source) => Ok((*source, &location[prefix.len()..])),
        Row::Refused(instead) => Err(ContextError::Refused { prefix, instead }),
    }
}

/// A folder inside the context, links followed inside it.
fn below(folder: &Path, sub_path: &Path) -> Result<PathBuf, ContextError> {
    let missing = || ContextError::SubPath { sub_path: sub_path.to_owned() };
    let root = RootFs::open(folder, Ignore::default())?;
    match root.resolve(&Path::new("/").join(sub_path)) {
        Ok(located) if located.kind == Some(Kind::Dir) => {
            Ok(folder.join(located.real.strip_prefix("/").unwrap_or(&located.real)))
        }
        Ok(_) => Err(missing()),
        Err(error) if matches!(error.io_kind(), Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)) => {
            Err(missing())
        }
        Err(error) => Err(error.into()),
    }
}

fn prefixes() -> String {
    SOURCES.iter().map(|(prefix, _)| *prefix).collect::<Vec<_>>().join(", ")
}
