//! A git repository as a source of ADD: `https://host/path.git[#ref[:folder]]`, or with the same said in a query:
//! `?ref=…&subdir=…`, and also `branch`, `tag`, `checksum` (or `commit`), `keep-git-dir` and `submodules`.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use url::Url;
use zuwai_registry::TransportOptions;

use super::clone::{Clone, clone, newest};
use super::connection::Server;
use super::reference::{Wanted, is_whole_id};
use super::{GitError, commit_time, submodules};
use crate::give_up::unless_cancelled;
use crate::request::GitOptions;
use crate::web::percent_decoded;

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    url: Url,
    credentials: Option<(String, String)>,
    reference: Option<String>,
    /// The folder of the repository that is meant instead of the whole.
    pub(crate) folder: Option<String>,
    /// The commit that must be found.
    pub(crate) checksum: Option<String>,
    /// Whether `.git` stays, if the address says.
    pub(crate) keep_git_dir: Option<bool>,
    /// Whether its submodules come along.
    pub(crate) submodules: bool,
}

/// Files of a repository on this machine.
pub(crate) struct Checkout {
    /// The commit's id, all forty digits.
    pub(crate) commit: String,
    /// When it was committed, in seconds since 1970.
    pub(crate) time: i64,
}

/// Takes an address apart.
pub(crate) fn repository(address: &str) -> Result<Repository, GitError> {
    let bad = |reason: &str| GitError::Location { reason: reason.to_owned() };
    let mut url = Url::parse(address).map_err(|_| bad("only https addresses are fetched; ssh and git:// are not"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("only https addresses are fetched; ssh and git:// are not"));
    }
    let mut repository = Repository {
        url: url.clone(),
        credentials: None,
        reference: None,
        folder: None,
        checksum: None,
        keep_git_dir: None,
        submodules: true,
    };
    if let Some(fragment) = url.fragment() {
        let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
        repository.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
        repository.folder = Some(folder.to_owned()).filter(|folder| !folder.is_empty());
    }
    for (key, value) in url.query_pairs().into_owned().collect::<Vec<_>>() {
        repository.option(&key, value)?;
    }
    let user = (percent_decoded(url.username()), percent_decoded(url.password().unwrap_or_default()));
    repository.credentials = Some(user).filter(|(user, password)| !user.is_empty() || !password.is_empty());
    url.set_fragment(None);
    url.set_query(None);
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Err(bad("it names no host"));
    }
    repository.url = url;
    Ok(repository)
}

