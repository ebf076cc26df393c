//! GitLab's identity of a job: the variables that a pipeline sets. Nobody is asked on the network.

use super::identity::Surroundings;
use super::{Credential, Keychain, KeychainError, Resolved};
use crate::image::Reference;

/// Finds the credential of a job for the registry of its own GitLab (`CI_REGISTRY`) and for its dependency proxy
/// (`CI_DEPENDENCY_PROXY_SERVER`): host and port must be the same. For other registries it holds nothing.
#[derive(Debug)]
pub struct GitlabKeychain {
    surroundings: Surroundings,
}

/// Host, user and password: by these variables. A user in quotation marks is a fixed name.
const PLACES: [(&str, &str, &str); 4] = [
    ("CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
    ("CI_REGISTRY", "CI_DEPLOY_USER", "CI_DEPLOY_PASSWORD"),
    ("CI_REGISTRY", JOB_USER, "CI_JOB_TOKEN"),
    ("CI_DEPENDENCY_PROXY_SERVER", "CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD"),
];

/// The user that a job's token belongs to.
const JOB_USER: &str = "gitlab-ci-token";

impl GitlabKeychain {
    /// Reads these variables.
    pub fn new(surroundings: Surroundings) -> GitlabKeychain {
        GitlabKeychain { surroundings }
    }
}

impl Keychain for GitlabKeychain {
    fn resolve(&self, reference: &Reference) -> Result<Resolved, KeychainError> {
        let mut tried = Vec::new();
        for (host, user, password) in PLACES {
            let known = self.surroundings.get(host).map(host_of);
            if known.as_deref() != Some(reference.registry()) {
                continue;
            }
            let username = if user == JOB_USER { Some(user) } else { self.surroundings.get(user) };
            let (Some(username), Some(secret)) = (username, self.surroundings.get(password)) else {
                tried.push(format!("GitLab, {password}: not set"));
                continue;
            };
            let credential = Credential::Basic { username: username.to_owned(), password: secret.to_owned() };
            let source = format!("GitLab's variable {password}");
            tried.push(format!("{source}: {}", credential.describe()));
            return Ok(Resolved { credential, source, tried, until: None });
        }
        Ok(Resolved::anonymous(tried))
    }
}

/// Host and port as references have them: GitLab writes the usual port of the dependency proxy.
fn host_of(text: &str) -> String {
    let host = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/').to_ascii_lowercase();
    host.strip_suffix(":443").map(str::to_owned).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TransportOptions;

    fn resolve(variables: &[(&str, &str)], reference: &str) -> Resolved {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let keychain = GitlabKeychain::new(Surroundings::new(owned, TransportOptions::default()));
        assert!(!format!("{keychain:?}").contains("hunter2"));
        keychain.resolve(&reference.parse().unwrap()).unwrap()
    }

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    const JOB: [(&str, &str); 2] = [("CI_REGISTRY", "registry.gitlab.example.com:5050"), ("CI_JOB_TOKEN", "hunter2")];

    #[test]
    fn a_job_logs_in_at_its_own_registry_alone() {
        let of = |reference: &str| resolve(&JOB, reference).credential;
        assert!(of("registry.gitlab.example.com:5050/team/app") == basic("gitlab-ci-token", "hunter2"));
        for other in [
            "registry.gitlab.example.com/team/app",
            "registry.gitlab.example.com.evil.test:5050/app",
            "evil-registry.gitlab.example.com:5050/app",
            "registry.gitlab.com/team/app",
            "debian",
        ] {
            assert!(of(other).is_anonymous(), "{other}");
        }
        assert!(resolve(&JOB[1..], "registry.gitlab.com/team/app").credential.is_anonymous());
    }

    #[test]
    fn the_registrys_own_user_comes_before_a_deploy_token_and_the_jobs_token() {
        let deploy = [("CI_DEPLOY_USER", "deploy"), ("CI_DEPLOY_PASSWORD", "d")];
        let user = [("CI_REGISTRY_USER", "user"), ("CI_REGISTRY_PASSWORD", "u")];
        let name = "registry.gitlab.example.com:5050/app";
        assert!(resolve(&[&JOB[..], &deploy].concat(), name).credential == basic("deploy", "d"));
        let found = resolve(&[&JOB[..], &deploy, &user].concat(), name);
        assert!(found.credential == basic("user", "u"));
        assert_eq!(found.source, "GitLab's variable CI_REGISTRY_PASSWORD");
        let half = resolve(&[("CI_REGISTRY", "registry.gitlab.example.com:5050")], name);
        assert_eq!(half.tried[0], "GitLab, CI_REGISTRY_PASSWORD: not set");
    }

    #[test]
    fn the_dependency_proxy_has_a_credential_of_its_own() {
        let variables = [
            ("CI_DEPENDENCY_PROXY_SERVER", "gitlab.example.com:443"),
            ("CI_DEPENDENCY_PROXY_USER", "user"),
            ("CI_DEPENDENCY_PROXY_PASSWORD", "hunter2"),
        ];
        let name = "gitlab.example.com/group/dependency_proxy/containers/debian:12";
        assert!(resolve(&variables, name).credential == basic("user", "hunter2"));
    }
}
