//! Keeping a credential and forgetting it, as `docker login` and `docker logout` do: in a config.json, or with the program
//! that the file names for it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::docker_config::{DOCKER_HUB_KEY, normal_key};
use super::helper::HelperOptions;
use crate::image::reference::{DOCKER_HUB, canonical_registry, check_registry};

/// Where a credential is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file, readable by whoever reads the file.
    File,
    /// By this program.
    Helper(String),
    /// Nowhere: there was none to forget.
    Nowhere,
}

/// A credential could not be kept or forgotten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The registry's name is none.
    #[error("`{registry}` is no registry: {reason}")]
    Registry {
        /// As given.
        registry: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file cannot be read or written.
    #[error("cannot {attempt} {}", .path.display())]
    File {
        /// `read` or `write`.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no config.json. Its content is not repeated.
    #[error("{} is not a docker config.json (line {line}, column {column})", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// The program that keeps the credentials failed.
    #[error("docker-credential-{helper}: {said}")]
    Helper {
        /// Its name.
        helper: String,
        /// What it said.
        said: String,
    },
}

/// The name under which a registry's credential is kept: the host; for Docker Hub what Docker has always written. Schemes
/// and paths of what a user typed are cut off.
pub(super) fn key_of(registry: &str) -> Result<String, LoginError> {
    let text = registry.trim();
    let host = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let host = if host.is_empty() { DOCKER_HUB } else { host };
    check_registry(host).map_err(|reason| LoginError::Registry { registry: registry.to_owned(), reason })?;
    let host = canonical_registry(host);
    Ok(if host == DOCKER_HUB { DOCKER_HUB_KEY.to_owned() } else { host })
}

/// Keeps a user and a password for a registry (empty: Docker Hub) in the config.json at `path`, or with the helper it names
/// for the registry. All else in the file stays; a file that is not there is made, for its owner alone.
pub fn login(
    path: &Path,
    helpers: &HelperOptions,
    registry: &str,
    username: &str,
    password: &str,
) -> Result<Kept, LoginError> {
    let key = key_of(registry)?;
    let mut config = read(path)?;
    let helper = helper_of(&config, &key);
    let entry = match &helper {
        Some(helper) => {
            let stored = helpers.store(helper, &key, username, password);
            stored.map_err(|said| LoginError::Helper { helper: helper.clone(), said: first_line(&said) })?;
            json!({})
        }
        None => json!({"auth": STANDARD.encode(format!("{username}:{password}"))}),
    };
    let auths = section(&mut config, "auths");
    auths.retain(|known, _| *known == key || normal_key(known) != normal_key(&key));
    auths.insert(key, entry);
    write(path, &config)?;
    Ok(helper.map_or(Kept::File, Kept::Helper))
}

/// Forgets what is kept for a registry under any spelling of its name.
pub fn logout(path: &Path, helpers: &HelperOptions, registry: &str) -> Result<Kept, LoginError> {
    let key = key_of(registry)?;
    let mut config = read(path)?;
    let helper = helper_of(&config, &key);
    if let Some(helper) = &helper {
        let erased = helpers.erase(helper, &key);
        erased.map_err(|said| LoginError::Helper { helper: helper.clone(), said: first_line(&said) })?;
    }
    let auths = section(&mut config, "auths");
    let before = auths.len();
    auths.retain(|known, _| normal_key(known) != normal_key(&key));
    let removed = auths.len() < before;
    if removed {
        write(path, &config)?;
    }
    Ok(match helper {
        Some(helper) => Kept::Helper(helper),
        None if removed => Kept::File,
        None => Kept::Nowhere,
    })
}

/// `credHelpers` for the registry, else `credsStore` for all.
fn helper_of(config: &Map<String, Value>, key: &str) -> Option<String> {
    let for_registry = config.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
        helpers.iter().find(|(known, _)| normal_key(known) == normal_key(key)).map(|(_, helper)| helper)
    });
    let helper = for_registry.or_else(|| config.get("credsStore"))?.as_str()?;
    (!helper.is_empty()).then(|| helper.to_owned())
}

fn section<'a>(config: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let section = config.entry(name).or_insert_with(|| json!({}));
    if !section.is_object() {
        *section = json!({});
    }
    section.as_object_mut().expect("it was made one")
}

fn read(path: &Path) -> Result<Map<String, Value>, LoginError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(source) => return Err(LoginError::File { attempt: "read", path: path.to_owned(), source }),
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(&text).map_err(|error| LoginError::Malformed {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })
}