impl Repository {
    fn option(&mut self, key: &str, value: String) -> Result<(), GitError> {
        let bad = |reason: String| GitError::Location { reason };
        let switch = |value: &str| match value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(bad(format!("{key} is true or false, and not {other}"))),
        };
        match key {
            "ref" => self.reference = Some(value),
            "branch" => self.reference = Some(format!("refs/heads/{value}")),
            "tag" => self.reference = Some(format!("refs/tags/{value}")),
            "subdir" => self.folder = Some(value),
            "checksum" | "commit" => self.checksum = Some(value),
            "keep-git-dir" => self.keep_git_dir = Some(switch(&value)?),
            "submodules" => self.submodules = switch(&value)?,
            other => return Err(bad(format!("there is no option {other} in the address of a repository"))),
        }
        Ok(())
    }

    /// The address without credentials.
    pub(crate) fn shown(&self) -> String {
        match &self.reference {
            Some(reference) => format!("{}#{reference}", self.url),
            None => self.url.to_string(),
        }
    }

    /// The commit, where the address or the `--checksum` beside it says all of it.
    pub(crate) fn pinned(&self, checksum: Option<&str>) -> Option<String> {
        let named = [checksum, self.checksum.as_deref(), self.reference.as_deref()];
        named.into_iter().flatten().find(|commit| is_whole_id(commit)).map(str::to_ascii_lowercase)
    }

    /// The commit that would be checked out now; `None` where the server does not tell. `into` is an empty folder, or none.
    pub(crate) fn newest(
        &self,
        options: &GitOptions,
        transport: &TransportOptions,
        into: &Path,
        cancelled: &AtomicBool,
    ) -> Result<Option<String>, GitError> {
        let _ = std::fs::remove_dir_all(into);
        std::fs::create_dir_all(into).map_err(|source| GitError::Write { path: into.to_owned(), source })?;
        let folder = into.to_owned();
        let told = self.unless_cancelled(options, transport, cancelled, move |order| newest(order, &folder));
        let _ = std::fs::remove_dir_all(into);
        Ok(told?.map(|commit| commit.to_string()))
    }

    fn order<'a>(&'a self, server: &'a Server<'a>, cancelled: &'a AtomicBool) -> Clone<'a> {
        // A commit that is named and no branch beside it is fetched by its own name.
        let named = self.reference.as_deref().or(self.checksum.as_deref());
        let wanted = Wanted::of(named, None);
        Clone { server, url: &self.url, wanted, commit: None, depth: 1, single_branch: true, cancelled }
    }

    /// Clones one commit into an empty folder, with its submodules unless the address says otherwise.
    pub(crate) fn check_out(
        &self,
        options: &GitOptions,
        transport: &TransportOptions,
        into: &Path,
        cancelled: &AtomicBool,
    ) -> Result<Checkout, GitError> {
        let (into, with_submodules) = (into.to_owned(), self.submodules);
        self.unless_cancelled(options, transport, cancelled, move |order| {
            let cloned = clone(order, &into)?;
            if with_submodules {
                submodules::fetch(&cloned, order, 0)?;
            }
            let head = cloned.head_id().map_err(|_| GitError::Empty)?;
            Ok(Checkout { commit: head.to_string(), time: commit_time(&cloned)? })
        })
    }

    /// Speaks to the server, as long as nobody asks for a stop.
    fn unless_cancelled<T: Send + 'static>(
        &self,
        options: &GitOptions,
        transport: &TransportOptions,
        cancelled: &AtomicBool,
        speak: impl FnOnce(&Clone<'_>) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let (repository, options, transport) = (self.clone(), options.clone(), transport.clone());
        let spoken = unless_cancelled(cancelled, move |cancelled| {
            let server = Server::new(&transport, &options, &repository.url, repository.credentials.clone());
            speak(&repository.order(&server, cancelled))
        });
        spoken.unwrap_or(Err(GitError::Cancelled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str) -> (String, Option<String>, Option<String>) {
        let repository = repository(address).unwrap();
        (repository.url.to_string(), repository.reference, repository.folder)
    }

    #[test]
    fn a_reference_and_a_folder_stand_behind_the_address_or_in_its_query() {
        let some = |text: &str| Some(text.to_owned());
        let url = || "https://h/r.git".to_owned();
        for (address, reference, folder) in [
            ("https://h/r.git", None, None),
            ("https://h/r.git#main", some("main"), None),
            ("https://h/r.git#v1:docs/api", some("v1"), some("docs/api")),
            ("https://h/r.git#:docs", None, some("docs")),
            ("https://h/r.git?branch=main&subdir=docs", some("refs/heads/main"), some("docs")),
            ("https://h/r.git?tag=v1", some("refs/tags/v1"), None),
            ("https://u:p@h/r.git?ref=x&keep-git-dir=true&submodules=0&commit=abc", some("x"), None),
        ] {
            assert_eq!(read(address), (url(), reference, folder), "{address}");
        }
        let full = repository("https://u:p@h/r.git?ref=x&keep-git-dir=true&submodules=0&commit=abc").unwrap();
        assert_eq!((full.keep_git_dir, full.submodules, full.checksum.as_deref()), (Some(true), false, Some("abc")));
        assert_eq!(full.credentials, Some(("u".into(), "p".into())));
        assert_eq!(full.shown(), "https://h/r.git#x");
        let encoded = repository("https://u%40corp:p%2Fw@h/r.git").unwrap();
        assert_eq!(encoded.credentials, Some(("u@corp".into(), "p/w".into())));
    }

    #[test]
    fn what_cannot_be_fetched_is_refused() {
        for address in ["git@h:r.git", "ssh://git@h/r.git", "git://h/r", "https://h/r.git?nope=1"] {
            assert!(repository(address).is_err(), "{address}");
        }
    }
}
