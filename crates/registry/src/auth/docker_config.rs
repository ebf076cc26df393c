//! Credentials as Docker keeps them: `config.json`, and containers' `auth.json`, which has the same form.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde::Deserialize;

use super::helper::{HelperOptions, HelperOutcome};
use super::{Credential, Keychain, KeychainError, Resolved};
use crate::image::Reference;
use crate::image::reference::{DOCKER_HUB, canonical_registry};

/// One place where a config may be: a file, or a variable that holds one.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The path or the variable's name, for messages.
    pub name: String,
    /// What is there; `None` when there is nothing.
    pub content: Option<Vec<u8>>,
}

/// Looks credentials up in config files, in the order given, and asks the credential helpers they name.
///
/// Within one file the most specific key wins: `registry/team/app`, then `registry/team`, then `registry`. For the same key
/// `credHelpers` comes before `auths`, and `credsStore` between the two where the key is a registry: where Docker has a
/// store, what else is written beside it is stale.
#[derive(Debug)]
pub struct DockerConfigKeychain {
    files: Vec<File>,
    helpers: HelperOptions,
}

#[derive(Debug)]
struct File {
    name: String,
    config: Option<Result<Config, Place>>,
}

/// Where in a malformed file, line and column.
type Place = (usize, usize);

/// The parts of the file that are about credentials.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The name under which Docker stores Docker Hub's credential, since before registries had version 2.
pub(super) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// base64 with or without padding: both are found in files.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl DockerConfigKeychain {
    /// Reads what was captured. A file that makes no sense is reported when a credential is looked for, so that a build
    /// that needs none is not stopped by it.
    pub fn new(sources: Vec<ConfigSource>, helpers: HelperOptions) -> DockerConfigKeychain {
        let files = sources
            .into_iter()
            .map(|source| File { config: source.content.as_deref().map(parse), name: source.name })
            .collect();
        DockerConfigKeychain { files, helpers }
    }
}

fn parse(content: &[u8]) -> Result<Config, Place> {
    let text = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Config::default());
    }
    serde_json::from_slice(text).map_err(|error| (error.line(), error.column()))
}

impl Keychain for DockerConfigKeychain {
    fn resolve(&self, reference: &Reference) -> Result<Resolved, KeychainError> {
        let mut tried = Vec::new();
        for file in &self.files {
            let config = match &file.config {
                None => {
                    tried.push(format!("{}: not there", file.name));
                    continue;
                }
                Some(Err((line, column))) => {
                    return Err(KeychainError::Malformed { name: file.name.clone(), line: *line, column: *column });
                }
                Some(Ok(config)) => config,
            };
            let mut lookup = Lookup { file: &file.name, config, helpers: &self.helpers, tried: &mut tried };
            if let Some((credential, source)) = lookup.find(reference) {
                return Ok(Resolved { credential, source, tried, until: None });
            }
        }
        Ok(Resolved::anonymous(tried))
    }
}

struct Lookup<'a> {
    file: &'a str,
    config: &'a Config,
    helpers: &'a HelperOptions,
    tried: &'a mut Vec<String>,
}

impl Lookup<'_> {
    fn find(&mut self, reference: &Reference) -> Option<(Credential, String)> {
        let before = self.tried.len();
        for key in keys(reference) {
            let found = self.helper_of(&key).or_else(|| self.store_of(&key, reference)).or_else(|| self.entry_of(&key));
            if found.is_some() {
                return found;
            }
        }
        if self.tried.len() == before {
            let mut known: Vec<&str> = self.config.auths.iter().flatten().map(|(key, _)| key.as_str()).collect();
            known.extend(self.config.cred_helpers.iter().flatten().map(|(key, _)| key.as_str()));
            known.sort_unstable();
            known.dedup();
            let known = if known.is_empty() { "no registry".to_owned() } else { known.join(", ") };
            self.tried.push(format!("{}: nothing for {}, only for {known}", self.file, reference.registry()));
        }
        None
    }

    fn helper_of(&mut self, key: &str) -> Option<(Credential, String)> {
        let helper = self.config.cred_helpers.iter().flatten().find(|(name, _)| normal_key(name) == key)?.1;
        self.ask(helper, key, "credHelpers")
    }

    fn store_of(&mut self, key: &str, reference: &Reference) -> Option<(Credential, String)> {
        let store = self.config.creds_store.as_deref().filter(|store| !store.is_empty())?;
        (key == reference.registry()).then_some(())?;
        self.ask(store, key, "credsStore")
    }

    fn ask(&mut self, helper: &str, key: &str, field: &str) -> Option<(Credential, String)> {
        let server = if key == DOCKER_HUB { DOCKER_HUB_KEY } else { key };
        let source = format!("docker-credential-{helper} ({field} in {})", self.file);
        match self.helpers.ask(helper, server) {
            HelperOutcome::Found(credential) => {
                self.tried.push(format!("{source}: {} for `{server}`", credential.describe()));
                return Some((credential, source));
            }
            HelperOutcome::NotFound => self.tried.push(format!("{source}: nothing for `{server}`")),
            HelperOutcome::Failed(reason) => self.tried.push(format!("{source}: {reason}")),
        }
        None
    }

    fn entry_of(&mut self, key: &str) -> Option<(Credential, String)> {
        let (name, entry) = self.config.auths.iter().flatten().find(|(name, _)| normal_key(name) == key)?;
        let source = format!("{}, key `{name}`", self.file);
        match entry.clone().unwrap_or_default().credential() {
            Ok(Some(credential)) => {
                self.tried.push(format!("{source}: {}", credential.describe()));
                return Some((credential, source));
            }
            Ok(None) => self.tried.push(format!("{source}: no credential in it")),
            Err(reason) => self.tried.push(format!("{source}: {reason}")),
        }
        None
    }
}

