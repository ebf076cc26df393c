//! An entry of the cache: an OCI image of one layer, under a tag made of the key. Every tool that knows images can list it,
//! copy it and delete it; what it stands for is written into annotations of its manifest, so that looking it up costs
//! one small document.
//!
//! [`Entry::read`] is the one door through which an entry is believed. Who wants signed entries checks them there.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use zuwai_registry::{Descriptor, Digest, History, Image, ImageConfig, ImageFormat, Layer, Manifest, Platform};

use super::key::Key;

/// Tags begin with this, so that they are nobody else's: Kaniko's are the key alone.
const TAG: &str = "zuwai-";

const KEY: &str = "dev.zuwai.cache.key";
const PARENT: &str = "dev.zuwai.cache.parent";
const INPUTS: &str = "dev.zuwai.cache.inputs";
const DIFF_ID: &str = "dev.zuwai.cache.diff-id";
const CREATED: &str = "org.opencontainers.image.created";

/// The longest text of an instruction that is written into an entry.
const LONGEST_TEXT: usize = 400;

/// What is known of a kept layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) layer: Descriptor,
    pub(super) diff_id: Digest,
    pub(super) created: Timestamp,
}

/// What an entry is made of besides its layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label<'a> {
    pub(crate) key: Key,
    pub(crate) parent: Key,
    /// The hash of the inputs.
    pub(crate) inputs: Key,
    /// The instruction as written, for people who look at the repository.
    pub(crate) text: &'a str,
}

/// The tag of a key.
pub(super) fn tag(key: &Key) -> String {
    format!("{TAG}{key}")
}

/// Why what is found under a tag is no entry that can be believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Malformed {
    #[error("it has no annotation {0}")]
    Missing(&'static str),
    #[error("its annotation {0} makes no sense")]
    Senseless(&'static str),
    #[error("its key is not the one of its content")]
    OtherKey,
    #[error("it has {0} layers, and one is to be there")]
    Layers(usize),
    #[error("what it keeps is no layer but {0}")]
    MediaType(String),
}

impl Entry {
    /// Reads what was found under the tag of a key.
    pub(super) fn read(key: &Key, manifest: &Manifest) -> Result<Entry, Malformed> {
        let text = |name: &'static str| manifest.annotations.get(name).ok_or(Malformed::Missing(name));
        let hash = |name: &'static str| Key::parse(text(name)?).ok_or(Malformed::Senseless(name));
        if hash(KEY)? != *key || Key::after(Some(&hash(PARENT)?), &hash(INPUTS)?) != *key {
            return Err(Malformed::OtherKey);
        }
        let diff_id = text(DIFF_ID)?.parse().map_err(|_| Malformed::Senseless(DIFF_ID))?;
        let created = text(CREATED)?.parse().map_err(|_| Malformed::Senseless(CREATED))?;
        let [layer] = manifest.layers.as_slice() else { return Err(Malformed::Layers(manifest.layers.len())) };
        if !layer.media_type.is_layer() {
            return Err(Malformed::MediaType(layer.media_type.to_string()));
        }
        let layer = Descriptor::new(layer.media_type.clone(), layer.digest.clone(), layer.size);
        Ok(Entry { layer, diff_id, created })
    }

    /// How old it is; nothing when the clocks disagree.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(SystemTime::from(self.created)).unwrap_or_default()
    }
}

/// The image that is kept for a layer.
pub(super) fn image(label: &Label<'_>, layer: &Layer, platform: &Platform, now: SystemTime) -> Image {
    let annotations = [
        (KEY, label.key.to_string()),
        (PARENT, label.parent.to_string()),
        (INPUTS, label.inputs.to_string()),
        (DIFF_ID, layer.diff_id.to_string()),
        (CREATED, rfc3339(now)),
    ];
    let mut config = ImageConfig::default();
    config.set_platform(platform);
    let text: String = label.text.chars().take(LONGEST_TEXT).collect();
    config.history = vec![History { created_by: text, ..History::default() }];
    Image {
        config,
        layers: vec![layer.clone()],
        format: ImageFormat::Oci,
        annotations: annotations.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
    }
}

/// To the second.
pub(super) fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%FT%TZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use zuwai_registry::{BlobDir, Compression, LayerWriter, MediaType};

    fn kept() -> (Key, Manifest) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path()).unwrap();
        let mut writer = LayerWriter::new(&blobs, Compression::GZIP, ImageFormat::Docker).unwrap();
        writer.write_all(b"tar").unwrap();
        let (parent, inputs) = (Key::of(&[b"parent"]), Key::of(&[b"inputs"]));
        let key = Key::after(Some(&parent), &inputs);
        let label = Label { key, parent, inputs, text: "RUN x" };
        let image = image(&label, &writer.finish().unwrap(), &Platform::host(), SystemTime::now());
        (key, serde_json::from_slice(&image.encode().manifest).unwrap())
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let (key, manifest) = kept();
        let entry = Entry::read(&key, &manifest).unwrap();
        assert_eq!((entry.layer.size, entry.diff_id), (manifest.layers[0].size, Digest::of(b"tar")));
        assert_eq!(entry.layer.media_type, MediaType::OCI_LAYER_GZIP);
    }

    #[test]
    fn what_is_no_entry_of_this_key_is_not_believed() {
        let (key, manifest) = kept();
        assert_eq!(Entry::read(&Key::of(&[]), &manifest), Err(Malformed::OtherKey));
        for name in [KEY, PARENT, INPUTS, DIFF_ID, CREATED] {
            let mut without = manifest.clone();
            without.annotations.remove(name);
            assert_eq!(Entry::read(&key, &without), Err(Malformed::Missing(name)));
            let mut senseless = manifest.clone();
            senseless.annotations.insert(name.to_owned(), "x".to_owned());
            assert_eq!(Entry::read(&key, &senseless), Err(Malformed::Senseless(name)));
        }
        let mut other = manifest.clone();
        other.annotations.insert(INPUTS.to_owned(), Key::of(&[b"other"]).to_string());
        assert_eq!(Entry::read(&key, &other), Err(Malformed::OtherKey));
        let mut none = manifest.clone();
        none.layers.clear();
        assert_eq!(Entry::read(&key, &none), Err(Malformed::Layers(0)));
        let mut config = manifest;
        config.layers[0].media_type = MediaType::OCI_CONFIG;
        assert!(matches!(Entry::read(&key, &config), Err(Malformed::MediaType(_))));
    }
}
