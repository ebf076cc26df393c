//! Where commands will run, and why there: what was asked for, or the best that this place allows. It is found out by trying,
//! and by looking for what shows a container; names decide nothing.

use std::io;
use std::path::Path;

use rustix::thread::CapabilitySet;
use zuwai_builder::isolation::{Evidence, IsolationError, namespaces_allowed};

use crate::environment::Environment;
use crate::error::Failure;
use crate::user_namespace::{self, Subordinate};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Asked {
    /// Whatever is best here.
    #[default]
    Auto,
    /// The container's own root.
    Direct,
    /// A private root.
    Namespace,
}

impl Asked {
    pub(crate) fn named(word: Option<&str>) -> Self {
        match word {
            Some("direct") => Self::Direct,
            Some("namespace") => Self::Namespace,
            _ => Self::Auto,
        }
    }
}

/// What was found out about this place.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) uid: u32,
    pub(crate) evidence: Evidence,
    /// Whether this is a container that was started for a job: see [`Evidence::is_for_a_job`].
    pub(crate) is_for_a_job: bool,
    /// Capabilities that building in the own root needs and that are missing.
    pub(crate) missing: Vec<&'static str>,
    /// Why there can be no private root.
    pub(crate) namespaces: Result<(), IsolationError>,
    /// The ids that a user namespace would have, or what is missing for more than one; of root, how many there are.
    pub(crate) ids: Result<Ids, String>,
}

/// Where the ids of files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ids {
    /// This process can have them all, or so many.
    Own(u32),
    /// They come with a user namespace.
    Subordinate(Subordinate),
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The container's own root.
    Direct,
    /// A private root, in a new user namespace if there is one to enter.
    Namespace(Option<Subordinate>),
    /// Files alone: no command can run.
    FilesOnly(NoCommands),
}

/// Why no command can run, and what would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoCommands {
    pub(crate) why: String,
    pub(crate) hint: String,
}

/// Without these the files of a root filesystem cannot be written as they must be.
const NEEDED: [(&str, CapabilitySet); 5] = [
    ("CHOWN", CapabilitySet::CHOWN),
    ("DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
    ("FOWNER", CapabilitySet::FOWNER),
    ("SETGID", CapabilitySet::SETGID),
    ("SETUID", CapabilitySet::SETUID),
];

impl Facts {
    /// Looks around. Nothing is changed.
    pub(crate) fn find(environment: &Environment) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        let missing = NEEDED.iter().filter(|(_, set)| !effective.contains(*set)).map(|(name, _)| *name).collect();
        let ids = if uid == 0 {
            match user_namespace::ids() {
                0 | 1 => Err("only one user and group is mapped in this user namespace".to_owned()),
                ids => Ok(Ids::Own(ids)),
            }
        } else {
            Subordinate::of_user(uid, environment).map(Ids::Subordinate)
        };
        Self {
            uid,
            evidence: Evidence::look(Path::new("/"), environment.text("container")),
            is_for_a_job: Evidence::is_for_a_job(Path::new("/")),
            missing,
            namespaces: namespaces_allowed(uid != 0),
            ids,
        }
    }

    /// The place for commands.
    ///
    /// # Errors
    /// What was asked for cannot be had; or there is nothing to be had at all.
    pub(crate) fn choose(&self, asked: Asked) -> Result<Choice, Failure> {
        match asked {
            Asked::Direct => Ok(Choice::Direct),
            Asked::Namespace => self.namespace().map_err(|no| {
                Failure::new(
                    format!("error building image: --isolation=namespace cannot be had: {}", no.why),
                    Some(no.hint),
                )
            }),
            // As Kaniko: a command sees what was mounted into the container, whatever more the container may do.
            Asked::Auto if self.uid == 0 && self.is_for_a_job && self.missing.is_empty() => Ok(Choice::Direct),
            Asked::Auto => Ok(self.namespace().or_else(|no| self.in_container(no)).unwrap_or_else(Choice::FilesOnly)),
        }
    }

    fn namespace(&self) -> Result<Choice, NoCommands> {
        match (&self.namespaces, &self.ids) {
            (Ok(()), Ok(Ids::Own(_))) => Ok(Choice::Namespace(None)),
            (Ok(()), Ok(Ids::Subordinate(ids))) => Ok(Choice::Namespace(Some(ids.clone()))),
            (Err(refused), _) => Err(NoCommands {
                why: format!("the kernel does not allow namespaces here ({})", chain(refused)),
                hint: self.hint_for_namespaces(),
            }),
            (Ok(()), Err(why)) => Err(no_ids(why)),
        }
    }

    /// `direct`, where this is a container's root with its usual rights. A machine goes there too, to be refused.
    fn in_container(&self, no: NoCommands) -> Result<Choice, NoCommands> {
        if self.uid != 0 {
            let why = format!("it needs root, and this is user {}; {}", self.uid, no.why);
            return Err(NoCommands { why, hint: no.hint });
        }
        if let (Evidence::Container(_) | Evidence::Unknown, false) = (&self.evidence, self.missing.is_empty()) {
            let names = self.missing.join(", ");
            return Err(NoCommands {
                why: format!("root has not the capabilities {names} in this container"),
                hint: format!(
                    "add {names} to securityContext.capabilities of the Pod (podman: --cap-add); every container has them \
                     unless they are taken away"
                ),
            });
        }
        Ok(Choice::Direct)
    }

    fn hint_for_namespaces(&self) -> String {
        if matches!(self.evidence, Evidence::Container(_)) {
            return "set runAsUser: 0 in the Pod's securityContext (on OpenShift the service account needs the SCC anyuid; podman: \
                    --user=0); no other right is needed"
                .to_owned();
        }
        "as root: allow user namespaces (sysctl user.max_user_namespaces=65536, on Debian kernel.unprivileged_userns_clone=1, \
         on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); or build in a container of the zuwai image"
            .to_owned()
    }
}

