//! Credentials: which one is shown to which registry, and where it was found.
//!
//! A [`Keychain`] answers for one reference at a time. It decides from what it was built with and never asks a registry;
//! the client shows what it answers, and to nobody but the registry it is for and that registry's token service.

mod amazon;
mod azure;
mod docker_config;
mod env;
mod gitlab;
mod google;
mod helper;
mod identity;
mod kept_file;
mod login;
mod sigv4;

use std::fmt;
use std::time::Instant;

use crate::image::Reference;

pub use amazon::AmazonKeychain;
pub use azure::AzureKeychain;
pub use docker_config::{ConfigSource, DockerConfigKeychain};
pub use env::EnvKeychain;
pub use gitlab::GitlabKeychain;
pub use google::GoogleKeychain;
pub use helper::{HelperOptions, HelperOutcome};
pub use identity::Surroundings;
pub use login::{Kept, LoginError, login, logout};

/// Finds the credential for a repository.
pub trait Keychain: Send + Sync {
    /// The credential to show to `reference`'s registry for `reference`'s repository. Having none is
    /// [`Credential::Anonymous`], not an error.
    fn resolve(&self, reference: &Reference) -> Result<Resolved, KeychainError>;

    /// Another credential in place of one of this keychain's that has expired; `None` when it has none to offer. It may be
    /// asked while an image's files lie in `/`: it starts no program and reads no file.
    fn renew(&self, reference: &Reference) -> Option<Resolved> {
        let _ = reference;
        None
    }
}

/// What is shown to a registry. Its values never appear in debug output.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    Anonymous,
    /// User name and password.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// A refresh token, traded for access tokens at the registry's token service.
    IdentityToken(String),
    /// A token that is shown to the registry as it is.
    RegistryToken(String),
}

/// A credential and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What to show.
    pub credential: Credential,
    /// Where it was found, in words for a message; empty for none.
    pub source: String,
    /// Every source that was looked at, in order, and what it held: names and keys, never values.
    pub tried: Vec<String>,
    /// Until when it may be shown; `None` when that is not known.
    pub until: Option<Instant>,
}

/// A source of credentials that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// A config file is not what it should be. The parser's message is not kept: it may quote what it could not read.
    #[error("cannot read the credentials in {name}: not a docker config.json (line {line}, column {column})")]
    Malformed {
        /// The path, or the name of the variable.
        name: String,
        /// Where it stops making sense, from 1.
        line: usize,
        /// Where in that line, from 1.
        column: usize,
    },
    /// Any other source.
    #[error("cannot read the credentials in {name}")]
    Source {
        /// What the source is called.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Credential {
    /// Whether it is nothing.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Credential::Anonymous)
    }

    /// What kind it is, for messages: the user's name, never the password.
    pub fn describe(&self) -> String {
        match self {
            Credential::Anonymous => "no credential".to_owned(),
            Credential::Basic { username, .. } => format!("user `{username}`"),
            Credential::IdentityToken(_) => "an identity token".to_owned(),
            Credential::RegistryToken(_) => "a registry token".to_owned(),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.describe())
    }
}

impl Resolved {
    /// No credential, after looking at these.
    pub fn anonymous(tried: Vec<String>) -> Resolved {
        Resolved { credential: Credential::Anonymous, source: String::new(), tried, until: None }
    }
}

/// No credentials for anybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl Keychain for Anonymous {
    fn resolve(&self, _: &Reference) -> Result<Resolved, KeychainError> {
        Ok(Resolved::anonymous(Vec::new()))
    }
}

/// Several keychains: the first that has a credential wins.
#[derive(Default)]
pub struct Keychains(Vec<Box<dyn Keychain>>);

impl Keychains {
    /// Asked in this order.
    pub fn new(keychains: Vec<Box<dyn Keychain>>) -> Keychains {
        Keychains(keychains)
    }
}

impl Keychain for Keychains {
    fn resolve(&self, reference: &Reference) -> Result<Resolved, KeychainError> {
        let mut tried = Vec::new();
        for keychain in &self.0 {
            let resolved = keychain.resolve(reference)?;
            tried.extend(resolved.tried.iter().cloned());
            if !resolved.credential.is_anonymous() {
                return Ok(Resolved { tried, ..resolved });
            }
        }
        Ok(Resolved::anonymous(tried))
    }

    fn renew(&self, reference: &Reference) -> Option<Resolved> {
        self.0.iter().find_map(|keychain| keychain.renew(reference))
    }
}

impl fmt::Debug for Keychains {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keychains({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Credential, &'static str);

    impl Keychain for Fixed {
        fn resolve(&self, _: &Reference) -> Result<Resolved, KeychainError> {
            Ok(Resolved {
                credential: self.0.clone(),
                source: self.1.to_owned(),
                tried: vec![self.1.to_owned()],
                until: None,
            })
        }
    }

    #[test]
    fn the_first_keychain_with_a_credential_wins_and_all_that_were_asked_are_named() {
        let keychains = Keychains::new(vec![
            Box::new(Fixed(Credential::Anonymous, "one")),
            Box::new(Fixed(Credential::RegistryToken("t".to_owned()), "two")),
            Box::new(Fixed(Credential::RegistryToken("u".to_owned()), "three")),
        ]);
        let resolved = keychains.resolve(&"debian".parse().unwrap()).unwrap();
        assert_eq!(resolved.credential, Credential::RegistryToken("t".to_owned()));
        assert_eq!((resolved.source.as_str(), resolved.tried), ("two", vec!["one".to_owned(), "two".to_owned()]));
    }

    #[test]
    fn a_credential_never_prints_its_value() {
        for credential in [
            Credential::Basic { username: "me".to_owned(), password: "hunter2".to_owned() },
            Credential::IdentityToken("hunter2".to_owned()),
            Credential::RegistryToken("hunter2".to_owned()),
        ] {
            assert!(!format!("{credential:?}").contains("hunter2"));
        }
    }
}
