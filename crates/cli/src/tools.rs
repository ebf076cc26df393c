//! What a build is done with: the client of registries, the place where RUN runs, the folder it works in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zuwai_builder::event::Observer;
use zuwai_builder::isolation::{
    Cancel, Direct, DirectOptions, FilesOnly, FilesOnlyOptions, Isolation, IsolationError, Named, Namespace,
    NamespaceOptions, mount_points,
};
use zuwai_builder::{Leave, Tools};
use zuwai_registry::{Client, ClientOptions, Keychain};

use crate::environment::Environment;
use crate::error::Failure;
use crate::isolation::{Choice, Facts, no_ids};
use crate::machine;
use crate::request;
use crate::user_namespace;
use crate::work_place::{self, WorkPlace};

/// Everything that [`Tools`] lends.
pub(crate) struct Toolbox {
    client: Client,
    isolation: Box<dyn Isolation>,
    cancel: Cancel,
    work: WorkPlace,
    caches: PathBuf,
    leave: Leave,
}

/// What the user said about the place to build in.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own that users set one by one")]
pub(crate) struct Container<'a> {
    /// Kaniko's folder, in which the work folder lies.
    pub(crate) own_folder: &'a Path,
    /// Whether it was named.
    pub(crate) named: bool,
    /// Where the user stands.
    pub(crate) current_directory: &'a Path,
    /// `--force`.
    pub(crate) force: bool,
    /// `--cleanup`, unless `--preserve-context`.
    pub(crate) cleanup: bool,
    /// `--materialize`.
    pub(crate) materialize: bool,
    /// `--ignore-path`.
    pub(crate) ignored: Vec<PathBuf>,
    /// `--cache-mounts-dir`.
    pub(crate) caches: Option<PathBuf>,
    /// `/etc/resolv.conf` and `/etc/hosts`, for commands.
    pub(crate) names: (String, String),
}

impl Toolbox {
    /// Prepares the place to build in. Of the container nothing is changed yet; but this process may move into a user
    /// namespace, so there must be no other thread.
    pub(crate) fn new(
        container: &Container<'_>,
        facts: Facts,
        choice: Choice,
        mut client: ClientOptions,
        keychain: Box<dyn Keychain>,
        (environment, cancel): (&Environment, Cancel),
    ) -> Result<Self, Failure> {
        let mounts =
            mount_points(Path::new("/proc/self/mountinfo")).map_err(|error| failed(&error, container.force))?;
        let choice = enter(choice)?;
        let is_direct = choice == Choice::Direct;
        let (isolation, work, caches) = match choice {
            Choice::Direct => {
                let isolation = direct(container, facts, &mounts)?;
                let caches = container.own_folder.join("caches");
                (Box::new(isolation) as Box<dyn Isolation>, WorkPlace::shared(container.own_folder)?, caches)
            }
            _ if container.materialize => {
                let text = "error building image: --materialize leaves the image's files in a container, and here the image \
                            is built in a folder of its own";
                let hint = "in a container write --isolation=direct; elsewhere use --oci-layout-path or --tar-path";
                return Err(Failure::new(text, Some(hint.to_owned())));
            }
            choice => {
                let folder = work_place::folder(container.own_folder, container.named, environment);
                (private(choice, container), WorkPlace::private(&folder)?, folder.join("caches"))
            }
        };
        let caches = container.caches.clone().unwrap_or(caches);
        // What is left in the container's own writable layer goes with the container; a volume stays.
        let on_a_volume = mounts.iter().any(|mount| work.path().starts_with(mount));
        client.cancelled = Some(cancel.shared());
        let client = Client::new(client, Arc::from(keychain)).map_err(|error| {
            let hint = error.hint();
            Failure::of("error building image", &error, hint)
        })?;
        let leave = match std::process::id() {
            _ if on_a_volume => Leave::Nothing,
            1 => Leave::Everything,
            _ if is_direct && !container.cleanup => Leave::Trees,
            _ => Leave::Nothing,
        };
        Ok(Self { client, isolation, cancel, work, caches, leave })
    }

