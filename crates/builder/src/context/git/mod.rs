//! A git repository as the build context: `git://host/path[#ref[#commit]]`, fetched over https.
//!
//! What is fetched is what a build needs: one commit, no history, unless `--git=depth=…` asks for more. The clone is one
//! that git itself understands, and its `.git` stays in the context, as Kaniko leaves it; credentials are written
//! nowhere. The address and the repository are not trusted: no configuration of the machine is read, no hook and no
//! filter program is run.

mod checkout;
mod clone;
mod connection;
mod location;
mod reference;
mod repository;
mod submodules;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use url::Url;

use self::clone::{Clone, clone};
use self::connection::Server;
use self::location::Location;
use self::reference::Wanted;
pub(crate) use self::repository::{Checkout, repository};
use super::{Context, ContextError, ContextSource, Fetching};
use crate::give_up::unless_cancelled;
use crate::request::ContextRequest;

pub(super) struct Git;

impl ContextSource for Git {
    fn shown(&self, rest: &str) -> String {
        Location::parse(rest, false).map_or_else(|_| "a git repository".to_owned(), |location| location.shown())
    }

    fn check(&self, rest: &str, request: &ContextRequest) -> Result<(), ContextError> {
        Ok(Location::parse(rest, request.git.plain_http).map(drop)?)
    }

    fn fetch(&self, rest: &str, fetching: &Fetching<'_>) -> Result<Context, ContextError> {
        let request = fetching.request;
        let location = Location::parse(rest, request.git.plain_http)?;
        let credentials = request.git.credentials.clone().or_else(|| location.credentials.clone());
        make_room(fetching)?;
        let (git, transport, into) = (request.git.clone(), request.transport.clone(), fetching.into.to_owned());
        let cloned = unless_cancelled(fetching.cancelled, move |cancelled| {
            let server = Server::new(&transport, &git, &location.url, credentials);
            let order = Clone {
                server: &server,
                url: &location.url,
                wanted: Wanted::of(location.reference.as_deref(), git.branch.as_deref()),
                commit: location.commit.as_deref(),
                depth: git.depth.unwrap_or(1),
                single_branch: git.single_branch,
                cancelled,
            };
            let repository = clone(&order, &into)?;
            if git.recurse_submodules {
                submodules::fetch(&repository, &order, 0)?;
            }
            commit_time(&repository)
        });
        let time = Some(cloned.unwrap_or(Err(GitError::Cancelled))?);
        let into = fetching.into;
        let failed = |source| ContextError::Io { action: "open", path: into.to_owned(), source };
        Ok(Context { root: fs::canonicalize(into).map_err(failed)?, time })
    }
}

/// When the commit that was checked out was committed, in seconds since 1970.
fn commit_time(repository: &gix::Repository) -> Result<i64, GitError> {
    let commit = repository.head_commit().map_err(|_| GitError::Empty)?;
    commit.time().map(|time| time.seconds).map_err(|_| GitError::Empty)
}

/// Takes what git itself keeps in a clone out of it.
pub(crate) fn remove_git(folder: &Path) -> io::Result<()> {
    let git = folder.join(".git");
    if git.is_dir() { fs::remove_dir_all(&git) } else { fs::remove_file(&git).or(Ok(())) }
}

/// Empties the folder that is cloned into.
pub(super) fn make_room(fetching: &Fetching<'_>) -> Result<(), ContextError> {
    let path = fetching.into;
    let failed = |action| move |source| ContextError::Io { action, path: path.to_owned(), source };
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("empty")(error)),
        _ => {}
    }
    fs::create_dir_all(path).map_err(failed("create"))
}