/// The keys a reference is looked for under, the longest first.
fn keys(reference: &Reference) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = reference.repository();
    loop {
        keys.push(format!("{}/{path}", reference.registry()));
        match path.rsplit_once('/') {
            Some((parent, _)) => path = parent,
            None => break,
        }
    }
    keys.push(reference.registry().to_owned());
    keys
}

/// A key as it is compared: without scheme, without the version older Dockers wrote, one name for Docker Hub.
pub(super) fn normal_key(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key.split_once('/') {
        Some((registry, path)) => format!("{}/{path}", canonical_registry(registry)),
        None => canonical_registry(key),
    }
}

impl Entry {
    /// docker/cli and go-containerregistry read the fields in this order.
    fn credential(self) -> Result<Option<Credential>, &'static str> {
        let given = |field: Option<String>| field.filter(|text| !text.is_empty());
        if let Some(token) = given(self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        if let Some(token) = given(self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(auth) = given(self.auth) {
            let decoded = BASE64.decode(auth.trim()).map_err(|_| "its `auth` is not base64")?;
            let decoded = String::from_utf8(decoded).map_err(|_| "its `auth` is not text")?;
            let (username, password) = decoded.split_once(':').ok_or("its `auth` has no colon")?;
            let password = password.trim_end_matches('\0');
            return Ok(Some(login(username, password)));
        }
        Ok(given(self.username).map(|username| login(&username, &self.password.unwrap_or_default())))
    }
}

/// The user `<token>` stands for an identity token, in files as in helpers.
fn login(username: &str, password: &str) -> Credential {
    if username == "<token>" {
        return Credential::IdentityToken(password.to_owned());
    }
    Credential::Basic { username: username.to_owned(), password: password.to_owned() }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.auths.iter().flatten().map(|(key, _)| key).collect();
        formatter
            .debug_struct("Config")
            .field("auths", &keys)
            .field("cred_helpers", &self.cred_helpers)
            .field("creds_store", &self.creds_store)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keychain(config: &serde_json::Value) -> DockerConfigKeychain {
        let content = Some(config.to_string().into_bytes());
        let source = ConfigSource { name: "/kaniko/.docker/config.json".to_owned(), content };
        DockerConfigKeychain::new(vec![source], HelperOptions::default())
    }

    fn resolve(config: &serde_json::Value, reference: &str) -> Resolved {
        keychain(config).resolve(&reference.parse().unwrap()).unwrap()
    }

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    fn auth(text: &str) -> serde_json::Value {
        json!({ "auth": BASE64.encode(text) })
    }

    #[test]
    fn every_form_of_an_entry_is_understood() {
        for (entry, credential) in [
            (auth("me:pa:ss"), basic("me", "pa:ss")),
            (json!({"auth": "bWU6cGFzcw"}), basic("me", "pass")),
            (json!({"username": "me", "password": "pass"}), basic("me", "pass")),
            (json!({"auth": BASE64.encode("me:"), "identitytoken": "t"}), Credential::IdentityToken("t".to_owned())),
            (json!({"registrytoken": "t"}), Credential::RegistryToken("t".to_owned())),
            (auth("<token>:t"), Credential::IdentityToken("t".to_owned())),
        ] {
            let resolved = resolve(&json!({"auths": {"registry.example.com": entry}}), "registry.example.com/app");
            assert!(resolved.credential == credential, "{resolved:?}");
        }
    }

    #[test]
    fn the_longest_key_that_covers_the_repository_wins() {
        let config = json!({"auths": {
            "registry.example.com": auth("all:1"),
            "registry.example.com/team": auth("team:1"),
            "registry.example.com/team/app": auth("app:1"),
        }});
        for (reference, user) in [
            ("registry.example.com/team/app:1", "app"),
            ("registry.example.com/team/app/deep", "app"),
            ("registry.example.com/team/apple", "team"),
            ("registry.example.com/teams/app", "all"),
        ] {
            assert_eq!(resolve(&config, reference).credential, basic(user, "1"));
        }
    }

    #[test]
    fn docker_hub_is_found_under_each_of_its_names() {
        for key in [
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "registry-1.docker.io",
            "https://docker.io/",
        ] {
            let resolved = resolve(&json!({"auths": {key: auth("me:1")}}), "debian");
            assert_eq!(resolved.credential, basic("me", "1"), "{key}");
        }
    }

    #[test]
    fn keys_with_a_scheme_or_a_version_are_found() {
        for key in ["https://r.example.com", "http://r.example.com/", "r.example.com/v2/", "https://R.example.com/v1/"]
        {
            let resolved = resolve(&json!({"auths": {key: auth("me:1")}}), "r.example.com/app");
            assert_eq!(resolved.credential, basic("me", "1"), "{key}");
        }
    }

    #[test]
    fn another_port_is_another_registry() {
        let config = json!({"auths": {"r.example.com:5000": auth("me:1")}});
        assert!(resolve(&config, "r.example.com/app").credential.is_anonymous());
        assert!(resolve(&config, "r.example.com:5001/app").credential.is_anonymous());
    }

    #[test]
    fn every_source_is_named_with_what_it_held_but_no_value() {
        let sources = vec![
            ConfigSource { name: "DOCKER_AUTH_CONFIG".to_owned(), content: None },
            ConfigSource {
                name: "/a/config.json".to_owned(),
                content: Some(json!({"auths": {"other.example.com": auth("me:hunter2")}}).to_string().into_bytes()),
            },
            ConfigSource {
                name: "/b/config.json".to_owned(),
                content: Some(json!({"auths": {"r.example.com": {"auth": "!"}}}).to_string().into_bytes()),
            },
            ConfigSource {
                name: "/c/config.json".to_owned(),
                content: Some(
                    json!({"credsStore": "desktop", "auths": {"r.example.com": {}}}).to_string().into_bytes(),
                ),
            },
        ];
        let keychain = DockerConfigKeychain::new(sources, HelperOptions::default());
        let resolved = keychain.resolve(&"r.example.com/app".parse().unwrap()).unwrap();
        assert_eq!(resolved.credential, Credential::Anonymous);
        assert_eq!(
            resolved.tried,
            [
                "DOCKER_AUTH_CONFIG: not there",
                "/a/config.json: nothing for r.example.com, only for other.example.com",
                "/b/config.json, key `r.example.com`: its `auth` is not base64",
                "docker-credential-desktop (credsStore in /c/config.json): docker-credential-desktop is not in any \
                 folder of the search path",
                "/c/config.json, key `r.example.com`: no credential in it",
            ]
        );
        assert!(!format!("{keychain:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_an_error_naming_it_and_not_its_content() {
        let source =
            ConfigSource { name: "/x/config.json".to_owned(), content: Some(b"{\"auths\": hunter2}".to_vec()) };
        let keychain = DockerConfigKeychain::new(vec![source], HelperOptions::default());
        let error = keychain.resolve(&"debian".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("/x/config.json") && error.contains("line 1"), "{error}");
        assert!(!error.contains("hunter2"));
    }

    #[test]
    fn an_empty_file_and_null_fields_hold_nothing() {
        assert!(resolve(&json!({"auths": null, "credHelpers": null}), "debian").credential.is_anonymous());
        let source = ConfigSource { name: "x".to_owned(), content: Some(b" \n".to_vec()) };
        let keychain = DockerConfigKeychain::new(vec![source], HelperOptions::default());
        assert!(keychain.resolve(&"debian".parse().unwrap()).unwrap().credential.is_anonymous());
    }

    #[test]
    fn a_helper_named_for_the_registry_comes_before_the_entry() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for (name, user) in [("one", "helper"), ("two", "store")] {
            let path = folder.path().join(format!("docker-credential-{name}"));
            let script =
                format!("#!/bin/sh\nread s; echo \"{{\\\"Username\\\":\\\"{user}\\\",\\\"Secret\\\":\\\"$s\\\"}}\"\n");
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let config = json!({
            "auths": {"r.example.com": auth("me:1"), "r.example.com/team": auth("team:1")},
            "credHelpers": {"r.example.com": "one"},
            "credsStore": "two",
        });
        let source = ConfigSource { name: "c".to_owned(), content: Some(config.to_string().into_bytes()) };
        let helpers = HelperOptions { search_path: vec![folder.path().to_owned()], ..HelperOptions::default() };
        let keychain = DockerConfigKeychain::new(vec![source], helpers);
        for (reference, credential) in [
            ("r.example.com/app", basic("helper", "r.example.com")),
            ("r.example.com/team/app", basic("team", "1")),
            ("debian", basic("store", "https://index.docker.io/v1/")),
        ] {
            assert!(keychain.resolve(&reference.parse().unwrap()).unwrap().credential == credential, "{reference}");
        }
    }
}
