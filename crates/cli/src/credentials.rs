//! Where credentials for registries are looked for: the places of Docker, of Kaniko's image and of podman. All are read at
//! the start, for once an image's files may lie in `/` they would be the image's.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zuwai_builder::isolation::Cancel;
use zuwai_registry::TransportOptions;
use zuwai_registry::auth::{
    AmazonKeychain, AzureKeychain, ConfigSource, DockerConfigKeychain, EnvKeychain, GitlabKeychain, GoogleKeychain,
    HelperOptions, Keychain, Keychains, Surroundings,
};

use crate::environment::Environment;

/// The keychain, and what the user should be told of files that could not be read. Files come before the built-in sources,
/// which are asked in the order given. Programs that it starts end when the build is cancelled.
pub(crate) fn keychain(
    environment: &Environment,
    own_folder: &Path,
    helpers: &[&'static str],
    transport: &TransportOptions,
    cancel: Option<&Cancel>,
) -> (Box<dyn Keychain>, Vec<String>) {
    let (files, warnings) = in_files(environment, own_folder, cancel);
    let mut keychains: Vec<Box<dyn Keychain>> = vec![Box::new(files)];
    let texts = || environment.all().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    let variables = || texts().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let surroundings = || Surroundings::new(variables(), transport.clone());
    for name in helpers {
        keychains.push(match *name {
            "env" => Box::new(EnvKeychain::new(variables())),
            "google" => Box::new(GoogleKeychain::new(surroundings())),
            "ecr" => Box::new(AmazonKeychain::new(surroundings())),
            "acr" => Box::new(AzureKeychain::new(surroundings())),
            "gitlab" => Box::new(GitlabKeychain::new(surroundings())),
            other => unreachable!("{other} is not in the table"),
        });
    }
    (Box::new(Keychains::new(keychains)), warnings)
}

/// The config.json that login and logout change: where it is read first, among those a user owns.
pub(crate) fn file_to_change(environment: &Environment, own_folder: &Path) -> PathBuf {
    let own = own_folder.join(".docker/config.json");
    let chosen = environment.get("DOCKER_CONFIG").is_some() || environment.get("HOME").is_none();
    let home = environment.get("HOME").map(|home| Path::new(home).join(".docker/config.json"));
    if chosen { places(environment, own_folder).into_iter().next().unwrap_or(own) } else { home.unwrap_or(own) }
}

/// How the programs that keep credentials are found and run.
pub(crate) fn helper_options(environment: &Environment, own_folder: &Path) -> HelperOptions {
    let search_path = environment.get("PATH").map(|path| env::split_paths(path).collect()).unwrap_or_default();
    HelperOptions {
        search_path: with_own_folder(search_path, own_folder),
        environment: environment.all().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        ..HelperOptions::default()
    }
}

fn in_files(
    environment: &Environment,
    own_folder: &Path,
    cancel: Option<&Cancel>,
) -> (DockerConfigKeychain, Vec<String>) {
    let mut warnings = Vec::new();
    let mut sources: Vec<ConfigSource> = environment
        .get("DOCKER_AUTH_CONFIG")
        .map(|text| ConfigSource {
            name: "the variable DOCKER_AUTH_CONFIG".to_owned(),
            content: Some(text.as_encoded_bytes().to_vec()),
        })
        .into_iter()
        .collect();
    for path in places(environment, own_folder) {
        let content = match fs::read(&path) {
            Ok(content) => Some(content),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(error) => {
                warnings.push(format!("credentials in {} cannot be read: {error}", path.display()));
                None
            }
        };
        sources.push(ConfigSource { name: path.display().to_string(), content });
    }
    let cancelled = cancel.map(Cancel::shared);
    let helpers = HelperOptions { cancelled, ..helper_options(environment, own_folder) };
    (DockerConfigKeychain::new(sources, helpers), warnings)
}

/// A place that holds credentials, and the registries that they are for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) source: String,
    pub(crate) registries: String,
}

