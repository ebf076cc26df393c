//! What a build is done with: the client of registries, the place where RUN runs, the folder it works in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zuwai_builder::Tools;
use zuwai_builder::event::Observer;
use zuwai_builder::isolation::{Cancel, Direct, DirectOptions, Evidence, IsolationError, mount_points};
use zuwai_registry::{Client, ClientOptions, Keychain};

use crate::environment::Environment;
use crate::error::Failure;
use crate::machine;

/// Everything that [`Tools`] lends.
pub(crate) struct Toolbox {
    client: Client,
    isolation: Direct,
    cancel: Cancel,
    work: PathBuf,
    leave_work: bool,
}

/// What the user said about the container.
pub(crate) struct Container<'a> {
    /// Kaniko's folder, in which the work folder lies.
    pub(crate) own_folder: &'a Path,
    /// Where the user stands.
    pub(crate) current_directory: &'a Path,
    /// `--force`.
    pub(crate) force: bool,
    /// `--ignore-path`.
    pub(crate) ignored: Vec<PathBuf>,
}

impl Toolbox {
    /// Looks at the container, and refuses what is none. Nothing is changed.
    pub(crate) fn new(
        container: Container<'_>,
        client: ClientOptions,
        keychain: Box<dyn Keychain>,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let isolation = |error: IsolationError| {
            let hint = hint(&error, container.force);
            Failure::of("error building image", &error, hint)
        };
        let mounts = mount_points(Path::new("/proc/self/mountinfo")).map_err(isolation)?;
        let own_folder = container.own_folder;
        // What is left in the container's own writable layer goes with the container; a volume stays.
        let on_a_volume = mounts.iter().any(|mount| own_folder.starts_with(mount));
        let mut ignored = container.ignored;
        ignored.extend(mounts);
        ignored.push(own_folder.to_owned());
        ignored.extend(machine::executable().map(|executable| beside(&executable)));
        let options = DirectOptions {
            evidence: Evidence::look(Path::new("/"), environment.text("container")),
            force: container.force,
            uid: rustix::process::geteuid().as_raw(),
            ignored,
            current_directory: container.current_directory.to_owned(),
        };
        let isolation = Direct::new(options).map_err(isolation)?;
        let client = Client::new(client, Arc::from(keychain)).map_err(|error| {
            let hint = error.hint();
            Failure::of("error building image", &error, hint)
        })?;
        Ok(Self {
            client,
            isolation,
            cancel: Cancel::default(),
            work: own_folder.join("work"),
            leave_work: std::process::id() == 1 && !on_a_volume,
        })
    }

    /// Asks for the end of what is going on.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The tools themselves.
    pub(crate) fn lend<'a>(&'a self, observer: &'a dyn Observer) -> Tools<'a> {
        Tools {
            client: &self.client,
            isolation: &self.isolation,
            observer,
            cancel: &self.cancel,
            work: self.work.clone(),
            leave_work: self.leave_work,
        }
    }
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
