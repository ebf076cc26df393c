//! A descriptor: what one document says about a blob it refers to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Digest, MediaType, Platform};

/// Type, digest and size of a blob (OCI image spec, descriptor.md). Printed in the order Go prints it; fields this crate
/// has no use for pass through whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(default = "no_media_type")]
    pub media_type: MediaType,
    /// Their digest.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// Where else the bytes may be found; kept, never followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "super::manifest::null_is_default")]
    pub urls: Vec<String>,
    /// Free-form notes.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::manifest::null_is_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// In an index: for which platform the manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Descriptor {
    /// The three things every descriptor has.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            extra: BTreeMap::new(),
        }
    }

    /// The descriptor of these bytes.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

fn no_media_type() -> MediaType {
    MediaType::new("")
}
