//! What ADD fetches, as far as a server tells it without sending it: the strong validator of a file (`ETag`, RFC 9110,
//! section 8.8.3), the commit of a repository. A checksum that stands in the Dockerfile needs no server at all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use zuwai_registry::TransportOptions;

use super::key::{Inputs, Kind};
use crate::context::{GitError, repository};
use crate::request::GitOptions;
use crate::step::{StepError, Told};
use crate::web;

/// Asks servers, each address once.
pub(super) struct Remotes<'a> {
    pub(super) git: &'a GitOptions,
    pub(super) transport: &'a TransportOptions,
    /// A folder that can be used meanwhile. It need not exist.
    pub(super) scratch: PathBuf,
    pub(super) cancelled: &'a AtomicBool,
    pub(super) told: Mutex<BTreeMap<String, String>>,
}

/// Why the key of a step cannot be known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    /// It could not be carried out either.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The server gives the file and nothing that says whether it changed.
    #[error("what {address} answers cannot be known before it is fetched: the server gives it no strong ETag")]
    Web { address: String },
    /// The server does not say which commit it is.
    #[error("the commit of {address} cannot be known before it is fetched")]
    Git { address: String, source: Option<GitError> },
}

impl Remotes<'_> {
    /// Adds what tells a file behind a web address from another.
    pub(super) fn web(&self, address: &str, checksum: Option<&str>, inputs: &mut Inputs) -> Result<(), Unknown> {
        inputs.add(Kind::Argument, "file name", &[web::name(address).as_bytes()]);
        if checksum.is_some() {
            return Ok(());
        }
        let shown = web::shown(address);
        let ask = || {
            web::etag(address, self.transport, self.cancelled).ok_or_else(|| Unknown::Web { address: shown.clone() })
        };
        let etag = self.once(address, ask)?;
        inputs.add(Kind::File, shown.clone(), &[address.as_bytes(), etag.as_bytes()]);
        Ok(())
    }

    /// Adds what tells the files of a repository from others.
    pub(super) fn git(&self, address: &str, checksum: Option<&str>, inputs: &mut Inputs) -> Result<(), Unknown> {
        let unknown = |shown: String, source| Unknown::Git { address: shown, source };
        let wanted = repository(address).map_err(|error| unknown("the repository".to_owned(), Some(error)))?;
        let commit = match wanted.pinned(checksum) {
            Some(commit) => commit,
            None => self.once(address, || {
                let commit = wanted.newest(self.git, self.transport, &self.scratch.join("asked"), self.cancelled);
                let commit = commit.map_err(|error| unknown(wanted.shown(), Some(error)))?;
                commit.ok_or_else(|| unknown(wanted.shown(), None))
            })?,
        };
        let more = format!("{:?} {:?} {}", wanted.folder, wanted.keep_git_dir, wanted.submodules);
        inputs.add(Kind::File, wanted.shown(), &[wanted.shown().as_bytes(), commit.as_bytes(), more.as_bytes()]);
        Ok(())
    }

    /// What was told, to be held against what is fetched.
    pub(super) fn told(self) -> Told {
        Told::new(self.told.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn once(&self, address: &str, ask: impl FnOnce() -> Result<String, Unknown>) -> Result<String, Unknown> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = told.get(address) {
            return Ok(known.clone());
        }
        let found = ask()?;
        told.insert(address.to_owned(), found.clone());
        Ok(found)
    }
}