    /// Asks for the end of what is going on.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The tools themselves.
    pub(crate) fn lend<'a>(&'a self, observer: &'a dyn Observer) -> Tools<'a> {
        Tools {
            client: &self.client,
            isolation: self.isolation.as_ref(),
            observer,
            cancel: &self.cancel,
            work: self.work.path().to_owned(),
            caches: self.caches.clone(),
            leave: self.leave,
        }
    }
}

/// Moves into the user namespace that was chosen. One that turns out to have no more than one user is good for files alone.
fn enter(choice: Choice) -> Result<Choice, Failure> {
    let Choice::Namespace(Some(subordinate)) = &choice else { return Ok(choice) };
    match user_namespace::enter(subordinate) {
        Ok(Ok(())) => Ok(choice),
        Ok(Err(why)) => Ok(Choice::FilesOnly(no_ids(&why))),
        Err(error) => Err(Failure::of("error building image: enter a user namespace", &error, None)),
    }
}

/// The isolations that build in folders of their own.
fn private(choice: Choice, container: &Container<'_>) -> Box<dyn Isolation> {
    let ignored = named(container);
    match choice {
        Choice::FilesOnly(no) => Box::new(FilesOnly::new(FilesOnlyOptions { ignored, why: no.why, hint: no.hint })),
        _ => Box::new(Namespace::new(NamespaceOptions {
            ignored,
            resolv_conf: container.names.0.clone().into_bytes(),
            hosts: container.names.1.clone().into_bytes(),
            ids: user_namespace::ids(),
        })),
    }
}

/// What the user named as part of no image.
fn named(container: &Container<'_>) -> Named {
    let has_wildcards = |path: &PathBuf| path.to_str().is_some_and(request::has_wildcards);
    let (patterns, paths): (Vec<PathBuf>, _) = container.ignored.iter().cloned().partition(has_wildcards);
    Named {
        paths,
        patterns: patterns.into_iter().filter_map(|path| path.into_os_string().into_string().ok()).collect(),
    }
}

/// The isolation that builds in the container's root. Refuses what is no container.
fn direct(container: &Container<'_>, facts: Facts, mounts: &[PathBuf]) -> Result<Direct, Failure> {
    let mut ignored = mounts.to_vec();
    ignored.push(container.own_folder.to_owned());
    ignored.extend(container.caches.clone());
    ignored.extend(machine::executable().map(|executable| beside(&executable)));
    let options = DirectOptions {
        evidence: facts.evidence,
        force: container.force,
        uid: facts.uid,
        ignored,
        named: named(container),
        current_directory: container.current_directory.to_owned(),
        cleanup: container.cleanup,
    };
    Direct::new(options).map_err(|error| failed(&error, container.force))
}

fn failed(error: &IsolationError, force: bool) -> Failure {
    Failure::of("error building image", error, hint(error, force))
}

/// What of the executable's surroundings is no part of an image: the folder of Kaniko's own image, which users fill with
/// helpers and certificates; of any other folder the file alone.
fn beside(executable: &Path) -> PathBuf {
    let folder = executable.parent().filter(|folder| *folder == Path::new("/kaniko"));
    folder.unwrap_or(executable).to_owned()
}

/// `--force` confirms a container that nobody recognises. It does not turn a machine into one.
fn hint(error: &IsolationError, force: bool) -> Option<String> {
    match error {
        IsolationError::NotInContainer { .. } if force => Some(
            "--force is for containers that are not recognised; here it is seen that this is none, and building would move \
             away the machine's own files: run the zuwai image as a container"
                .to_owned(),
        ),
        error => error.hint(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_is_not_offered_to_who_has_tried_it() {
        let error = IsolationError::NotInContainer { why: "process 1 is systemd".to_owned(), confirmable: false };
        assert!(!hint(&error, false).unwrap().contains("with --force"));
        assert!(hint(&error, true).unwrap().starts_with("--force is for containers that are not recognised"));
    }

    #[test]
    fn the_whole_of_kanikos_folder_is_left_alone_and_of_others_the_program() {
        assert_eq!(beside(Path::new("/kaniko/executor")), Path::new("/kaniko"));
        assert_eq!(beside(Path::new("/usr/local/bin/zuwai")), Path::new("/usr/local/bin/zuwai"));
    }
}