/// Where credentials are, by the names of registries alone: for people who look for what is missing.
pub(crate) fn found(environment: &Environment, own_folder: &Path) -> Vec<Found> {
    let files = places(environment, own_folder).into_iter().filter_map(|path| match fs::read(&path) {
        Ok(text) => Some(Found { source: path.display().to_string(), registries: registries(&text) }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
        Err(error) => {
            Some(Found { source: path.display().to_string(), registries: format!("cannot be read: {error}") })
        }
    });
    let variable = environment.get("DOCKER_AUTH_CONFIG").map(|text| Found {
        source: "the variable DOCKER_AUTH_CONFIG".to_owned(),
        registries: registries(text.as_encoded_bytes()),
    });
    let names = environment.all().filter_map(|(name, _)| name.to_str()?.strip_suffix("_PASSWORD"));
    let names: Vec<&str> = names.filter(|name| name.starts_with("KANIKO_")).collect();
    let variables = (!names.is_empty())
        .then(|| Found { source: "variables KANIKO_<HOST>_PASSWORD".to_owned(), registries: names.join(", ") });
    variable.into_iter().chain(files).chain(variables).collect()
}

/// The registries that a config.json names.
fn registries(text: &[u8]) -> String {
    let Ok(config) = serde_json::from_slice::<serde_json::Value>(text) else { return "is no JSON".to_owned() };
    let keys = |member: &str| config[member].as_object().into_iter().flat_map(|map| map.keys().cloned());
    let mut names: Vec<String> =
        keys("auths").chain(keys("credHelpers").map(|name| format!("{name} (helper)"))).collect();
    if let Some(store) = config["credsStore"].as_str() {
        names.push(format!("all registries, through docker-credential-{store}"));
    }
    if names.is_empty() { "no registry".to_owned() } else { names.join(", ") }
}

/// The files, in the order in which they are asked, each once.
fn places(environment: &Environment, own_folder: &Path) -> Vec<PathBuf> {
    let variable = |name| environment.get(name).map(PathBuf::from);
    let home = variable("HOME");
    let config = |folder: PathBuf| {
        // Docker wants the folder here; people give the file.
        if folder.extension().is_some_and(|extension| extension == "json") {
            folder
        } else {
            folder.join("config.json")
        }
    };
    let candidates = [
        variable("DOCKER_CONFIG").map(config),
        Some(own_folder.join(".docker/config.json")),
        Some(PathBuf::from("/kaniko/.docker/config.json")),
        home.as_ref().map(|home| home.join(".docker/config.json")),
        Some(PathBuf::from("/.docker/config.json")),
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        home.as_ref().map(|home| home.join(".config/containers/auth.json")),
    ];
    let mut places: Vec<PathBuf> = Vec::new();
    for candidate in candidates.into_iter().flatten() {
        let candidate: PathBuf = candidate.components().collect();
        if !places.contains(&candidate) {
            places.push(candidate);
        }
    }
    places
}

/// Kaniko's image has its helpers beside the executor.
fn with_own_folder(mut search_path: Vec<PathBuf>, own_folder: &Path) -> Vec<PathBuf> {
    if !search_path.iter().any(|folder| folder == own_folder) {
        search_path.push(own_folder.to_owned());
    }
    search_path
}

#[cfg(test)]
mod tests {
    use zuwai_registry::Credential;

    use super::*;

    #[test]
    fn files_are_asked_in_the_order_of_docker_kaniko_home_and_podman() {
        let environment = Environment::of(&[
            ("DOCKER_CONFIG", "/kaniko/.docker/"),
            ("HOME", "/root"),
            ("XDG_RUNTIME_DIR", "/run/user/0"),
            ("REGISTRY_AUTH_FILE", "/auth.json"),
        ]);
        let places = places(&environment, Path::new("/kaniko"));
        let places: Vec<_> = places.iter().map(|place| place.to_str().unwrap()).collect();
        assert_eq!(
            places,
            [
                "/kaniko/.docker/config.json",
                "/root/.docker/config.json",
                "/.docker/config.json",
                "/auth.json",
                "/run/user/0/containers/auth.json",
                "/root/.config/containers/auth.json",
            ]
        );
        let file = Environment::of(&[("DOCKER_CONFIG", "/secret/config.json")]);
        assert_eq!(super::places(&file, Path::new("/x"))[0], Path::new("/secret/config.json"));
    }

    #[test]
    fn the_variable_and_every_file_hold_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, registry: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!(r#"{{"auths":{{"{registry}":{{"username":"u","password":"p"}}}}}}"#)).unwrap();
        };
        write("docker/config.json", "a.example.com");
        write("home/.docker/config.json", "b.example.com");
        write("run/containers/auth.json", "c.example.com");
        write("auth.json", "f.example.com");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let variable = r#"{"auths":{"d.example.com":{"username":"u","password":"p"}}}"#;
        let environment = Environment::of(&[
            ("DOCKER_CONFIG", &path("docker")),
            ("HOME", &path("home")),
            ("XDG_RUNTIME_DIR", &path("run")),
            ("DOCKER_AUTH_CONFIG", variable),
            ("KANIKO_E_EXAMPLE_COM_USER", "u"),
            ("KANIKO_E_EXAMPLE_COM_PASSWORD", "p"),
            ("REGISTRY_AUTH_FILE", &path("auth.json")),
            ("CI_REGISTRY", "g.example.com"),
            ("CI_JOB_TOKEN", "p"),
        ]);
        let transport = TransportOptions::default();
        let all = crate::registry_options::CREDENTIAL_HELPERS;
        let (keychain, warnings) = keychain(&environment, folder.path(), &all, &transport, None);
        assert!(warnings.is_empty());
        for registry in ["a", "b", "c", "d", "e", "f", "g"] {
            let reference = format!("{registry}.example.com/app:1").parse().unwrap();
            let found = keychain.resolve(&reference).unwrap().credential;
            assert!(matches!(found, Credential::Basic { .. }), "{registry}: {found:?}");
        }
        let e = "e.example.com/app:1".parse().unwrap();
        let (keychain, _) = super::keychain(&environment, folder.path(), &["gitlab"], &transport, None);
        assert!(keychain.resolve(&e).unwrap().credential.is_anonymous());
    }

    #[test]
    fn login_changes_the_file_that_is_the_users() {
        let file = |variables: &[(&str, &str)]| file_to_change(&Environment::of(variables), Path::new("/kaniko"));
        assert_eq!(file(&[("DOCKER_CONFIG", "/d"), ("HOME", "/h")]), Path::new("/d/config.json"));
        assert_eq!(file(&[("HOME", "/h")]), Path::new("/h/.docker/config.json"));
        assert_eq!(file(&[]), Path::new("/kaniko/.docker/config.json"));
    }
}
