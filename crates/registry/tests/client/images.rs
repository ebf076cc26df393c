//! Small images to push and pull, and clients to do it with.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use zuwai_registry::auth::{Anonymous, ConfigSource, HelperOptions};
use zuwai_registry::{
    BlobDir, Client, ClientOptions, Compression, DockerConfigKeychain, Image, ImageConfig, ImageFormat, Layer,
    LayerWriter, Platform, Reference, RetryPolicy, TransportOptions,
};

/// Bytes that compress a little.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[2]
    };
    (0..length).map(|index| if index % 3 == 0 { b'x' } else { next() }).collect()
}

/// A tar with one file of this content.
pub(crate) fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), content).unwrap();
    let output = std::process::Command::new("tar")
        .args(["--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-c", name])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

pub(crate) fn layer(tar: &[u8], compression: Compression, format: ImageFormat, blobs: &BlobDir) -> Layer {
    let mut writer = LayerWriter::new(blobs, compression, format).unwrap();
    writer.write_all(tar).unwrap();
    writer.finish().unwrap()
}

/// An image for this machine with one layer of one file for each length.
pub(crate) fn image(seed: u64, lengths: &[usize], format: ImageFormat, blobs: &BlobDir) -> Image {
    let layers = lengths.iter().enumerate().map(|(index, &length)| {
        let tar = tar(&format!("file{index}"), &content(seed + index as u64, length));
        layer(&tar, Compression::GZIP, format, blobs)
    });
    let mut config = ImageConfig { created: Some("2024-01-02T03:04:05Z".to_owned()), ..ImageConfig::default() };
    config.set_platform(&Platform::host());
    config.config.cmd = Some(vec![format!("seed {seed}")]);
    Image { config, layers: layers.collect(), format, annotations: BTreeMap::new() }
}

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Quick to give up, so that tests of failures take no minutes.
pub(crate) fn impatient() -> ClientOptions {
    ClientOptions {
        transport: TransportOptions {
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(10),
            ..TransportOptions::default()
        },
        retry: RetryPolicy {
            tries: 4,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(50),
            longest_asked_pause: Duration::from_secs(2),
        },
        ..ClientOptions::default()
    }
}

/// Options that allow plain HTTP to this registry.
pub(crate) fn plain(registry: &str) -> ClientOptions {
    ClientOptions { insecure_registries: vec![registry.to_owned()], ..impatient() }
}

pub(crate) fn anonymous(options: ClientOptions) -> Client {
    Client::new(options, Arc::new(Anonymous)).unwrap()
}

/// A client with this `config.json`.
pub(crate) fn with_config(options: ClientOptions, config: &serde_json::Value) -> Client {
    let source =
        ConfigSource { name: "/kaniko/.docker/config.json".to_owned(), content: Some(config.to_string().into_bytes()) };
    let absent = ConfigSource { name: "DOCKER_AUTH_CONFIG".to_owned(), content: None };
    let keychain = DockerConfigKeychain::new(vec![absent, source], HelperOptions::default());
    Client::new(options, Arc::new(keychain)).unwrap()
}

/// A `config.json` with one user.
pub(crate) fn login(registry: &str, username: &str, password: &str) -> serde_json::Value {
    serde_json::json!({"auths": {registry: {"username": username, "password": password}}})
}

/// The plain tar of a layer, both digests checked.
pub(crate) fn read(layer: &Layer) -> std::io::Result<Vec<u8>> {
    let mut tar = Vec::new();
    layer.open_tar()?.read_to_end(&mut tar)?;
    Ok(tar)
}

/// That two images are the same: documents and every byte of every layer.
pub(crate) fn assert_same(one: &Image, two: &Image) {
    assert_eq!(one.config.config, two.config.config);
    assert_eq!(one.encode().descriptor.digest, two.encode().descriptor.digest);
    assert_eq!(one.layers.len(), two.layers.len());
    for (one, two) in one.layers.iter().zip(&two.layers) {
        assert!(read(one).unwrap() == read(two).unwrap(), "layer {}", one.descriptor.digest);
    }
}
