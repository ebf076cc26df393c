//! Certificates: an authority of one's own, self-signed ones, clients', and what is not trusted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use zuwai_registry::{BlobDir, ClientOptions, ImageFormat, Platform, RegistryError};

use super::docker_registry::{DockerRegistry, Setup};
use super::images::{anonymous, assert_same, image, impatient, login, reference, with_config};

pub(crate) fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl must be installed");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A key and a certificate that signs itself: `<name>.key`, `<name>.pem`.
pub(crate) fn self_signed(folder: &Path, name: &str, more: &str) -> (PathBuf, PathBuf) {
    openssl(
        folder,
        format!(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -keyout {name}.key -out {name}.pem -subj /CN={name} {more}"
        )
        .trim_end(),
    );
    (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")))
}

/// A key and a certificate of the authority `<authority>`.
fn signed_by(folder: &Path, authority: &str, name: &str, extensions: &str) -> (PathBuf, PathBuf) {
    std::fs::write(folder.join("extensions"), extensions).unwrap();
    openssl(folder, &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 30 -out {name}.pem \
             -extfile extensions"
        ),
    );
    (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")))
}

const LOOPBACK: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1";

fn push_to(registry: &DockerRegistry, options: ClientOptions, blobs: &BlobDir) -> Result<(), RegistryError> {
    let name = reference(&format!("{}/app:1", registry.name()));
    anonymous(options).push(&image(1, &[1000], ImageFormat::Oci, blobs), &[name]).map(drop)
}

fn trusting(registry: &DockerRegistry, certificate: &Path) -> ClientOptions {
    ClientOptions { registry_certificates: BTreeMap::from([(registry.name(), certificate.to_owned())]), ..impatient() }
}

#[test]
fn an_authority_is_trusted_for_the_registry_it_was_given_for_and_for_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let (authority, _) = self_signed(folder.path(), "authority", "");
    let tls = signed_by(folder.path(), "authority", "server", LOOPBACK);
    let registry = DockerRegistry::start(&Setup { tls: Some(tls.clone()), ..Setup::default() });
    let other = DockerRegistry::start(&Setup { tls: Some(tls), host: Some("localhost"), ..Setup::default() });

    push_to(&registry, trusting(&registry, &authority), &blobs).unwrap();
    let error = push_to(&other, trusting(&registry, &authority), &blobs).unwrap_err();
    assert!(matches!(error, RegistryError::Certificate { .. }), "{error}");
    assert!(error.to_string().contains(&other.name()), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("--registry-certificate={}=", other.name())), "{hint}");
    assert!(hint.contains(&format!("--skip-tls-verify-registry={}", other.name())), "{hint}");
}

#[test]
fn a_registrys_own_certificate_may_stand_in_place_of_an_authority() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let tls = self_signed(folder.path(), "server", &format!("-addext {LOOPBACK}"));
    let registry = DockerRegistry::start(&Setup { tls: Some(tls.clone()), ..Setup::default() });
    push_to(&registry, trusting(&registry, &tls.0), &blobs).unwrap();

    let elsewhere = self_signed(folder.path(), "elsewhere", "-addext subjectAltName=DNS:elsewhere.example.com");
    let misnamed = DockerRegistry::start(&Setup { tls: Some(elsewhere.clone()), ..Setup::default() });
    let error = push_to(&misnamed, trusting(&misnamed, &elsewhere.0), &blobs).unwrap_err();
    assert!(matches!(error, RegistryError::Certificate { .. }), "trusted under another name: {error}");
}

#[test]
fn skipping_verification_accepts_any_certificate_where_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let tls = self_signed(folder.path(), "server", "-addext subjectAltName=DNS:elsewhere.example.com");
    let registry = DockerRegistry::start(&Setup { tls: Some(tls), ..Setup::default() });
    push_to(&registry, ClientOptions { skip_tls_verify: true, ..impatient() }, &blobs).unwrap();
    let listed = ClientOptions { skip_tls_verify_registries: vec![registry.name()], ..impatient() };
    push_to(&registry, listed, &blobs).unwrap();
    let error = push_to(&registry, impatient(), &blobs).unwrap_err();
    assert!(matches!(error, RegistryError::Certificate { .. }), "{error}");
}