/// Why ids are missing, and who gives them.
pub(crate) fn no_ids(why: &str) -> NoCommands {
    NoCommands {
        why: why.to_owned(),
        hint: "as root: install newuidmap (package uidmap on Debian and Ubuntu, shadow-utils on Fedora) and give the user ids with \
               `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME`"
            .to_owned(),
    }
}

/// An error and its cause, in one line.
pub(crate) fn chain(error: &IsolationError) -> String {
    let cause = std::error::Error::source(error).map(|cause| {
        let answer = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        match answer {
            Some(io::ErrorKind::PermissionDenied) => "not permitted".to_owned(),
            _ => cause.to_string(),
        }
    });
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(uid: u32, container: bool, namespaces: bool) -> Facts {
        let refused = || IsolationError::Refused {
            what: "make a user namespace",
            source: io::ErrorKind::PermissionDenied.into(),
        };
        let evidence = if container { Evidence::Container("x".to_owned()) } else { Evidence::Machine("y".to_owned()) };
        let ids = if uid == 0 { Ok(Ids::Own(u32::MAX)) } else { Err("newuidmap is not installed".to_owned()) };
        Facts {
            uid,
            evidence,
            is_for_a_job: container,
            missing: Vec::new(),
            namespaces: namespaces.then_some(()).ok_or_else(refused),
            ids,
        }
    }

    #[test]
    fn what_the_place_allows_decides() {
        let choice = |facts: &Facts| facts.choose(Asked::Auto).unwrap();
        assert_eq!(choice(&facts(0, true, true)), Choice::Direct);
        let of_a_system = Facts { is_for_a_job: false, ..facts(0, true, true) };
        assert_eq!(choice(&of_a_system), Choice::Namespace(None));
        assert_eq!(choice(&facts(0, false, true)), Choice::Namespace(None));
        assert_eq!(choice(&facts(0, true, false)), Choice::Direct);
        // To be refused there, with what was seen.
        assert_eq!(choice(&facts(0, false, false)), Choice::Direct);
        let Choice::FilesOnly(no) = choice(&facts(1000, true, false)) else { panic!("it needs root") };
        assert!(no.why.contains("user 1000") && no.hint.contains("runAsUser: 0"), "{no:?}");
        let Choice::FilesOnly(no) = choice(&facts(1000, false, true)) else { panic!("it needs ids") };
        assert!(no.why.contains("newuidmap is not installed") && no.hint.contains("uidmap"), "{no:?}");
        let few = Facts { missing: vec!["CHOWN"], ..facts(0, true, false) };
        let Choice::FilesOnly(no) = choice(&few) else { panic!("it needs capabilities") };
        assert!(no.why.contains("CHOWN") && no.hint.contains("capabilities"), "{no:?}");
    }

    #[test]
    fn what_was_asked_for_and_cannot_be_had_is_an_error() {
        let error = facts(0, true, false).choose(Asked::Namespace).unwrap_err().text();
        assert!(
            error.contains("--isolation=namespace cannot be had") && error.contains("make a user namespace"),
            "{error}"
        );
        assert_eq!(facts(0, true, true).choose(Asked::Direct).unwrap(), Choice::Direct);
    }
}
