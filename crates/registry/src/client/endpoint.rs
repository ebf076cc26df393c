//! Where a repository is: at the registry its name says, or at a mirror of it.

use std::collections::BTreeMap;

use reqwest::Url;

use super::error::RegistryError;
use super::options::ClientOptions;
use crate::image::Reference;
use crate::image::reference::{DOCKER_HUB, canonical_registry, check_component, check_registry};

/// A registry as it is dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    /// As references name it.
    pub(super) registry: String,
    /// Scheme, host, port and `/`.
    pub(super) base: Url,
    /// Its certificate is not looked at because this is a pull. Then nothing that it says is believed in a push.
    pub(super) unverified: bool,
}

/// A repository at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    /// The image as it is called there: what a mirror makes of its name.
    pub(super) reference: Reference,
}

/// Where to look for a name, before anything was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) reference: Reference,
    /// A mirror that was written with `http://`.
    pub(super) plain_http: bool,
}

/// Which names stand for which others.
#[derive(Debug, Clone, Default)]
pub(super) struct Mirrors {
    of: BTreeMap<String, Vec<Mirror>>,
    skip_default_fallback: bool,
}

#[derive(Debug, Clone)]
struct Mirror {
    registry: String,
    path: Option<String>,
    plain_http: bool,
}

impl Endpoint {
    pub(super) fn new(registry: &str, plain_http: bool) -> Result<Endpoint, RegistryError> {
        let scheme = if plain_http { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{registry}/")).map_err(|error| RegistryError::Option {
            option: format!("registry {registry}"),
            reason: error.to_string(),
        })?;
        Ok(Endpoint { registry: registry.to_owned(), base, unverified: false })
    }

    /// The same, with or without a look at its certificate.
    pub(super) fn unverified(self, unverified: bool) -> Endpoint {
        Endpoint { unverified, ..self }
    }

    /// Scheme, host and port, without the slash: for messages.
    pub(super) fn server(&self) -> String {
        server_of(&self.base)
    }

    pub(super) fn plain_http(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Whether a request to this URL goes to the registry itself: only then are its credentials sent along.
    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Where a `Location` header points, seen from the URL that was asked. The registry's own host keeps the scheme it
    /// was reached by: registries behind a proxy that ends TLS write `http://` there.
    pub(super) fn follow(&self, asked: &Url, location: &str) -> Result<Url, String> {
        // What stands behind `?` may be a signature, and in front of `@` a login.
        let shown = location.split(['?', '#']).next().unwrap_or_default().rsplit('@').next().unwrap_or_default();
        let mut url = asked.join(location).map_err(|error| format!("Location `{shown}`: {error}"))?;
        let same_host = url.host_str() == self.base.host_str() && url.port() == self.base.port();
        if same_host && url.scheme() != self.base.scheme() && matches!(url.scheme(), "http" | "https") {
            let scheme = self.base.scheme().to_owned();
            url.set_scheme(&scheme).map_err(|()| format!("Location `{shown}` cannot be followed"))?;
        }
        if matches!(url.scheme(), "http" | "https") {
            Ok(url)
        } else {
            Err(format!("Location `{shown}` is no web address"))
        }
    }
}

impl Place {
    pub(super) fn repository(&self) -> &str {
        self.reference.repository()
    }

    /// `/v2/<repository>/<rest>`
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.endpoint.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.repository()));
        url
    }
}

impl Mirrors {
    pub(super) fn new(options: &ClientOptions) -> Result<Mirrors, RegistryError> {
        let mut of: BTreeMap<String, Vec<Mirror>> = BTreeMap::new();
        for (registry, mirrors) in &options.registry_maps {
            for mirror in mirrors {
                let parsed = Mirror::parse(mirror, || format!("--registry-map={registry}={mirror}"))?;
                of.entry(canonical_registry(registry)).or_default().push(parsed);
            }
        }
        for mirror in &options.mirrors {
            let parsed = Mirror::parse(mirror, || format!("--registry-mirror={mirror}"))?;
            of.entry(DOCKER_HUB.to_owned()).or_default().push(parsed);
        }
        Ok(Mirrors { of, skip_default_fallback: options.skip_default_fallback })
    }

    /// Where to look for an image, in order. The registry itself is last, or not there at all.
    pub(super) fn candidates(&self, reference: &Reference) -> Vec<Candidate> {
        let mirrors = self.of.get(reference.registry()).map(Vec::as_slice).unwrap_or_default();
        let mut candidates: Vec<Candidate> = mirrors.iter().map(|mirror| mirror.of(reference)).collect();
        if mirrors.is_empty() || !self.skip_default_fallback {
            candidates.push(Candidate { reference: reference.clone(), plain_http: false });
        }
        candidates
    }
}