/// The file appears whole, for its owner alone; a link stays one. Where it cannot be replaced, as a mounted file cannot, it is
/// written in place.
fn write(path: &Path, config: &Map<String, Value>) -> Result<(), LoginError> {
    let attempt = || -> io::Result<()> {
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut printer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(config, &mut printer)?;
        text.push(b'\n');
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let staged = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&text)?;
            let mode = fs::metadata(&path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o7777);
            file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
            file.persist(&path)?;
            Ok(())
        };
        if path.exists() { staged().or_else(|_| fs::write(&path, &text)) } else { staged() }
    };
    attempt().map_err(|source| LoginError::File { attempt: "write", path: path.to_owned(), source })
}

fn first_line(said: &str) -> String {
    said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it failed").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{ConfigSource, Credential, DockerConfigKeychain, Keychain};

    fn found(path: &Path, helpers: &HelperOptions, reference: &str) -> Credential {
        let source = ConfigSource { name: "config.json".to_owned(), content: fs::read(path).ok() };
        let keychain = DockerConfigKeychain::new(vec![source], helpers.clone());
        keychain.resolve(&reference.parse().unwrap()).unwrap().credential
    }

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn what_was_kept_is_found_and_what_was_forgotten_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, helpers) = (folder.path().join("deep/config.json"), HelperOptions::default());
        for (registry, reference) in [
            ("registry.example.com:5000", "registry.example.com:5000/app"),
            ("https://Other.example.com/v2/", "other.example.com/app"),
            ("", "debian"),
            ("docker.io", "debian"),
        ] {
            assert_eq!(login(&path, &helpers, registry, "me", "pa:ss").unwrap(), Kept::File);
            assert!(found(&path, &helpers, reference) == basic("me", "pa:ss"), "{registry}");
            assert_eq!(logout(&path, &helpers, registry).unwrap(), Kept::File);
            assert!(found(&path, &helpers, reference).is_anonymous(), "{registry}");
            assert_eq!(logout(&path, &helpers, registry).unwrap(), Kept::Nowhere);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn all_else_in_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("config.json"), folder.path().join("link"));
        fs::write(&path, r#"{"proxies":{"default":{"httpProxy":"x"}},"auths":{"https://r.example.com/v1/":{"auth":"eDp5"},"other":{}}}"#)
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        login(&link, &HelperOptions::default(), "r.example.com", "me", "p").unwrap();
        let config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            config,
            json!({"proxies": {"default": {"httpProxy": "x"}}, "auths": {"r.example.com": {"auth": "bWU6cA=="}, "other": {}}})
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_helper_that_the_file_names_keeps_the_credential_and_the_file_holds_none() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("docker-credential-test");
        let store = folder.path().join("store").display().to_string();
        let script = format!(
            "#!/bin/sh\ncase $1 in store) cat > {store};; get) read s; cat {store} || {{ echo credentials not found; exit 1; }};; \
             erase) rm {store};; esac\n"
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
        let search_path = vec![folder.path().to_owned()];
        let helpers = HelperOptions { search_path, environment, ..HelperOptions::default() };
        for config in [json!({"credsStore": "test"}), json!({"credHelpers": {"r.example.com": "test"}})] {
            let path = folder.path().join("config.json");
            fs::write(&path, config.to_string()).unwrap();
            let kept = Kept::Helper("test".to_owned());
            assert_eq!(login(&path, &helpers, "r.example.com", "me", "hunter2").unwrap(), kept);
            assert!(!fs::read_to_string(&path).unwrap().contains("auth\""));
            assert!(found(&path, &helpers, "r.example.com/app") == basic("me", "hunter2"));
            assert_eq!(logout(&path, &helpers, "r.example.com").unwrap(), kept);
            assert!(found(&path, &helpers, "r.example.com/app").is_anonymous());
        }
        let path = folder.path().join("config.json");
        fs::write(&path, r#"{"credsStore":"missing"}"#).unwrap();
        let error = login(&path, &helpers, "r.example.com", "me", "hunter2").unwrap_err().to_string();
        assert!(error.starts_with("docker-credential-missing: ") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_left_alone_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "{\"auths\": hunter2").unwrap();
        let error = login(&path, &HelperOptions::default(), "r.example.com", "me", "p").unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("line 1") && !error.contains("hunter2"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"{\"auths\": hunter2");
        assert!(login(&path, &HelperOptions::default(), "exa mple", "me", "p").is_err());
    }
}
