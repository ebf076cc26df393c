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
pub(super) const TAG: &str = "zuwai-";

const KEY: &str = "dev.zuwai.cache.key";
const PARENT: &str = "dev.zuwai.cache.parent";
const INPUTS: &str = "dev.zuwai.cache.inputs";
const DIFF_ID: &str = "dev.zuwai.cache.diff-id";
const BELOW: &str = "dev.zuwai.cache.below";
const CONTENT: &str = "dev.zuwai.cache.content";
pub(super) const CREATED: &str = "org.opencontainers.image.created";

/// The longest text of an instruction that is written into an entry.
const LONGEST_TEXT: usize = 400;

/// Clocks of machines differ by minutes; an entry that is further ahead would never be too old.
const MOST_AHEAD: Duration = Duration::from_hours(24);

/// What is known of a kept layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) layer: Descriptor,
    pub(super) diff_id: Digest,
    /// What it was made on: see [`Forecast`](super::forecast::Forecast).
    pub(super) below: Key,
    pub(super) created: Timestamp,
}

/// What an entry is made of besides its layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label<'a> {
    pub(crate) key: Key,
    pub(crate) parent: Key,
    /// The hash of the inputs.
    pub(crate) inputs: Key,
    /// What the layer was made on.
    pub(crate) below: Key,
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
    #[error("its layer is not the one that was kept")]
    OtherContent,
    #[error("it is from the future: this machine's clock or another one is wrong")]
    Future,
    #[error("it has {0} layers, and one is to be there")]
    Layers(usize),
    #[error("what it keeps is no layer but {0}")]
    MediaType(String),
}

impl Entry {
    /// Reads what was found under the tag of a key.
    pub(super) fn read(key: &Key, manifest: &Manifest, now: SystemTime) -> Result<Entry, Malformed> {
        let text = |name: &'static str| manifest.annotations.get(name).ok_or(Malformed::Missing(name));
        let hash = |name: &'static str| Key::parse(text(name)?).ok_or(Malformed::Senseless(name));
        if hash(KEY)? != *key || Key::after(Some(&hash(PARENT)?), &hash(INPUTS)?) != *key {
            return Err(Malformed::OtherKey);
        }
        let diff_id = text(DIFF_ID)?.parse().map_err(|_| Malformed::Senseless(DIFF_ID))?;
        let (below, kept) = (hash(BELOW)?, hash(CONTENT)?);
        let created = text(CREATED)?.parse().map_err(|_| Malformed::Senseless(CREATED))?;
        let [layer] = manifest.layers.as_slice() else { return Err(Malformed::Layers(manifest.layers.len())) };
        if !layer.media_type.is_layer() {
            return Err(Malformed::MediaType(layer.media_type.to_string()));
        }
        let layer = Descriptor::new(layer.media_type.clone(), layer.digest.clone(), layer.size);
        if content(key, &below, &layer, &diff_id) != kept {
            return Err(Malformed::OtherContent);
        }
        let entry = Entry { layer, diff_id, below, created };
        let ahead = SystemTime::from(created).duration_since(now).unwrap_or_default();
        if ahead > MOST_AHEAD { Err(Malformed::Future) } else { Ok(entry) }
    }

    /// How old it is; nothing when the clocks disagree a little.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(SystemTime::from(self.created)).unwrap_or_default()
    }
}

/// What an entry says about its layer, in one hash: a manifest in which any of it was changed is found out without the layer.
fn content(key: &Key, below: &Key, layer: &Descriptor, diff_id: &Digest) -> Key {
    let layer = format!("{} {} {} {diff_id}", layer.media_type, layer.digest, layer.size);
    Key::of(&[key.bytes(), below.bytes(), layer.as_bytes()])
}

