//! Pulling from a real registry: platforms, mirrors, what is missing, what is fetched when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use zuwai_registry::{BlobDir, ClientOptions, ImageFormat, Platform, RegistryError};

use super::docker_registry::DockerRegistry;
use super::fake_registry::Action;
use super::images::{anonymous, assert_same, image, impatient, plain, read, reference};
use super::scene::pushed;

#[test]
fn what_is_missing_is_named_in_the_protocols_words() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let name = reference(&format!("{}/team/app:1.0", registry.name()));
    let error = anonymous(plain(&registry.name())).pull(&name, &Platform::host(), &blobs).unwrap_err();
    assert!(matches!(error, RegistryError::ManifestUnknown { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("manifest unknown: {name}")), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn layers_are_fetched_when_they_are_opened_or_prefetched_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path().join("one")).unwrap();
    let name = reference(&format!("{}/app:1", registry.name()));
    let pushed = image(1, &[100_000, 200_000, 300_000, 400_000, 500_000, 600_000], ImageFormat::Oci, &blobs);
    let client = anonymous(plain(&registry.name()));
    client.push(&pushed, std::slice::from_ref(&name)).unwrap();
    let gets = |registry: &DockerRegistry| registry.count("GET", "/blobs/");
    let work = BlobDir::open(folder.path().join("two")).unwrap();
    let pulled = client.pull(&name, &Platform::host(), &work).unwrap().image;
    assert_eq!(gets(&registry), 1, "the config alone");
    client.prefetch(&pulled.layers);
    client.prefetch(&pulled.layers);
    assert_same(&pulled, &pushed);
    assert_same(&pulled, &pushed);
    assert_eq!(gets(&registry), 7, "{:#?}", registry.requests());
    assert!(pulled.layers.iter().all(|layer| work.get(&layer.descriptor.digest).is_some()));
}

#[test]
fn whoever_waits_for_a_layer_or_an_answer_that_does_not_come_stops_waiting_when_told_to() {
    let scene = pushed(&[100_000]);
    let cancelled = Arc::new(AtomicBool::new(false));
    let client = anonymous(ClientOptions { cancelled: Some(Arc::clone(&cancelled)), ..plain(&scene.registry.name()) });
    let blobs = BlobDir::open(scene.folder.path().join("work")).unwrap();
    let pulled = client.pull(&scene.name, &Platform::host(), &blobs).unwrap();
    scene.registry.fault(|_, _| Action::Late(Duration::from_secs(8)));
    let told = Arc::clone(&cancelled);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        told.store(true, Ordering::SeqCst);
    });
    let start = Instant::now();
    let error = read(&pulled.image.layers[0]).unwrap_err();
    assert!(matches!(RegistryError::behind(&error), Some(RegistryError::Cancelled)), "{error}");
    assert!(matches!(client.inspect(&scene.name), Err(RegistryError::Cancelled)));
    assert!(matches!(client.stored(std::slice::from_ref(&scene.name))[..], [Err(RegistryError::Cancelled)]));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_layer_outlives_the_client_it_was_pulled_with() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path().join("one")).unwrap();
    let name = reference(&format!("{}/app:1", registry.name()));
    let pushed = image(1, &[100_000], ImageFormat::Oci, &blobs);
    let client = anonymous(plain(&registry.name()));
    client.push(&pushed, std::slice::from_ref(&name)).unwrap();
    let pulled = client.pull(&name, &Platform::host(), &BlobDir::open(folder.path().join("two")).unwrap()).unwrap();
    drop(client);
    assert_same(&pulled.image, &pushed);
}

#[test]
fn mirrors_of_docker_hub_are_asked_in_order_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, full) = (DockerRegistry::open(), DockerRegistry::open());
    let blobs = BlobDir::open(folder.path().join("one")).unwrap();
    let insecure = vec![empty.name(), full.name()];
    let in_mirror = reference(&format!("{}/hub/library/maven:3.5-jdk-11", full.name()));
    let setup = anonymous(ClientOptions { insecure_registries: insecure.clone(), ..impatient() });
    let pushed = image(1, &[1000], ImageFormat::Docker, &blobs);
    let digest = setup.push(&pushed, std::slice::from_ref(&in_mirror)).unwrap();

    let options = ClientOptions {
        insecure_registries: insecure,
        mirrors: vec![empty.name(), format!("{}/hub", full.name())],
        skip_default_fallback: true,
        ..impatient()
    };
    let client = anonymous(options);
    let work = BlobDir::open(folder.path().join("two")).unwrap();
    let pulled = client.pull(&reference("maven:3.5-jdk-11"), &Platform::host(), &work).unwrap();
    assert_eq!((pulled.digest, pulled.origin), (digest, in_mirror));
    assert_same(&pulled.image, &pushed);
    assert_eq!(empty.count("GET", "/v2/library/maven/manifests/3.5-jdk-11"), 1);

    let error = client.pull(&reference("missing"), &Platform::host(), &work).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("image not found on any configured mapped registries for"), "{text}");
    assert!(text.contains(&empty.name()) && text.contains(&full.name()), "{text}");
}

#[test]
fn the_registry_itself_is_asked_when_its_mirrors_fail_and_both_are_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let (mirror, original) = (DockerRegistry::open(), DockerRegistry::open());
    let blobs = BlobDir::open(folder.path().join("one")).unwrap();
    let options = ClientOptions {
        insecure_registries: vec![mirror.name(), original.name()],
        registry_maps: BTreeMap::from([(original.name(), vec![mirror.name()])]),
        ..impatient()
    };
    let client = anonymous(options);
    let name = reference(&format!("{}/app:1", original.name()));
    let pushed = image(1, &[1000], ImageFormat::Oci, &blobs);
    client.push(&pushed, std::slice::from_ref(&name)).unwrap();
    assert_eq!(mirror.count("PUT", ""), 0, "mirrors are for pulls");
    let work = BlobDir::open(folder.path().join("two")).unwrap();
    assert_same(&client.pull(&name, &Platform::host(), &work).unwrap().image, &pushed);
    assert_eq!(mirror.count("GET", "/v2/app/manifests/1"), 1);

    let missing = reference(&format!("{}/app:2", original.name()));
    let error = client.pull(&missing, &Platform::host(), &work).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("manifest unknown: {missing}")), "{text}");
    assert!(text.contains(&format!("tried before: manifest unknown: {}/app:2", mirror.name())), "{text}");
}

#[test]
fn a_disk_that_is_full_is_said_and_leaves_no_blob() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path().join("one")).unwrap();
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = anonymous(plain(&registry.name()));
    client.push(&image(1, &[100_000], ImageFormat::Oci, &blobs), std::slice::from_ref(&name)).unwrap();
    // A folder that is gone fails as a full disk does: when the blob is to be written.
    let gone = folder.path().join("gone");
    let work = BlobDir::open(&gone).unwrap();
    let pulled = client.pull(&name, &Platform::host(), &work).unwrap();
    std::fs::remove_dir_all(&gone).unwrap();
    let error = read(&pulled.image.layers[0]).unwrap_err();
    let behind = RegistryError::behind(&error).expect("an error of the client");
    assert!(matches!(behind, RegistryError::Io { .. }), "{behind}");
    assert!(behind.to_string().contains(&pulled.image.layers[0].descriptor.digest.to_string()), "{behind}");
}
