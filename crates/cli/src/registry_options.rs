//! The flags about registries: mirrors, certificates, credentials, how often is tried.

use std::collections::BTreeMap;
use std::path::PathBuf;

use zuwai_registry::{ClientOptions, TransportOptions};

use crate::args::{UsageError, Values};
use crate::values::pair;

/// How registries are spoken to.
pub(crate) fn client(values: &Values, transport: TransportOptions) -> Result<ClientOptions, UsageError> {
    let filled = |name: &str| values.list(name).iter().filter(|value| !value.is_empty()).cloned().collect::<Vec<_>>();
    let mut options = ClientOptions {
        transport,
        insecure: values.switch("insecure"),
        insecure_pull: values.switch("insecure-pull"),
        skip_tls_verify: values.switch("skip-tls-verify"),
        skip_tls_verify_pull: values.switch("skip-tls-verify-pull"),
        insecure_registries: filled("insecure-registry"),
        skip_tls_verify_registries: filled("skip-tls-verify-registry"),
        mirrors: filled("registry-mirror"),
        skip_default_fallback: values.switch("skip-default-registry-fallback"),
        push_retry: values.count("push-retry"),
        image_download_retry: values.count("image-download-retry"),
        ignore_immutable_tag_errors: values.switch("push-ignore-immutable-tag-errors"),
        ..ClientOptions::default()
    };
    for (registry, file) in pairs(values, "registry-certificate", "REGISTRY=FILE")? {
        options.registry_certificates.insert(registry, PathBuf::from(file));
    }
    for (registry, files) in pairs(values, "registry-client-cert", "REGISTRY=CERT,KEY")? {
        let files = files.split_once(',').filter(|(_, key)| !key.contains(',')).ok_or_else(|| {
            UsageError::new(format!("--registry-client-cert: {registry}={files} is not REGISTRY=CERT,KEY"))
        })?;
        options.client_certificates.insert(registry, (PathBuf::from(files.0), PathBuf::from(files.1)));
    }
    options.registry_maps = registry_maps(values)?;
    Ok(options)
}

/// Mirrors of registries; several pairs may stand in one value, with `;` between them.
fn registry_maps(values: &Values) -> Result<BTreeMap<String, Vec<String>>, UsageError> {
    let mut maps: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in values.list("registry-map").iter().flat_map(|text| text.split(';')).filter(|text| !text.is_empty()) {
        let (registry, mirror) = pair(text)
            .filter(|(_, mirror)| !mirror.is_empty())
            .ok_or_else(|| UsageError::new(format!("--registry-map: {text:?} is not REGISTRY=MIRROR")))?;
        maps.entry(registry.to_owned()).or_default().push(mirror.to_owned());
    }
    Ok(maps)
}

fn pairs(values: &Values, name: &str, form: &str) -> Result<BTreeMap<String, String>, UsageError> {
    let mut pairs = BTreeMap::new();
    for text in values.list(name).iter().filter(|text| !text.is_empty()) {
        let (key, value) = pair(text).ok_or_else(|| UsageError::new(format!("--{name}: {text:?} is not {form}")))?;
        pairs.insert(key.to_owned(), value.to_owned());
    }
    Ok(pairs)
}

/// The built-in sources of credentials, in Kaniko's order: all of them are asked unless the flag chooses.
pub(crate) const CREDENTIAL_HELPERS: [&str; 5] = ["env", "google", "ecr", "acr", "gitlab"];

/// `--credential-helpers` chooses among the built-in sources and orders them; empty, it switches them off.
pub(crate) fn credential_helpers(values: &Values) -> Result<Vec<&'static str>, UsageError> {
    let given = values.list("credential-helpers");
    if given.is_empty() {
        return Ok(CREDENTIAL_HELPERS.to_vec());
    }
    let mut chosen = Vec::new();
    for name in given.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        let known = CREDENTIAL_HELPERS.iter().find(|known| **known == name).ok_or_else(|| {
            UsageError::new(format!("--credential-helpers: there is no built-in source of credentials `{name}`")).hint(
                format!(
                    "there are {}; a program docker-credential-{name} is named in config.json's credHelpers",
                    CREDENTIAL_HELPERS.join(", ")
                ),
            )
        })?;
        if !chosen.contains(known) {
            chosen.push(*known);
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::request::tests::{good, message};

    #[test]
    fn registries_are_described_by_pairs() {
        let words = [
            "--registry-certificate=a:5000=/ca.pem",
            "--registry-client-cert=a:5000=/c.pem,/k.pem",
            "--registry-map=index.docker.io=m1/x;quay.io=m2",
            "--registry-map",
            "index.docker.io=m3",
            "--registry-mirror=m4",
            "--insecure-registry=b",
            "--push-retry=4",
        ];
        let client = good(&words, &[("KANIKO_REGISTRY_MAP", "quay.io=m5"), ("KANIKO_REGISTRY_MIRROR", "m6")]).client;
        assert_eq!(client.registry_certificates["a:5000"], Path::new("/ca.pem"));
        assert_eq!(client.client_certificates["a:5000"], ("/c.pem".into(), "/k.pem".into()));
        assert_eq!(client.registry_maps["index.docker.io"], ["m1/x", "m3"]);
        assert_eq!(client.registry_maps["quay.io"], ["m2", "m5"]);
        assert_eq!(client.mirrors, ["m4", "m6"]);
        assert_eq!((client.insecure_registries, client.push_retry), (vec!["b".to_owned()], 4));
        assert_eq!(message(&["--no-push", "--registry-map=x"]), "--registry-map: \"x\" is not REGISTRY=MIRROR");
        assert_eq!(
            message(&["--no-push", "--registry-certificate=x"]),
            "--registry-certificate: \"x\" is not REGISTRY=FILE"
        );
        assert_eq!(
            message(&["--no-push", "--registry-client-cert=x=/c"]),
            "--registry-client-cert: x=/c is not REGISTRY=CERT,KEY"
        );
    }

    #[test]
    fn certificates_go_unverified_only_where_that_was_asked_for() {
        let skips = |words: &[&str]| {
            let client = good(words, &[]).client;
            (client.skip_tls_verify, client.skip_tls_verify_pull)
        };
        assert_eq!(skips(&["--skip-tls-verify-pull"]), (false, true));
        assert_eq!(skips(&["-d", "a", "--skip-tls-verify"]), (true, false));
        assert_eq!(skips(&["-d", "a", "--skip-tls-verify-pull=false"]), (false, false));
    }

    #[test]
    fn built_in_sources_of_credentials_are_chosen_and_ordered_by_name() {
        let chosen = |words: &[&str]| good(words, &[]).credential_helpers;
        assert_eq!(chosen(&[]), ["env", "google", "ecr", "acr", "gitlab"]);
        assert_eq!(chosen(&["--credential-helpers=ecr", "--credential-helpers=env"]), ["ecr", "env"]);
        assert_eq!(chosen(&["--credential-helpers=acr,google"]), ["acr", "google"]);
        assert!(chosen(&["--credential-helpers="]).is_empty());
        assert_eq!(
            message(&["--no-push", "--credential-helpers=gcr"]),
            "--credential-helpers: there is no built-in source of credentials `gcr`"
        );
    }
}