/// The image that is kept for a layer.
pub(super) fn image(label: &Label<'_>, layer: &Layer, platform: &Platform, now: SystemTime) -> Image {
    let media_type = layer.descriptor.media_type.in_format(ImageFormat::Oci);
    let named = Descriptor::new(media_type, layer.descriptor.digest.clone(), layer.descriptor.size);
    let annotations = [
        (KEY, label.key.to_string()),
        (PARENT, label.parent.to_string()),
        (INPUTS, label.inputs.to_string()),
        (DIFF_ID, layer.diff_id.to_string()),
        (BELOW, label.below.to_string()),
        (CONTENT, content(&label.key, &label.below, &named, &layer.diff_id).to_string()),
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
        let (parent, inputs, below) = (Key::of(&[b"parent"]), Key::of(&[b"inputs"]), Key::of(&[b"below"]));
        let key = Key::after(Some(&parent), &inputs);
        let label = Label { key, parent, inputs, below, text: "RUN x" };
        let image = image(&label, &writer.finish().unwrap(), &Platform::host(), SystemTime::now());
        (key, serde_json::from_slice(&image.encode().manifest).unwrap())
    }

    fn read(key: &Key, manifest: &Manifest) -> Result<Entry, Malformed> {
        Entry::read(key, manifest, SystemTime::now())
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let (key, manifest) = kept();
        let entry = read(&key, &manifest).unwrap();
        assert_eq!((entry.layer.size, entry.diff_id), (manifest.layers[0].size, Digest::of(b"tar")));
        assert_eq!((entry.layer.media_type, entry.below), (MediaType::OCI_LAYER_GZIP, Key::of(&[b"below"])));
    }

    #[test]
    fn what_is_no_entry_of_this_key_is_not_believed() {
        let (key, manifest) = kept();
        assert_eq!(read(&Key::of(&[]), &manifest), Err(Malformed::OtherKey));
        for name in [KEY, PARENT, INPUTS, DIFF_ID, BELOW, CONTENT, CREATED] {
            let mut without = manifest.clone();
            without.annotations.remove(name);
            assert_eq!(read(&key, &without), Err(Malformed::Missing(name)));
            let mut senseless = manifest.clone();
            senseless.annotations.insert(name.to_owned(), "x".to_owned());
            assert_eq!(read(&key, &senseless), Err(Malformed::Senseless(name)));
        }
        let lie = |name: &str, value: String| {
            let mut other = manifest.clone();
            other.annotations.insert(name.to_owned(), value);
            read(&key, &other)
        };
        assert_eq!(lie(INPUTS, Key::of(&[b"other"]).to_string()), Err(Malformed::OtherKey));
        assert_eq!(lie(PARENT, Key::of(&[b"other"]).to_string()), Err(Malformed::OtherKey));
        assert_eq!(lie(DIFF_ID, Digest::of(b"other").to_string()), Err(Malformed::OtherContent));
        assert_eq!(lie(BELOW, Key::of(&[b"other"]).to_string()), Err(Malformed::OtherContent));
        assert_eq!(lie(CONTENT, Key::of(&[b"other"]).to_string()), Err(Malformed::OtherContent));
        assert_eq!(lie(CREATED, "2999-01-01T00:00:00Z".to_owned()), Err(Malformed::Future));
        let layer = |change: fn(&mut Descriptor)| {
            let mut other = manifest.clone();
            change(&mut other.layers[0]);
            read(&key, &other)
        };
        assert_eq!(layer(|layer| layer.digest = Digest::of(b"other")), Err(Malformed::OtherContent));
        assert_eq!(layer(|layer| layer.size += 1), Err(Malformed::OtherContent));
        assert_eq!(layer(|layer| layer.media_type = MediaType::OCI_LAYER), Err(Malformed::OtherContent));
        assert!(matches!(layer(|layer| layer.media_type = MediaType::OCI_CONFIG), Err(Malformed::MediaType(_))));
        let mut none = manifest.clone();
        none.layers.clear();
        assert_eq!(read(&key, &none), Err(Malformed::Layers(0)));
        let mut two = manifest.clone();
        two.layers.push(manifest.layers[0].clone());
        assert_eq!(read(&key, &two), Err(Malformed::Layers(2)));
    }
}