#[test]
fn a_switch_for_pulls_alone_leaves_pushes_verified() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let tls = self_signed(folder.path(), "server", &format!("-addext {LOOPBACK}"));
    let registry = DockerRegistry::start(&Setup { tls: Some(tls), users: vec![("me", "pw")], ..Setup::default() });
    let name = reference(&format!("{}/app:1", registry.name()));
    let config = login(&registry.name(), "me", "pw");
    let everything = ClientOptions { skip_tls_verify: true, ..impatient() };
    let image = image(1, &[1000], ImageFormat::Oci, &blobs);
    with_config(everything, &config).push(&image, std::slice::from_ref(&name)).unwrap();
    let client = with_config(ClientOptions { skip_tls_verify_pull: true, ..impatient() }, &config);
    let work = BlobDir::open(folder.path().join("work")).unwrap();
    let pulled = client.pull(&name, &Platform::host(), &work).unwrap();
    assert_same(&pulled.image, &image);
    let error = client.push(&pulled.image, std::slice::from_ref(&name)).unwrap_err();
    assert!(matches!(error, RegistryError::Certificate { .. }), "{error}");
}

#[test]
fn a_client_certificate_is_shown_to_the_registry_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let (authority, _) = self_signed(folder.path(), "authority", "");
    let tls = signed_by(folder.path(), "authority", "server", LOOPBACK);
    let client = signed_by(folder.path(), "authority", "client", "extendedKeyUsage=clientAuth");
    let registry =
        DockerRegistry::start(&Setup { tls: Some(tls), client_authority: Some(authority.clone()), ..Setup::default() });
    assert!(push_to(&registry, trusting(&registry, &authority), &blobs).is_err());
    let options = ClientOptions {
        client_certificates: BTreeMap::from([(registry.name(), client)]),
        ..trusting(&registry, &authority)
    };
    push_to(&registry, options, &blobs).unwrap();
}

#[test]
fn a_registry_called_insecure_is_spoken_to_with_tls_when_that_is_what_it_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let tls = self_signed(folder.path(), "server", &format!("-addext {LOOPBACK}"));
    let registry = DockerRegistry::start(&Setup { tls: Some(tls), ..Setup::default() });
    let options = ClientOptions { insecure: true, skip_tls_verify: true, ..impatient() };
    push_to(&registry, options, &blobs).unwrap();
}

#[test]
fn plain_http_is_spoken_to_nobody_who_was_not_called_insecure() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let registry = DockerRegistry::open();
    let error = push_to(&registry, impatient(), &blobs).unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("--insecure-registry={}", registry.name())), "{hint}");
    // `insecure` is about pushing alone.
    let options = ClientOptions { insecure: true, ..impatient() };
    push_to(&registry, options.clone(), &blobs).unwrap();
    let name = reference(&format!("{}/app:1", registry.name()));
    assert!(anonymous(options).digest(&name).is_err());
    let options = ClientOptions { insecure_pull: true, ..impatient() };
    assert!(anonymous(options).digest(&name).unwrap().is_some());
}

#[test]
fn certificate_files_that_make_no_sense_are_refused_naming_the_option_and_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, missing) = (folder.path().join("empty.pem"), folder.path().join("missing.pem"));
    std::fs::write(&empty, "nothing").unwrap();
    for path in [empty, missing] {
        let options = ClientOptions {
            registry_certificates: BTreeMap::from([("registry.example.com".to_owned(), path.clone())]),
            ..impatient()
        };
        let keychain = std::sync::Arc::new(zuwai_registry::auth::Anonymous);
        let error = zuwai_registry::Client::new(options, keychain).err().unwrap().to_string();
        assert!(error.contains("--registry-certificate"), "{error}");
        assert!(error.contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
    }
}
