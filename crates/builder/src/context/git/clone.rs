//! A clone: which commit is wanted, what is fetched for it, and how the clone remembers where it came from.

use std::fs;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use gix::ObjectId;
use gix::progress::Discard;
use gix::refs::transaction::{PreviousValue, RefEdit};
use gix::refs::{FullName, Target};
use gix::remote::fetch::{Shallow, Status, Tags};
use url::Url;

use super::GitError;
use super::checkout::check_out;
use super::connection::Server;
use super::reference::{Found, Wanted, is_whole_id, may_be_id};

/// What is to be cloned.
pub(super) struct Clone<'a> {
    pub(super) server: &'a Server<'a>,
    pub(super) url: &'a Url,
    pub(super) wanted: Wanted,
    /// A commit that is checked out instead of the newest of `wanted`.
    pub(super) commit: Option<&'a str>,
    /// How many commits of history; 0 is all of it, with all tags.
    pub(super) depth: u32,
    /// With all of the history: of this branch alone.
    pub(super) single_branch: bool,
    pub(super) cancelled: &'a AtomicBool,
}

/// Clones into an empty folder and checks the files out.
pub(super) fn clone(order: &Clone<'_>, into: &Path) -> Result<gix::Repository, GitError> {
    let work = Cloning { order, repository: initialised(order, into)? };
    let (id, branch) = work.fetch()?;
    work.set_head(id, branch.as_deref())?;
    check_out(&work.repository, id, order.cancelled)?;
    work.check_running()?;
    Ok(work.repository)
}

/// The commit that a clone would check out now, as far as the server tells it without sending it.
pub(super) fn newest(order: &Clone<'_>, into: &Path) -> Result<Option<ObjectId>, GitError> {
    let work = Cloning { order, repository: initialised(order, into)? };
    Ok(work.list(&order.wanted)?.ok().map(|found| found.commit))
}

fn initialised(order: &Clone<'_>, into: &Path) -> Result<gix::Repository, GitError> {
    let failed = |error: gix::Error| GitError::gix("clone", order.url, &error);
    let options = gix::create::Options { destination_must_be_empty: Some(false), ..gix::create::Options::default() };
    let kind = gix::create::Kind::WithWorktree;
    // Isolated: neither the machine's nor a user's configuration is read, nor any environment variable.
    let open = gix::open::Options::isolated();
    let mut repository =
        gix::ThreadSafeRepository::init_opts(into, kind, options, open).map_err(failed)?.to_thread_local();
    repository.refs.write_reflog = gix::refs::store::WriteReflog::Disable;
    // Samples of hooks, which nobody asked for and a COPY of everything would put into the image.
    let hooks = repository.git_dir().join("hooks");
    fs::remove_dir_all(&hooks).map_err(|source| GitError::Write { path: hooks, source })?;
    Ok(repository)
}

struct Cloning<'a> {
    order: &'a Clone<'a>,
    repository: gix::Repository,
}

