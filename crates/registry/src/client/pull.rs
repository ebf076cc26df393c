//! From a name to an image: manifest, index, platform, config. Layers are fetched when they are opened.

use std::sync::Arc;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::Pulled;
use super::download::{Download, LazyBlob, Source};
use super::endpoint::Place;
use super::engine::Engine;
use super::error::{RegistryError, with_causes};
use super::session::{Purpose, Session, call, header, scopes};
use crate::blob::BlobDir;
use crate::image::{
    Algorithm, Descriptor, Digest, Hasher, Image, ImageConfig, ImageFormat, Index, Layer, Manifest, MediaType,
    Platform, Reference,
};

/// The largest manifest or index that is read. Registries keep at most 4 MiB.
const LARGEST_MANIFEST: u64 = 8 * 1024 * 1024;

/// The largest config that is read.
const LARGEST_CONFIG: u64 = 16 * 1024 * 1024;

/// How deep indexes may lie in indexes.
const DEEPEST_INDEX: usize = 4;

/// What we understand, best first.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A document as it came from a registry.
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: MediaType,
    pub(super) digest: Digest,
}

impl Session {
    /// Looks in each place in turn. Everything that failed before is kept for the error.
    pub(super) async fn pull(&self, reference: &Reference, platform: &Platform) -> Result<Found, RegistryError> {
        let candidates = self.mirrors.candidates(reference);
        let mirrored = candidates.len() > 1 || candidates.iter().any(|place| place.reference != *reference);
        let mut failed: Vec<String> = Vec::new();
        let mut last = None;
        let mut places = Vec::new();
        let mut found = None;
        for candidate in &candidates {
            let place = match self.place(&candidate.reference, Purpose::Pull, candidate.plain_http).await {
                Ok(place) => place,
                Err(error) => {
                    failed.push(why(&candidate.reference, &error));
                    last = Some((candidate.reference.clone(), error));
                    continue;
                }
            };
            if found.is_some() {
                places.push(place);
                continue;
            }
            match self.pull_from(&place, reference, platform).await {
                Ok(image) => {
                    found = Some(image);
                    places.push(place);
                }
                Err(error) => {
                    failed.push(why(&candidate.reference, &error));
                    last = Some((candidate.reference.clone(), error));
                }
            }
        }
        if let Some((digest, manifest, config)) = found {
            if places.len() > 1 {
                // A layer may have to come from a place that was not asked for the manifest, at a time when no keychain
                // may be asked.
                self.authenticator.credentials.prepare(places.iter().map(|place| &place.reference)).await;
            }
            return Ok(Found { places, digest, manifest, config });
        }
        let (tried, error) = last.expect("there is always one place to look");
        let original = tried == *reference;
        failed.pop();
        Err(match (mirrored, original) {
            (false, _) => error,
            (true, true) if failed.is_empty() => error,
            (true, true) => RegistryError::AfterMirrors { failed, last: Box::new(error) },
            (true, false) => {
                failed.push(why(&tried, &error));
                RegistryError::NoMirror { reference: reference.to_string(), failed, last: Box::new(error) }
            }
        })
    }

