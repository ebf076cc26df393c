//! Copying and inspecting what somebody else stored: every byte of every document stays.

use serde_json::json;
use zuwai_registry::{BlobDir, ClientOptions, Descriptor, Digest, Document, ImageFormat, MediaType, Platform};

use super::docker_registry::DockerRegistry;
use super::images::{anonymous, assert_same, image, impatient, plain, reference};

/// An index of two images, printed as nobody here prints: with blanks and unknown fields.
fn index(registry: &DockerRegistry, blobs: &BlobDir) -> Vec<u8> {
    let client = anonymous(plain(&registry.name()));
    let mut manifests = Vec::new();
    for (seed, platform) in [(1, Platform::host()), (2, "linux/s390x".parse().unwrap())] {
        let mut image = image(seed, &[2000, 3000], ImageFormat::Oci, blobs);
        image.config.set_platform(&platform);
        let digest = client.push(&image, &[reference(&format!("{}/from:{seed}", registry.name()))]).unwrap();
        let size = image.encode().manifest.len();
        manifests
            .push(json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": size, "platform": platform,
            "annotations": {"k": "v"}, "x-unknown": [1, 2]}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests, "x-more": {}});
    let bytes = serde_json::to_vec_pretty(&index).unwrap();
    let document = Document::new(MediaType::OCI_INDEX, bytes.clone());
    client.push_document(&document, &reference(&format!("{}/from:all", registry.name()))).unwrap();
    bytes
}

#[test]
fn an_index_is_copied_with_all_it_lists_and_keeps_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("made")).unwrap();
    let (one, two) = (DockerRegistry::open(), DockerRegistry::open());
    let bytes = index(&one, &blobs);
    let client = anonymous(ClientOptions { insecure_registries: vec![one.name(), two.name()], ..impatient() });
    let from = reference(&format!("{}/from:all", one.name()));
    let work = BlobDir::open(folder.path().join("work")).unwrap();

    let near = reference(&format!("{}/near:1", one.name()));
    assert_eq!(client.copy(&from, std::slice::from_ref(&near), &work).unwrap(), Digest::of(&bytes));
    assert_eq!(one.count("GET", "/v2/from/blobs/"), 0, "within a registry blobs are mounted");
    assert_eq!(one.count("PUT", "/v2/near/blobs/"), 0);

    let far = ["a:1", "a:2", "b:1"].map(|name| reference(&format!("{}/{name}", two.name())));
    assert_eq!(client.copy(&from, &far, &work).unwrap(), Digest::of(&bytes));
    assert_eq!(two.count("PUT", "/blobs/uploads/"), 6, "each blob once: {:#?}", two.requests());
    for name in far.iter().chain([&near]) {
        let document = client.inspect(name).unwrap().unwrap();
        assert_eq!((&document.bytes, &document.descriptor.media_type), (&bytes, &MediaType::OCI_INDEX));
        let pulled = client.pull(name, &"linux/s390x".parse().unwrap(), &work).unwrap();
        assert_same(&pulled.image, &client.pull(&from, &"linux/s390x".parse().unwrap(), &work).unwrap().image);
    }
}

#[test]
fn what_is_not_there_is_none_and_a_digest_is_asked_for_without_its_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let client = anonymous(plain(&registry.name()));
    let name = reference(&format!("{}/app:1", registry.name()));
    assert_eq!(client.inspect(&name).unwrap(), None);
    assert_eq!(client.digest(&name).unwrap(), None);
    let image = image(1, &[1000], ImageFormat::Oci, &BlobDir::open(folder.path()).unwrap());
    let digest = client.push(&image, std::slice::from_ref(&name)).unwrap();
    let gets = registry.count("GET", "/v2/app/manifests/");
    assert_eq!(client.digest(&name).unwrap(), Some(digest));
    assert_eq!(registry.count("GET", "/v2/app/manifests/"), gets);
}

#[test]
fn single_blobs_and_documents_are_moved_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let made = BlobDir::open(folder.path().join("made")).unwrap();
    let image = image(1, &[1000], ImageFormat::Oci, &made);
    let client = anonymous(plain(&registry.name()));
    let [cache, app] = ["cache:key", "app:1"].map(|name| reference(&format!("{}/{name}", registry.name())));
    let blob = image.layers[0].to_blob();
    let digest = &blob.descriptor.digest;
    assert!(!client.has_blob(&cache, digest).unwrap());
    client.push_blob(&blob, &cache).unwrap();
    assert!(client.has_blob(&cache, digest).unwrap() && !client.has_blob(&app, digest).unwrap());

    let work = BlobDir::open(folder.path().join("work")).unwrap();
    let there = client.blob(&cache, &blob.descriptor, &work).unwrap();
    client.push_blob(&there, &app).unwrap();
    assert_eq!(registry.count("PUT", "/blobs/uploads/"), 1, "mounted from where it was found");
    assert_eq!(registry.count("GET", "/blobs/sha256"), 0);
    std::io::copy(&mut there.source.open().unwrap(), &mut std::io::sink()).unwrap();
    assert!(work.get(digest).is_some());

    let encoded = image.encode();
    let config = Descriptor::of(MediaType::OCI_CONFIG, &encoded.config);
    let graph = image.graph(&encoded);
    assert_eq!(graph.blobs[0].descriptor, config);
    client.push_blob(&graph.blobs[0], &app).unwrap();
    client.push_document(&graph.document, &app.with_digest(encoded.descriptor.digest.clone())).unwrap();
    client.push_document(&graph.document, &app).unwrap();
    assert_same(&client.pull(&app, &Platform::host(), &work).unwrap().image, &image);
}