impl Cloning<'_> {
    /// Fetches what is wanted. Gives the commit to check out, and the branch it is the newest of.
    fn fetch(&self) -> Result<(ObjectId, Option<String>), GitError> {
        let order = self.order;
        let found = match &order.wanted {
            Wanted::Commit(commit) => return self.fetch_commit(commit, None),
            wanted => match self.list(wanted)? {
                Ok(found) => found,
                // Some digits of a commit are no name the server knows.
                Err(GitError::NoReference { name }) if may_be_id(&name) => return self.fetch_commit(&name, None),
                Err(error) => return Err(error),
            },
        };
        if let Some(commit) = order.commit {
            return self.fetch_commit(commit, Some(&found));
        }
        self.remember(found.name.as_deref())?;
        let specs = self.specs(found.name.as_deref(), order.depth == 0);
        self.receive(&specs, order.depth)?;
        let branch = found.name.as_deref().and_then(|name| name.strip_prefix("refs/heads/")).map(str::to_owned);
        // The branch may have moved since it was listed.
        let id = match found.name.as_deref().map(tracking) {
            Some(name) => self.id_of(&name)?,
            None => found.id,
        };
        Ok((id, branch))
    }

    /// The name on the server, and what it stands for there.
    fn list(&self, wanted: &Wanted) -> Result<Result<Found, GitError>, GitError> {
        const ACTION: &str = "list the branches of";
        let remote = self.remote(&[])?;
        let (connection, login) = self.order.server.connect(&remote)?;
        let mut options = gix::remote::ref_map::Options::default();
        for candidate in wanted.candidates() {
            options.extra_refspecs.push(spec(&candidate)?);
        }
        let listed = connection.ref_map(Discard, options);
        self.check_running()?;
        let (map, _) = listed.map_err(|error| self.order.server.explain(ACTION, self.order.url, &login, &error))?;
        Ok(wanted.find(&map.remote_refs))
    }

    /// Fetches one commit alone where the server gives it, else all the history it may lie in.
    fn fetch_commit(&self, commit: &str, of: Option<&Found>) -> Result<(ObjectId, Option<String>), GitError> {
        self.remember(of.and_then(|found| found.name.as_deref()))?;
        let not_there = || GitError::NoCommit { commit: commit.to_owned() };
        let whole = Some(commit)
            .filter(|commit| is_whole_id(commit))
            .and_then(|commit| ObjectId::from_hex(commit.as_bytes()).ok());
        if !may_be_id(commit) {
            return Err(not_there());
        }
        if let Some(id) = whole
            && self.order.depth > 0
        {
            match self.receive(&[id.to_string()], self.order.depth) {
                Ok(()) if self.repository.has_object(id) => return Ok((id, None)),
                Ok(()) | Err(GitError::Server { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let name = of.and_then(|found| found.name.as_deref());
        self.receive(&self.specs(name, name.is_none()), 0)?;
        let id = self.repository.rev_parse_single(commit).map_err(|_| not_there())?.detach();
        Ok((id, None))
    }

    /// What is asked of the server: one name, or every branch.
    fn specs(&self, name: Option<&str>, whole: bool) -> Vec<String> {
        let mut specs = Vec::new();
        match name {
            Some(name) => specs.push(format!("+{name}:{}", tracking(name))),
            None => specs.push("HEAD".to_owned()),
        }
        if whole && !(self.order.single_branch && name.is_some()) {
            specs.push("+refs/heads/*:refs/remotes/origin/*".to_owned());
        }
        specs
    }

    /// Fetches; a depth of 0 is the whole history and all tags.
    fn receive(&self, specs: &[String], depth: u32) -> Result<(), GitError> {
        const ACTION: &str = "fetch";
        let order = self.order;
        let remote = self.remote(specs)?.with_fetch_tags(if depth == 0 { Tags::All } else { Tags::None });
        let (connection, login) = order.server.connect(&remote)?;
        let explain = |error: gix::Error| order.server.explain(ACTION, order.url, &login, &error);
        let shallow = NonZeroU32::new(depth).map_or(Shallow::NoChange, Shallow::DepthAtRemote);
        let received = connection
            .prepare_fetch(Discard, gix::remote::ref_map::Options::default())
            .and_then(|fetch| fetch.with_shallow(shallow).receive(Discard, order.cancelled));
        self.check_running()?;
        // A pack that no reference was made for is marked as being in use.
        if let Status::Change { write_pack_bundle, .. } = received.map_err(explain)?.status
            && let Some(keep) = write_pack_bundle.keep_path
        {
            fs::remove_file(&keep).map_err(|source| GitError::Write { path: keep, source })?;
        }
        Ok(())
    }

    fn remote(&self, specs: &[String]) -> Result<gix::Remote<'_>, GitError> {
        let failed = |error: gix::Error| GitError::gix("read the address", self.order.url, &error);
        let remote = self.repository.remote_at(self.order.url.as_str()).map_err(failed)?;
        let remote = remote.with_fetch_tags(Tags::None);
        remote
            .with_refspecs(specs.iter().map(String::as_str), gix::remote::Direction::Fetch)
            .map_err(|_| GitError::Reference { name: specs.join(" ") })
    }

    /// What a reference of the clone stands for.
    fn id_of(&self, name: &str) -> Result<ObjectId, GitError> {
        let failed = |error: gix::Error| GitError::gix("read what came from", self.order.url, &error);
        let mut reference = self.repository.find_reference(name).map_err(failed)?;
        Ok(reference.peel_to_id().map_err(failed)?.detach())
    }

    /// HEAD: the branch, or the commit alone.
    fn set_head(&self, id: ObjectId, branch: Option<&str>) -> Result<(), GitError> {
        let failed = |error: gix::Error| GitError::gix("clone", self.order.url, &error);
        let head = FullName::try_from("HEAD").expect("git's own name");
        let edit = |name, target| RefEdit::update(name, target, PreviousValue::Any, "");
        let mut edits = Vec::new();
        let target = match branch {
            Some(branch) => {
                let name = format!("refs/heads/{branch}");
                let name = FullName::try_from(name).map_err(|_| GitError::Reference { name: branch.to_owned() })?;
                edits.push(edit(name.clone(), Target::Object(id)));
                Target::Symbolic(name)
            }
            None => Target::Object(id),
        };
        edits.push(edit(head, target));
        let anybody = gix::actor::Signature { name: "zuwai".into(), ..gix::actor::Signature::default() };
        let mut time = gix::date::parse::TimeBuf::default();
        self.repository.edit_references_as(edits, Some(anybody.to_ref(&mut time))).map_err(failed)?;
        Ok(())
    }

    /// Writes where the clone came from, so that git can go on from here. The address holds no credentials.
    fn remember(&self, name: Option<&str>) -> Result<(), GitError> {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let spec = self.specs(name, self.order.depth == 0);
        let mut text = format!("[remote \"origin\"]\n\turl = \"{}\"\n", quoted(self.order.url.as_str()));
        for spec in spec.iter().filter(|spec| spec.contains(':')) {
            text = format!("{text}\tfetch = \"{}\"\n", quoted(spec));
        }
        if let Some(branch) = name.and_then(|name| name.strip_prefix("refs/heads/")) {
            let name = quoted(branch);
            text = format!("{text}[branch \"{name}\"]\n\tremote = origin\n\tmerge = \"refs/heads/{name}\"\n");
        }
        let path = self.repository.git_dir().join("config");
        let file = fs::OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|source| GitError::Write { path, source })
    }

    fn check_running(&self) -> Result<(), GitError> {
        if self.order.cancelled.load(Ordering::SeqCst) { Err(GitError::Cancelled) } else { Ok(()) }
    }
}

fn spec(name: &str) -> Result<gix::refspec::RefSpec, GitError> {
    gix::refspec::parse(name.into(), gix::refspec::parse::Operation::Fetch)
        .map(|spec| spec.to_owned())
        .map_err(|_| GitError::Reference { name: name.to_owned() })
}

/// Where the clone keeps what the server calls so.
fn tracking(name: &str) -> String {
    match name.strip_prefix("refs/heads/") {
        Some(branch) => format!("refs/remotes/origin/{branch}"),
        None => name.to_owned(),
    }
}
