//! Facts of this machine that the libraries are told: taken down at the start, before an image's files lie where the
//! machine's did.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use zuwai_registry::transport::certificates_from_pem;
use zuwai_registry::{Proxies, TransportOptions};

use crate::environment::Environment;
use crate::error::Failure;

/// Where distributions keep the certificates of the authorities they trust, and Go looks for them.
const CERTIFICATE_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How servers are reached from here.
pub(crate) fn transport(environment: &Environment, own_folder: &Path) -> TransportOptions {
    let read = |path: &str| fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    TransportOptions {
        resolv_conf: read("/etc/resolv.conf"),
        hosts: read("/etc/hosts"),
        root_certificates: root_certificates(environment, own_folder),
        proxies: proxies(environment),
        user_agent: user_agent(environment),
        ..TransportOptions::default()
    }
}

/// The folder of Kaniko: `--kaniko-dir`, `KANIKO_DIR`, or `/kaniko`, where its image has it. The executable's own folder
/// counts when the program is called the executor, as people copy it into images of their own.
pub(crate) fn own_folder(asked: Option<&str>, environment: &Environment, program: &str) -> PathBuf {
    let asked = asked.or_else(|| environment.text("KANIKO_DIR")).map(PathBuf::from);
    let beside = || executable().filter(|_| program == "executor")?.parent().map(Path::to_owned);
    asked.or_else(beside).unwrap_or_else(|| PathBuf::from("/kaniko"))
}

/// The folder that the user stands in, and the folder of Kaniko as an absolute path. `attempt` is what fails without.
pub(crate) fn folders(
    asked: Option<&str>,
    environment: &Environment,
    program: &str,
    attempt: &str,
) -> Result<(PathBuf, PathBuf), Failure> {
    let current_directory = env::current_dir()
        .map_err(|error| Failure::of(&format!("{attempt}: find the current directory"), &error, None))?;
    let own_folder = current_directory.join(own_folder(asked, environment, program));
    Ok((current_directory, own_folder))
}

/// The file this program was started from.
pub(crate) fn executable() -> Option<PathBuf> {
    env::current_exe().ok()
}

fn root_certificates(environment: &Environment, own_folder: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = environment.get("SSL_CERT_FILE").map(PathBuf::from).into_iter().collect();
    files.extend(CERTIFICATE_FILES.map(PathBuf::from));
    let named = environment.get("SSL_CERT_DIR").map(|folders| env::split_paths(folders).collect::<Vec<_>>());
    let own = [own_folder.to_owned(), PathBuf::from("/kaniko")].map(|folder| folder.join("ssl/certs"));
    for folder in named.into_iter().flatten().chain(own) {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let mut names: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        names.sort();
        files.extend(names);
    }
    let pems = files.iter().filter_map(|file| fs::read(file).ok());
    let mut seen = BTreeSet::new();
    pems.flat_map(|pem| certificates_from_pem(&pem)).filter(|certificate| seen.insert(certificate.clone())).collect()
}

fn proxies(environment: &Environment) -> Proxies {
    Proxies {
        http: environment.first(&["HTTP_PROXY", "http_proxy"]),
        https: environment.first(&["HTTPS_PROXY", "https_proxy"]),
        all: environment.first(&["ALL_PROXY", "all_proxy"]),
        no_proxy: environment.first(&["NO_PROXY", "no_proxy"]),
    }
}

/// `zuwai/1.2.3`, and behind a comma who called, as Skaffold and others say in `UPSTREAM_CLIENT_TYPE`.
fn user_agent(environment: &Environment) -> String {
    let own = TransportOptions::default().user_agent;
    match environment.text("UPSTREAM_CLIENT_TYPE").filter(|caller| caller.bytes().all(|byte| byte.is_ascii_graphic())) {
        Some(caller) => format!("{own},{caller}"),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_those_of_the_variables_in_either_case() {
        let environment =
            Environment::of(&[("HTTPS_PROXY", "a"), ("https_proxy", "b"), ("no_proxy", "c"), ("HTTP_PROXY", "")]);
        let proxies = proxies(&environment);
        assert_eq!((proxies.https.as_deref(), proxies.no_proxy.as_deref()), (Some("a"), Some("c")));
        assert_eq!((proxies.http, proxies.all), (None, None));
    }

    #[test]
    fn who_called_is_told_to_registries() {
        let of = |variables: &[(&str, &str)]| user_agent(&Environment::of(variables));
        assert!(of(&[]).starts_with("zuwai/"));
        assert!(of(&[("UPSTREAM_CLIENT_TYPE", "skaffold")]).ends_with(",skaffold"));
        assert!(!of(&[("UPSTREAM_CLIENT_TYPE", "a\nb")]).contains(','));
    }

    #[test]
    fn the_own_folder_is_what_was_asked_for() {
        let environment = Environment::of(&[("KANIKO_DIR", "/k2")]);
        assert_eq!(own_folder(Some("/k1"), &environment, "zuwai"), Path::new("/k1"));
        assert_eq!(own_folder(None, &environment, "zuwai"), Path::new("/k2"));
        assert_eq!(own_folder(None, &Environment::default(), "zuwai"), Path::new("/kaniko"));
        assert_eq!(own_folder(None, &Environment::default(), "executor"), executable().unwrap().parent().unwrap());
    }

    #[test]
    fn certificates_are_read_from_the_own_folder_and_the_variables() {
        const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        fs::create_dir_all(own.join("ssl/certs")).unwrap();
        fs::write(own.join("ssl/certs/extra.crt"), PEM).unwrap();
        fs::write(folder.path().join("file.pem"), PEM.replace("MAMCAQE=", "MAMCAQI=")).unwrap();
        let file = folder.path().join("file.pem").display().to_string();
        let found = root_certificates(&Environment::of(&[("SSL_CERT_FILE", &file)]), &own);
        for der in [[0x30, 3, 2, 1, 1], [0x30, 3, 2, 1, 2]] {
            assert_eq!(found.iter().filter(|certificate| certificate.as_slice() == der).count(), 1);
        }
    }
}