/// A git repository that cannot be had. No message holds a credential.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GitError {
    /// The address is none.
    #[error("the address of the git repository cannot be read: {reason}")]
    Location {
        /// What is wrong with it.
        reason: String,
    },
    /// A name that git forbids.
    #[error("{name:?} cannot be the name of a branch, a tag or a commit")]
    Reference {
        /// The name.
        name: String,
    },
    /// The server wants to know who is asking, and there is nothing to say.
    #[error("authentication required: the git server {host} asks for a token, and there is none")]
    Unauthenticated {
        /// Host and port.
        host: String,
        /// It is another host than the context's, which alone gets the credentials.
        elsewhere: bool,
    },
    /// The server does not accept the user name and password, or the token.
    #[error("authentication failed: the git server {host} does not accept the user name and token that it was shown")]
    Rejected {
        /// Host and port.
        host: String,
    },
    /// `--git=branch=…` names nothing.
    #[error("invalid branch: {name}")]
    Branch {
        /// The name.
        name: String,
    },
    /// What follows `#` names nothing.
    #[error("the repository has no branch or tag {name}")]
    NoReference {
        /// The name.
        name: String,
    },
    /// The repository has not got this commit, or does not give it.
    #[error("commit {commit} is not in the repository")]
    NoCommit {
        /// The id as given.
        commit: String,
    },
    /// The address says which commit must be found, and another was.
    #[error("the repository is not what the address says: commit {wanted} was wanted, and {found} came")]
    NotThisCommit {
        /// The beginning of its id.
        wanted: String,
        /// The id of what came.
        found: String,
    },
    /// Nothing was ever committed.
    #[error("the repository has no commits")]
    Empty,
    /// The name stands for something that is no commit.
    #[error("{name} is not a commit")]
    NotACommit {
        /// The name.
        name: String,
    },
    /// The connection cannot be made as asked for.
    #[error("prepare the connection to {host}")]
    Transport {
        /// Host and port.
        host: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server, the network, or what came over it.
    #[error("{action} {url}")]
    Server {
        /// What was attempted.
        action: &'static str,
        /// The repository.
        url: String,
        /// The HTTP status, if that is what failed.
        status: Option<u16>,
        /// Why it failed.
        source: Cause,
    },
    /// A file of the repository could not be written.
    #[error("check out {path}")]
    CheckOut {
        /// The path in the repository.
        path: String,
        /// Why not.
        source: Cause,
    },
    /// A file of the clone could not be written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A submodule could not be had.
    #[error("submodule {name}")]
    Submodule {
        /// Its name.
        name: String,
        /// Why not.
        source: Box<GitError>,
    },
    /// A submodule's address is none that can be fetched.
    #[error("its address {url:?} cannot be fetched: {reason}")]
    SubmoduleAddress {
        /// The address, credentials removed.
        url: String,
        /// Why not.
        reason: &'static str,
    },
    /// A submodule would be written somewhere else.
    #[error("its path {path:?} is not a folder of the repository")]
    SubmodulePath {
        /// The path.
        path: String,
    },
    /// The build was asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

/// One message, and the one below it.
#[derive(Debug)]
pub struct Cause {
    text: String,
    below: Option<Box<Cause>>,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.below.as_deref().map(|below| below as _)
    }
}

impl Cause {
    /// The messages of an error and of those below it, each once. gix prints trees with places in its source on the way;
    /// only what is said is kept.
    fn of(error: &gix::Error) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for source in error.iter_errors() {
            let text = source.to_string().lines().next().unwrap_or_default().to_owned();
            if !text.is_empty() && texts.last() != Some(&text) {
                texts.push(text);
            }
        }
        let below = texts.split_off(1.min(texts.len()));
        let below = below.into_iter().rev().fold(None, |below, text| Some(Box::new(Cause { text, below })));
        Cause { text: texts.pop().unwrap_or_else(|| "it failed".to_owned()), below }
    }
}

impl GitError {
    /// An error of gix, with what was attempted.
    fn gix(action: &'static str, url: &Url, error: &gix::Error) -> Self {
        let status = error.downcast_any_ref::<reqwest::Error>().and_then(reqwest::Error::status);
        Self::Server {
            action,
            url: url.to_string(),
            status: status.map(|status| status.as_u16()),
            source: Cause::of(error),
        }
    }

    /// A way out, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Location { .. } => {
                "write git://host/path#branch; `/`, `@`, `:` and `#` in a user name or token are written %2F, %40, %3A, %23"
            }
            Self::Unauthenticated { elsewhere: false, .. } => {
                "set GIT_TOKEN, or GIT_USERNAME and GIT_PASSWORD, or write git://auth:<token>@host/path"
            }
            Self::Unauthenticated { elsewhere: true, .. } => {
                "credentials are shown to the host of the build context alone"
            }
            Self::Rejected { .. } => {
                "check that the token has not expired and may read this repository; some servers want a certain user \
                 name with it (GIT_USERNAME and GIT_PASSWORD, or git://<user>:<token>@host/path)"
            }
            Self::Branch { .. } | Self::NoReference { .. } => {
                "names are case-sensitive; other references are written in full, as refs/merge-requests/1/head"
            }
            Self::Server { status: Some(403 | 404), .. } => {
                "check the path; many servers answer so, too, when the token may not see the repository"
            }
            Self::Submodule { source, .. } => return source.hint(),
            Self::SubmoduleAddress { .. } => "only https addresses and relative ones (../other.git) are fetched",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
