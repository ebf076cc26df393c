//! Manifests and indexes: the documents a registry keeps under a tag or a digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Descriptor, ImageConfig, MediaType, Platform};
use crate::client::RegistryError;

/// One image for one platform: its config and its layers (OCI image spec, manifest.md; Docker image manifest V2
/// schema 2). Printed in the order Go prints it; unknown fields pass through whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What this document is; OCI allows it to be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Everything else, `subject` and `artifactType` among it.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Manifests for several platforms, or further indexes (OCI image spec, image-index.md; Docker manifest list).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What this document is; OCI allows it to be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What it lists, the preferred first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Manifest {
    /// Whether it is of Docker's family.
    pub(crate) fn is_docker(&self) -> bool {
        self.media_type.as_ref().map_or(self.config.media_type.is_docker(), MediaType::is_docker)
    }

    /// What must hold before anybody builds on it. `name` is for errors.
    pub(crate) fn check(&self, config: &ImageConfig, name: &str) -> Result<(), RegistryError> {
        if let Some(layer) = self.layers.iter().find(|layer| !layer.media_type.is_layer()) {
            return Err(RegistryError::MediaType {
                what: format!("layer {}", layer.digest),
                reference: name.to_owned(),
                media_type: layer.media_type.to_string(),
            });
        }
        let (layers, diff_ids) = (self.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            let reason = format!("its manifest has {layers} layers and its config has {diff_ids}");
            return Err(RegistryError::NotAnImage { reference: name.to_owned(), reason });
        }
        Ok(())
    }
}

impl Index {
    /// The best entry for the platform: of several that suit equally the first, as containerd does. `name` is for errors.
    pub(crate) fn choose(&self, wanted: &Platform, name: &str) -> Result<&Descriptor, RegistryError> {
        let usable = |descriptor: &&Descriptor| descriptor.media_type.is_manifest() || descriptor.media_type.is_index();
        let entries: Vec<&Descriptor> = self.manifests.iter().filter(usable).collect();
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
        if let (true, Some(entry)) = (offered.is_empty(), self.manifests.first().filter(|_| entries.is_empty())) {
            return Err(RegistryError::MediaType {
                what: "manifest".to_owned(),
                reference: name.to_owned(),
                media_type: entry.media_type.to_string(),
            });
        }
        Err(RegistryError::NoPlatform { reference: name.to_owned(), wanted: wanted.to_string(), offered })
    }
}

/// Go prints an empty list or map without `omitempty` as `null`, and reads `null` back as empty.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_with_unknown_fields_is_printed_as_it_was_read() {
        let text = concat!(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","#,
            r#""digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"#,
            r#""layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","#,
            r#""digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"#,
            r#""urls":["https://example.com/x"],"annotations":{"a":"b"},"data":"e30="}],"#,
            r#""annotations":{"k":"v"},"artifactType":"x/y"}"#
        );
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&manifest).unwrap(), text);
    }

    #[test]
    fn null_lists_are_empty_lists() {
        let index: Index = serde_json::from_str(r#"{"schemaVersion":2,"manifests":null,"annotations":null}"#).unwrap();
        assert!(index.manifests.is_empty() && index.annotations.is_empty());
    }

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
        Index { schema_version: 2, media_type: None, manifests, annotations: BTreeMap::new(), extra: BTreeMap::new() }
    }

    fn chosen(platforms: &[Option<&str>], wanted: &str) -> Result<u64, String> {
        index(platforms)
            .choose(&wanted.parse().unwrap(), "example.com/app:1")
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
}
