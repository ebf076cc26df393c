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
use crate::blob::{BlobDir, BlobSource};
use crate::image::{
    Algorithm, Blob, DEEPEST_INDEX, Descriptor, Digest, Document, DocumentBudget, Graph, Image, ImageConfig,
    ImageFormat, Index, LARGEST_CONFIG, LARGEST_MANIFEST, Layer, Manifest, MediaType, Parts, Platform, Reference,
};

/// What we understand, best first.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

impl Session {
    /// An image for a platform.
    pub(super) async fn pull(&self, reference: &Reference, platform: &Platform) -> Result<Found, RegistryError> {
        let (places, (digest, manifest, config)) =
            self.look_in_each_place(reference, async |place: &Place| self.pull_from(place, platform).await).await?;
        Ok(Found { places, digest, manifest, config })
    }

    /// A manifest or an index as it is; `None` when there is no such image.
    pub(super) async fn inspect(&self, reference: &Reference) -> Result<Option<Document>, RegistryError> {
        let identifier = reference.identifier();
        let found = self
            .look_in_each_place(reference, async |place: &Place| self.manifest(place, &identifier).await)
            .await
            .map(|(_, document)| document);
        match found {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.is_manifest_unknown() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A manifest or an index with all it refers to.
    pub(super) async fn graph(&self, reference: &Reference) -> Result<FoundGraph, RegistryError> {
        let identifier = reference.identifier();
        let (places, found) = self
            .look_in_each_place(reference, async |place: &Place| {
                let document = self.manifest(place, &identifier).await?;
                self.graph_of(place, document, 0, &mut DocumentBudget::new()).await
            })
            .await?;
        Ok(FoundGraph { places, documents: found })
    }

    /// Fetches what a document lists, and what that lists.
    async fn graph_of(
        &self,
        place: &Place,
        document: Document,
        depth: usize,
        budget: &mut DocumentBudget,
    ) -> Result<Documents, RegistryError> {
        let name = place.reference.to_string();
        budget.count(document.bytes.len() as u64, &name)?;
        let mut graph = Documents { parts: Vec::new(), blobs: Vec::new(), document };
        match graph.document.parts(&name)? {
            Parts::Manifest(blobs) => graph.blobs = blobs,
            Parts::Index(_) if depth == DEEPEST_INDEX => return Err(too_deep(name)),
            Parts::Index(listed) => {
                for descriptor in listed {
                    let mut document = self.manifest(place, &descriptor.digest.to_string()).await?;
                    // What the index says of it besides, its platform above all.
                    document.descriptor = Descriptor { media_type: document.descriptor.media_type, ..descriptor };
                    graph.parts.push(Box::pin(self.graph_of(place, document, depth + 1, budget)).await?);
                }
            }
        }
        Ok(graph)
    }

    /// Looks in each place in turn. Everything that failed before is kept for the error.
    async fn look_in_each_place<T>(
        &self,
        reference: &Reference,
        look: impl AsyncFn(&Place) -> Result<T, RegistryError>,
    ) -> Result<(Vec<Place>, T), RegistryError> {
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
            match look(&place).await {
                Ok(what) => {
                    found = Some(what);
                    places.push(place);
                }
                Err(error) => {
                    failed.push(why(&candidate.reference, &error));
                    last = Some((candidate.reference.clone(), error));
                }
            }
        }
        if let Some(found) = found {
            if places.len() > 1 {
                // A layer may have to come from a place that was not asked for the manifest, at a time when no keychain
                // may be asked.
                self.authenticator.credentials.prepare(places.iter().map(|place| &place.reference)).await;
            }
            return Ok((places, found));
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
        platform: &Platform,
    ) -> Result<(Digest, Manifest, ImageConfig), RegistryError> {
        let name = place.reference.to_string();
        // A mirror is asked for the same tag or digest.
        let mut document = self.manifest(place, &place.reference.identifier()).await?;
        for _ in 0..=DEEPEST_INDEX {
            let media_type = &document.descriptor.media_type;
            if media_type.is_manifest() {
                let manifest: Manifest = parse("manifest", &document.bytes, place)?;
                let config = self.config(place, &manifest).await?;
                manifest.check(&config, &name)?;
                return Ok((document.descriptor.digest, manifest, config));
            }
            if !media_type.is_index() {
                let (what, media_type) = ("manifest".to_owned(), media_type.to_string());
                return Err(RegistryError::MediaType { what, reference: name, media_type });
            }
            let index: Index = parse("index", &document.bytes, place)?;
            let descriptor = index.choose(platform, &name)?;
            document = self.manifest(place, &descriptor.digest.to_string()).await?;
        }
        Err(too_deep(name))
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
        let digest = Digest::of_kind(algorithm, &bytes);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let origin = place.reference.name();
            return Err(RegistryError::DigestMismatch { what: "manifest", expected, origin, got: digest });
        }
        let media_type = understood(media_type, &bytes);
        Ok(Document { descriptor: Descriptor::new(media_type, digest, bytes.len() as u64), bytes })
    }

    /// The digest a name stands for, without fetching what it names; `None` when there is no such image. Asking so does not
    /// count as a pull where pulls are limited.
    pub(super) async fn digest(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        let place = self.place(reference, Purpose::Pull, false).await?;
        let identifier = reference.identifier();
        let attempted = format!("look for {reference}");
        let mut request = call(&attempted, Method::HEAD, place.url(&format!("manifests/{identifier}")));
        request.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let asked = self.expect(&place, &scopes(&place, false), &request, &[StatusCode::OK]).await;
        match asked {
            Ok(response) => {
                let told = header(&response, "docker-content-digest").and_then(|digest| digest.parse().ok());
                if told.is_some() {
                    return Ok(told);
                }
            }
            Err(RegistryError::Status { code: 404, .. }) => return Ok(None),
            // Some registries do not answer HEAD with anything that makes sense.
            Err(RegistryError::Status { code: 400 | 405 | 501, .. }) => {}
            Err(error) => return Err(error),
        }
        match self.manifest(&place, &identifier).await {
            Ok(document) => Ok(Some(document.descriptor.digest)),
            Err(RegistryError::ManifestUnknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn config(&self, place: &Place, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
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
        let got = Digest::of_kind(digest.algorithm(), &bytes);
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
        let docker = self.manifest.is_docker();
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

/// Documents that were found, before their blobs know where to put their bytes.
pub(super) struct FoundGraph {
    places: Vec<Place>,
    documents: Documents,
}

struct Documents {
    document: Document,
    parts: Vec<Documents>,
    blobs: Vec<Descriptor>,
}

impl FoundGraph {
    pub(super) fn into_graph(self, engine: &Arc<Engine>, blobs: &BlobDir) -> Graph {
        let origin = self.places[0].reference.clone();
        let fetched_later = |descriptor: Descriptor| {
            let source = Source { places: self.places.clone(), descriptor: descriptor.clone(), blobs: blobs.clone() };
            let source: Arc<dyn BlobSource> = Arc::new(LazyBlob::new(Arc::clone(engine), Download::new(source)));
            Blob { descriptor, source, origin: Some(origin.clone()) }
        };
        self.documents.into_graph(&fetched_later)
    }
}

impl Documents {
    fn into_graph(self, blob: &impl Fn(Descriptor) -> Blob) -> Graph {
        Graph {
            document: self.document,
            manifests: self.parts.into_iter().map(|part| part.into_graph(blob)).collect(),
            blobs: self.blobs.into_iter().map(blob).collect(),
        }
    }
}

/// Why an image could not be had there, named once.
fn why(tried: &Reference, error: &RegistryError) -> String {
    let (name, text) = (tried.to_string(), with_causes(error));
    if text.contains(&name) { text } else { format!("{name}: {text}") }
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    place: &Place,
) -> Result<T, RegistryError> {
    serde_json::from_slice(bytes).map_err(|source| RegistryError::Document {
        what,
        reference: place.reference.to_string(),
        source,
    })
}

fn too_deep(reference: String) -> RegistryError {
    let reason = format!("indexes lie more than {DEEPEST_INDEX} deep in one another");
    RegistryError::NotAnImage { reference, reason }
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