    async fn pull_from(
        &self,
        place: &Place,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(Digest, Manifest, ImageConfig), RegistryError> {
        let mut document = self.manifest(place, &reference.identifier()).await?;
        for _ in 0..=DEEPEST_INDEX {
            if document.media_type.is_manifest() {
                let manifest: Manifest = parse("manifest", &document.bytes, place)?;
                let config = self.config(place, &manifest).await?;
                check(&manifest, &config, place)?;
                return Ok((document.digest, manifest, config));
            }
            if !document.media_type.is_index() {
                return Err(RegistryError::MediaType {
                    what: "manifest".to_owned(),
                    reference: place.reference.to_string(),
                    media_type: document.media_type.to_string(),
                });
            }
            let index: Index = parse("index", &document.bytes, place)?;
            let descriptor = choose(&index, platform, &place.reference)?;
            document = self.manifest(place, &descriptor.digest.to_string()).await?;
        }
        let reason = format!("indexes lie more than {DEEPEST_INDEX} deep in one another");
        Err(RegistryError::NotAnImage { reference: place.reference.to_string(), reason })
    }

    /// A manifest or an index by tag or digest, its bytes checked against the digest.
    pub(super) async fn manifest(&self, place: &Place, identifier: &str) -> Result<Document, RegistryError> {
        let attempted = format!("pull manifest of {}", place.reference);
        let mut request = call(&attempted, Method::GET, place.url(&format!("manifests/{identifier}")));
        request.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let fetch = async || {
            let response = self.expect_once(place, &scopes(place, false), &request, &[StatusCode::OK]).await?;
            let media_type = header(&response, CONTENT_TYPE.as_str()).map(MediaType::new);
            let claimed = header(&response, "docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok());
            let body = self.http.body(response, LARGEST_MANIFEST, &attempted).await?;
            Ok((media_type, claimed, body))
        };
        let (media_type, claimed, body) =
            super::retry::repeat(&self.options.retry, fetch).await.map_err(|error| match error {
                RegistryError::Status { code: 404, message, .. } => {
                    RegistryError::ManifestUnknown { reference: place.reference.to_string(), message }
                }
                other => other,
            })?;
        let reference = place.reference.to_string();
        let too_large = RegistryError::TooLarge { what: "manifest", reference, limit: LARGEST_MANIFEST };
        let bytes = body.ok_or(too_large)?;
        // What was asked for by digest must be it; what was asked for by tag must be what the registry says it is.
        let expected = identifier.parse::<Digest>().ok().or(claimed);
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = digest_of(algorithm, &bytes);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let origin = place.reference.name();
            return Err(RegistryError::DigestMismatch { what: "manifest", expected, origin, got: digest });
        }
        let media_type = understood(media_type, &bytes);
        Ok(Document { bytes, media_type, digest })
    }

    async fn config(&self, place: &Place, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        if !manifest.config.media_type.is_config() {
            return Err(RegistryError::MediaType {
                what: "config".to_owned(),
                reference: place.reference.to_string(),
                media_type: manifest.config.media_type.to_string(),
            });
        }
        let bytes = self.small_blob(place, &manifest.config).await?;
        parse("config", &bytes, place)
    }

    /// A blob that is held in memory, its bytes checked.
    async fn small_blob(&self, place: &Place, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let digest = &descriptor.digest;
        let attempted = format!("pull config {digest} of {}", place.reference);
        let mut request = call(&attempted, Method::GET, place.url(&format!("blobs/{digest}")));
        // Some stores compress what they serve when they are let.
        request.headers.insert(reqwest::header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        request.headers.remove(RANGE);
        let fetch = async || {
            let response = self.expect_once(place, &scopes(place, false), &request, &[StatusCode::OK]).await?;
            self.http.body(response, LARGEST_CONFIG, &attempted).await
        };
        let body = super::retry::repeat(&self.options.retry, fetch).await;
        let body = body.map_err(|error| blob_unknown(error, digest, place))?;
        let reference = place.reference.to_string();
        let too_large = RegistryError::TooLarge { what: "config", reference, limit: LARGEST_CONFIG };
        let bytes = body.ok_or(too_large)?;
        let got = digest_of(digest.algorithm(), &bytes);
        if got != *digest {
            let (expected, origin) = (digest.clone(), place.reference.name());
            return Err(RegistryError::DigestMismatch { what: "config", expected, origin, got });
        }
        Ok(bytes)
    }
}

/// An image that was found, before its layers know where to put their bytes.
pub(super) struct Found {
    /// Where it was found, and where else it may be.
    places: Vec<Place>,
    digest: Digest,
    manifest: Manifest,
    config: ImageConfig,
}

impl Found {
    pub(super) fn into_pulled(self, engine: &Arc<Engine>, blobs: &BlobDir) -> Pulled {
        let is_docker = |media_type: &MediaType| media_type.is_docker();
        let docker = self.manifest.media_type.as_ref().map_or(self.manifest.config.media_type.is_docker(), is_docker);
        let origin = self.places[0].reference.clone();
        let layers = self.manifest.layers.into_iter().zip(&self.config.rootfs.diff_ids).map(|(descriptor, diff_id)| {
            let source = Source { places: self.places.clone(), descriptor: descriptor.clone(), blobs: blobs.clone() };
            Layer {
                blob: Arc::new(LazyBlob::new(Arc::clone(engine), Download::new(source))),
                descriptor,
                diff_id: diff_id.clone(),
                origin: Some(origin.clone()),
            }
        });
        let layers = layers.collect();
        let image = Image {
            config: self.config,
            layers,
            format: if docker { ImageFormat::Docker } else { ImageFormat::Oci },
            annotations: self.manifest.annotations,
        };
        Pulled { image, digest: self.digest, origin }
    }
}

/// Why an image could not be had there, named once.
fn why(tried: &Reference, error: &RegistryError) -> String {
    let (name, text) = (tried.to_string(), with_causes(error));
    if text.contains(&name) { text } else { format!("{name}: {text}") }
}

fn parse<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8], place: &Place) -> Result<T, RegistryError> {
    serde_json::from_slice(bytes).map_err(|source| RegistryError::Document {
        what,
        reference: place.reference.to_string(),
        source,
    })
}

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// What a document is: by its own word, else by the header's, else by its shape. Registries behind careless proxies send
/// `application/json` or `text/plain`.
fn understood(header: Option<MediaType>, bytes: &[u8]) -> MediaType {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        media_type: Option<String>,
        schema_version: Option<u32>,
        config: Option<serde::de::IgnoredAny>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let known = |media_type: &MediaType| media_type.is_manifest() || media_type.is_index();
    let shape = serde_json::from_slice::<Shape>(bytes).ok();
    let written = shape.as_ref().and_then(|shape| shape.media_type.as_deref()).map(MediaType::new);
    if let Some(media_type) = written.clone().filter(known).or_else(|| header.clone().filter(known)) {
        return media_type;
    }
    let vague = header.as_ref().is_none_or(|header| !header.as_str().contains("vnd."));
    match shape {
        Some(Shape { schema_version: Some(1), .. }) => MediaType::DOCKER_SCHEMA1,
        Some(Shape { manifests: Some(_), .. }) if vague && written.is_none() => MediaType::OCI_INDEX,
        Some(Shape { config: Some(_), .. }) if vague && written.is_none() => MediaType::OCI_MANIFEST,
        _ => written.or(header).unwrap_or_else(|| MediaType::new("")),
    }
}

