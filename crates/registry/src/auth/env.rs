//! Credentials in variables named after the registry, as Kaniko's `env` helper reads them: `KANIKO_REGISTRY_EXAMPLE_COM_USER`
//! and `…_PASSWORD`.

use super::{Credential, Keychain, KeychainError, Resolved};
use crate::image::Reference;

/// Looks into a copy of the environment. The host is written in capitals, `.` and `-` as `_`, a port with its `:`; less and
/// less of it is tried from the left: `REGISTRY_EXAMPLE_COM`, `EXAMPLE_COM`, `COM`.
#[derive(Clone)]
pub struct EnvKeychain {
    variables: Vec<(String, String)>,
}

/// What the names begin with.
const PREFIX: &str = "KANIKO_";

impl EnvKeychain {
    /// Keeps what looks like a credential of all these variables.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> EnvKeychain {
        let of_ours = |name: &str| name.starts_with(PREFIX) && (name.ends_with("_USER") || name.ends_with("_PASSWORD"));
        EnvKeychain { variables: variables.into_iter().filter(|(name, _)| of_ours(name)).collect() }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Keychain for EnvKeychain {
    fn resolve(&self, reference: &Reference) -> Result<Resolved, KeychainError> {
        let host = reference.registry().to_ascii_uppercase().replace(['.', '-'], "_");
        let mut rest = Some(host.as_str());
        while let Some(name) = rest {
            let (user, password) = (format!("{PREFIX}{name}_USER"), format!("{PREFIX}{name}_PASSWORD"));
            if let (Some(username), Some(secret)) = (self.value(&user), self.value(&password)) {
                let credential = Credential::Basic { username: username.to_owned(), password: secret.to_owned() };
                let source = format!("{user} and {password}");
                let tried = vec![format!("{source}: {}", credential.describe())];
                return Ok(Resolved { credential, source, tried, until: None });
            }
            rest = name.split_once('_').map(|(_, rest)| rest);
        }
        Ok(Resolved::anonymous(vec![format!("{PREFIX}{host}_USER and _PASSWORD: not set")]))
    }
}

impl std::fmt::Debug for EnvKeychain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        formatter.debug_struct("EnvKeychain").field("variables", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keychain() -> EnvKeychain {
        let variables = [
            ("KANIKO_REGISTRY_EXAMPLE_COM_USER", "one"),
            ("KANIKO_REGISTRY_EXAMPLE_COM_PASSWORD", "hunter2"),
            ("KANIKO_MY_HOST_TEST_USER", "two"),
            ("KANIKO_MY_HOST_TEST_PASSWORD", "hunter2"),
            ("KANIKO_NET_USER", "half"),
            ("KANIKO_LOCALHOST:5000_USER", "three"),
            ("KANIKO_LOCALHOST:5000_PASSWORD", "hunter2"),
            ("OTHER_USER", "x"),
        ];
        EnvKeychain::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn the_variables_of_the_host_or_of_its_end_are_found() {
        for (reference, user) in [
            ("registry.example.com/app", Some("one")),
            ("deep.registry.example.com/app", Some("one")),
            ("my-host.test/app", Some("two")),
            ("localhost:5000/app", Some("three")),
            ("registry.example.net/app", None),
            ("example.com/app", None),
        ] {
            let resolved = keychain().resolve(&reference.parse().unwrap()).unwrap();
            let found = match resolved.credential {
                Credential::Basic { username, .. } => Some(username),
                _ => None,
            };
            assert_eq!(found.as_deref(), user, "{reference}");
        }
    }

    #[test]
    fn what_was_looked_for_is_said_without_values() {
        let resolved = keychain().resolve(&"quay.io/app".parse().unwrap()).unwrap();
        assert_eq!(resolved.tried, ["KANIKO_QUAY_IO_USER and _PASSWORD: not set"]);
        assert!(!format!("{:?}", keychain()).contains("hunter2"));
    }
}
