//! The files of a commit, written into the work tree: links, executable bits, the line ends that `.gitattributes` asks for.

use std::sync::atomic::AtomicBool;

use gix::ObjectId;
use gix::progress::Discard;
use gix::worktree::stack::state::attributes::Source;

use super::{Cause, GitError};

/// Writes the files of a commit, or of the commit an annotated tag stands for, and the index that git finds them in.
pub(super) fn check_out(repository: &gix::Repository, id: ObjectId, cancelled: &AtomicBool) -> Result<(), GitError> {
    let failed = |path: String| move |error: gix::Error| GitError::CheckOut { path, source: Cause::of(&error) };
    let all = || failed("the files".to_owned());
    let not_a_commit = |_| GitError::NotACommit { name: id.to_string() };
    let commit =
        repository.find_object(id).map_err(all())?.peel_to_kind(gix::object::Kind::Commit).map_err(not_a_commit)?;
    let tree = commit.peel_to_tree().map_err(all())?.id;
    let mut index = repository.index_from_tree(&tree).map_err(all())?;
    let mut options = repository.checkout_options(Source::IdMapping).map_err(all())?;
    options.destination_is_initially_empty = true;
    let folder = repository.workdir().expect("it was initialised with a work tree").to_owned();
    let objects = repository.objects.clone().into_arc().map_err(|error| all()(gix::Error::from_error(error)))?;
    let outcome = gix::worktree::state::checkout(&mut index, folder, objects, &Discard, &Discard, cancelled, options)
        .map_err(all())?;
    if let Some(record) = outcome.errors.into_iter().next() {
        return Err(failed(record.path.to_string())(record.error));
    }
    if let Some(collision) = outcome.collisions.into_iter().next() {
        let text = format!("something else is there ({})", std::io::Error::from(collision.error_kind));
        return Err(GitError::CheckOut { path: collision.path.to_string(), source: Cause { text, below: None } });
    }
    index.write(gix::index::write::Options::default()).map_err(all())
}