/// The best entry for the platform: of several that suit equally the first, as containerd does.
fn choose<'a>(index: &'a Index, wanted: &Platform, reference: &Reference) -> Result<&'a Descriptor, RegistryError> {
    let usable = |descriptor: &&Descriptor| descriptor.media_type.is_manifest() || descriptor.media_type.is_index();
    let entries: Vec<&Descriptor> = index.manifests.iter().filter(usable).collect();
    let suiting = entries.iter().filter_map(|entry| Some((wanted.suits(entry.platform.as_ref()?)?, entry)));
    if let Some((_, entry)) = suiting.min_by_key(|(distance, _)| *distance) {
        return Ok(entry);
    }
    // An entry that says nothing of its platform may be an index that does, or the only image there is.
    if let Some(entry) = entries.iter().find(|entry| entry.platform.is_none()) {
        return Ok(entry);
    }
    // Attestations call themselves unknown/unknown: nobody wants to choose one.
    let mut offered: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .map(|platform| platform.normalized().to_string())
        .collect();
    offered.retain(|platform| platform != "unknown/unknown");
    offered.dedup();
    if let (true, Some(entry)) = (offered.is_empty(), index.manifests.first().filter(|_| entries.is_empty())) {
        return Err(RegistryError::MediaType {
            what: "manifest".to_owned(),
            reference: reference.to_string(),
            media_type: entry.media_type.to_string(),
        });
    }
    Err(RegistryError::NoPlatform { reference: reference.to_string(), wanted: wanted.to_string(), offered })
}

