//! Submodules: repositories that a repository names, each with the one commit it wants.
//!
//! Each becomes a clone of its own below its path, with its own `.git` folder, which git understands. Credentials are shown
//! to the context's own host alone.

use std::fs;
use std::path::{Component, Path, PathBuf};

use gix::bstr::ByteSlice;
use url::Url;

use super::GitError;
use super::clone::{Clone, clone};
use super::reference::Wanted;

/// Submodules of submodules of submodules …: no repository goes further down than this.
const DEEPEST: usize = 20;

/// Fetches the submodules of a repository that was checked out, and theirs.
pub(super) fn fetch(repository: &gix::Repository, parent: &Clone<'_>, level: usize) -> Result<(), GitError> {
    let failed = |error: gix::Error| GitError::gix("read the submodules of", parent.url, &error);
    let Some(submodules) = repository.submodules().map_err(failed)? else { return Ok(()) };
    for submodule in submodules {
        let name = submodule.name().to_str_lossy().into_owned();
        let in_it = |source| GitError::Submodule { name: name.clone(), source: Box::new(source) };
        // A name in .gitmodules without a commit in the tree is a leftover, and no submodule.
        let Some(commit) = submodule.index_id().map_err(failed)? else { continue };
        if level == DEEPEST {
            return Err(in_it(GitError::SubmodulePath { path: "…/".repeat(DEEPEST) }));
        }
        let url = submodule.url().map_err(failed)?.to_bstring().to_str_lossy().into_owned();
        let url = address(parent.url, &url).map_err(in_it)?;
        let path = submodule.path().map_err(failed)?.to_str_lossy().into_owned();
        let folder = place(repository.workdir().expect("it was checked out"), &path).map_err(in_it)?;
        let order = Clone {
            server: parent.server,
            url: &url,
            wanted: Wanted::Commit(commit.to_string()),
            commit: None,
            depth: parent.depth,
            single_branch: parent.single_branch,
            cancelled: parent.cancelled,
        };
        let inner = clone(&order, &folder).map_err(in_it)?;
        fetch(&inner, &order, level + 1).map_err(in_it)?;
    }
    Ok(())
}

/// A submodule's address; relative ones begin at its parent's, taken as a folder (gitmodules(5), `submodule.<name>.url`).
fn address(parent: &Url, written: &str) -> Result<Url, GitError> {
    let refused = |reason| {
        let shown = written.rsplit_once('@').map_or(written, |(_, rest)| rest).to_owned();
        GitError::SubmoduleAddress { url: shown, reason }
    };
    if written.starts_with("./") || written.starts_with("../") {
        let mut folder = parent.clone();
        folder.set_path(&format!("{}/", parent.path().trim_end_matches('/')));
        return folder.join(written).map_err(|_| refused("it is no address"));
    }
    let mut url = Url::parse(written).map_err(|_| refused("it is no address"))?;
    if url.scheme() != "https" && url.scheme() != parent.scheme() {
        return Err(refused("it is not https"));
    }
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    Ok(url)
}

/// The folder that the check-out left empty for the submodule. It must be one, all the way down: a link would lead the
/// clone out of the context.
fn place(work_tree: &Path, path: &str) -> Result<PathBuf, GitError> {
    let bad = || GitError::SubmodulePath { path: path.to_owned() };
    let mut folder = work_tree.to_owned();
    for component in Path::new(path).components() {
        let Component::Normal(name) = component else { return Err(bad()) };
        folder.push(name);
        if !fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(bad());
        }
    }
    if folder == work_tree { Err(bad()) } else { Ok(folder) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_addresses_begin_at_the_parents() {
        let parent = Url::parse("https://host:444/group/app.git").unwrap();
        for (written, expected) in [
            ("../lib.git", "https://host:444/group/lib.git"),
            ("../../other/lib.git", "https://host:444/other/lib.git"),
            ("./lib", "https://host:444/group/app.git/lib"),
            ("https://elsewhere/lib", "https://elsewhere/lib"),
            ("https://user:secret@elsewhere/lib", "https://elsewhere/lib"),
        ] {
            assert_eq!(address(&parent, written).unwrap().as_str(), expected, "{written}");
        }
        for written in ["git@host:lib.git", "ssh://git@host/lib", "file:///etc", "/etc", "http://host/lib"] {
            assert!(address(&parent, written).is_err(), "{written}");
        }
    }

    #[test]
    fn a_submodule_lies_in_a_real_folder_of_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink("/tmp", root.join("link")).unwrap();
        assert_eq!(place(root, "a/b").unwrap(), root.join("a/b"));
        for path in ["", ".", "..", "a/../..", "/tmp", "link", "link/x", "missing"] {
            assert!(place(root, path).is_err(), "{path}");
        }
    }
}