impl Mirror {
    fn parse(text: &str, option: impl Fn() -> String) -> Result<Mirror, RegistryError> {
        let error = |reason: &str| RegistryError::Option { option: option(), reason: reason.to_owned() };
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("https", text.trim()));
        if !matches!(scheme, "http" | "https") {
            return Err(error("a mirror is host[:port][/path]"));
        }
        let rest = rest.trim_end_matches('/');
        let (registry, path) = match rest.split_once('/') {
            Some((registry, path)) => (registry, Some(path)),
            None => (rest, None),
        };
        check_registry(registry).map_err(error)?;
        for component in path.into_iter().flat_map(|path| path.split('/')) {
            check_component(component).map_err(error)?;
        }
        Ok(Mirror {
            registry: canonical_registry(registry),
            path: path.map(str::to_owned),
            plain_http: scheme == "http",
        })
    }

    fn of(&self, reference: &Reference) -> Candidate {
        let repository = match &self.path {
            Some(path) => format!("{path}/{}", reference.repository()),
            None => reference.repository().to_owned(),
        };
        Candidate { reference: reference.relocated(&self.registry, &repository), plain_http: self.plain_http }
    }
}

/// Scheme, host and port of a URL: enough for a message, and nothing that may be secret.
pub(crate) fn server_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(options: &ClientOptions, reference: &str) -> Vec<String> {
        let mirrors = Mirrors::new(options).unwrap();
        mirrors.candidates(&reference.parse().unwrap()).into_iter().map(|place| place.reference.to_string()).collect()
    }

    #[test]
    fn mirrors_come_in_order_and_the_registry_itself_last() {
        let mut options = ClientOptions {
            mirrors: vec!["mirror.example.com".to_owned(), "http://127.0.0.1:5000/hub/".to_owned()],
            registry_maps: BTreeMap::from([
                ("docker.io".to_owned(), vec!["first.example.com".to_owned()]),
                ("gcr.io".to_owned(), vec!["mirror.example.com/gcr".to_owned()]),
            ]),
            ..ClientOptions::default()
        };
        let hub = [
            "first.example.com/library/debian:12",
            "mirror.example.com/library/debian:12",
            "127.0.0.1:5000/hub/library/debian:12",
            "index.docker.io/library/debian:12",
        ];
        assert_eq!(candidates(&options, "debian:12"), hub);
        assert_eq!(candidates(&options, "gcr.io/a/b"), ["mirror.example.com/gcr/a/b", "gcr.io/a/b"]);
        assert_eq!(candidates(&options, "quay.io/a/b"), ["quay.io/a/b"]);
        options.skip_default_fallback = true;
        assert_eq!(candidates(&options, "debian:12"), hub[..3]);
        assert_eq!(candidates(&options, "quay.io/a/b"), ["quay.io/a/b"]);
    }

    #[test]
    fn a_mirror_that_makes_no_sense_is_refused_naming_the_option() {
        for mirror in ["", "ftp://x", "exa mple.com", "example.com/Upper", "example.com//x"] {
            let options = ClientOptions { mirrors: vec![mirror.to_owned()], ..ClientOptions::default() };
            let error = Mirrors::new(&options).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--registry-mirror={mirror}")), "{error}");
        }
    }

    #[test]
    fn a_location_on_the_registrys_host_keeps_the_scheme_and_others_keep_their_own() {
        let endpoint = Endpoint::new("registry.example.com", false).unwrap();
        let asked = Url::parse("https://registry.example.com/v2/a/blobs/uploads/").unwrap();
        let follow = |location: &str| endpoint.follow(&asked, location).map(String::from);
        assert_eq!(
            follow("/v2/a/blobs/uploads/1?x=y").unwrap(),
            "https://registry.example.com/v2/a/blobs/uploads/1?x=y"
        );
        assert_eq!(follow("http://registry.example.com/x").unwrap(), "https://registry.example.com/x");
        assert_eq!(follow("http://other.example.com/x").unwrap(), "http://other.example.com/x");
        assert_eq!(follow("2?a").unwrap(), "https://registry.example.com/v2/a/blobs/uploads/2?a");
        assert!(follow("file:///etc/passwd").is_err());
        assert!(endpoint.is_origin_of(&Url::parse("https://registry.example.com:443/x").unwrap()));
        for other in ["https://registry.example.com:8443/", "http://registry.example.com/", "https://example.com/"] {
            assert!(!endpoint.is_origin_of(&Url::parse(other).unwrap()), "{other}");
        }
    }
}