/// What must hold before anybody builds on it.
fn check(manifest: &Manifest, config: &ImageConfig, place: &Place) -> Result<(), RegistryError> {
    if let Some(layer) = manifest.layers.iter().find(|layer| !layer.media_type.is_layer()) {
        return Err(RegistryError::MediaType {
            what: format!("layer {}", layer.digest),
            reference: place.reference.to_string(),
            media_type: layer.media_type.to_string(),
        });
    }
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        let reason = format!("its manifest has {layers} layers and its config has {diff_ids}");
        return Err(RegistryError::NotAnImage { reference: place.reference.to_string(), reason });
    }
    Ok(())
}

/// A missing blob in the protocol's words.
pub(super) fn blob_unknown(error: RegistryError, digest: &Digest, place: &Place) -> RegistryError {
    match error {
        RegistryError::Status { code: 404, message, .. } => {
            RegistryError::BlobUnknown { digest: digest.clone(), repository: place.reference.name(), message }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn index(platforms: &[Option<&str>]) -> Index {
        let manifests: Vec<_> = platforms
            .iter()
            .enumerate()
            .map(|(number, platform)| {
                let mut descriptor = Descriptor::of(MediaType::OCI_MANIFEST, &number.to_le_bytes());
                descriptor.size = number as u64;
                descriptor.platform = platform.map(|platform| {
                    let parts: Vec<&str> = platform.split('/').collect();
                    let (os, architecture) = (parts[0].to_owned(), parts[1].to_owned());
                    Platform { os, architecture, variant: parts.get(2).map(|&part| part.to_owned()), os_version: None }
                });
                descriptor
            })
            .collect();
        Index {
            schema_version: 2,
            media_type: None,
            manifests,
            annotations: std::collections::BTreeMap::new(),
            extra: std::collections::BTreeMap::new(),
        }
    }

    fn chosen(platforms: &[Option<&str>], wanted: &str) -> Result<u64, String> {
        let reference = "example.com/app:1".parse().unwrap();
        choose(&index(platforms), &wanted.parse().unwrap(), &reference)
            .map(|descriptor| descriptor.size)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_nearest_variant_that_runs_is_chosen() {
        let all = [
            Some("linux/arm/v5"),
            Some("linux/arm/v7"),
            Some("linux/amd64"),
            Some("linux/arm64/v8"),
            Some("linux/arm/v6"),
            Some("unknown/unknown"),
        ];
        assert_eq!(chosen(&all, "linux/amd64"), Ok(2));
        assert_eq!(chosen(&all, "linux/amd64/v3"), Ok(2));
        assert_eq!(chosen(&all, "linux/arm64"), Ok(3));
        assert_eq!(chosen(&all, "linux/arm"), Ok(1));
        assert_eq!(chosen(&all, "linux/arm/v6"), Ok(4));
        let error = chosen(&all, "linux/s390x").unwrap_err();
        assert!(error.contains("linux/s390x") && error.contains("linux/arm64,"), "{error}");
        assert!(!error.contains("unknown"), "{error}");
    }

    #[test]
    fn an_entry_that_names_no_platform_is_looked_into_when_no_other_suits() {
        assert_eq!(chosen(&[None, Some("linux/amd64")], "linux/amd64"), Ok(1));
        assert_eq!(chosen(&[Some("linux/amd64"), None], "linux/arm64"), Ok(1));
    }

    #[test]
    fn a_document_is_what_it_says_or_what_the_header_says_or_what_it_looks_like() {
        let of = |header: Option<&str>, body: serde_json::Value| {
            understood(header.map(MediaType::new), body.to_string().as_bytes()).to_string()
        };
        let oci = MediaType::OCI_MANIFEST.to_string();
        assert_eq!(of(Some("application/json"), json!({"mediaType": oci, "schemaVersion": 2})), oci);
        assert_eq!(of(Some(&oci), json!({"schemaVersion": 2, "config": {}})), oci);
        assert_eq!(of(None, json!({"schemaVersion": 2, "config": {}})), oci);
        let index = MediaType::OCI_INDEX.to_string();
        assert_eq!(of(Some("text/plain"), json!({"schemaVersion": 2, "manifests": []})), index);
        let schema1 = MediaType::DOCKER_SCHEMA1.to_string();
        assert_eq!(of(None, json!({"schemaVersion": 1})), schema1);
        assert_eq!(of(None, json!({"mediaType": "application/vnd.x+json", "config": {}})), "application/vnd.x+json");
    }
}
