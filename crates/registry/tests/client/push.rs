//! Pushing to a real registry, and what other tools make of it.

use std::process::Command;

use zuwai_registry::{BlobDir, ClientOptions, Compression, Image, ImageFormat, Platform, RegistryError};

use super::docker_registry::DockerRegistry;
use super::images::{anonymous, assert_same, image, impatient, layer, plain, reference, tar};

/// What skopeo prints, or its error.
pub(crate) fn skopeo(arguments: &[&str]) -> String {
    let output =
        Command::new("skopeo").args(arguments).output().expect("skopeo (Debian package skopeo) must be installed");
    assert!(output.status.success(), "skopeo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_pushed_is_pulled_the_same_in_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path().join("push")).unwrap();
    for format in [ImageFormat::Docker, ImageFormat::Oci] {
        let client = anonymous(plain(&registry.name()));
        let name = reference(&format!(
            "{}/team/app:{}",
            registry.name(),
            if format == ImageFormat::Oci { "oci" } else { "docker" }
        ));
        let pushed = image(7, &[0, 1, 100_000, 3_000_000], format, &blobs);
        let digest = client.push(&pushed, std::slice::from_ref(&name)).unwrap();
        let target = BlobDir::open(folder.path().join(name.tag().unwrap())).unwrap();
        let pulled = client.pull(&name, &Platform::host(), &target).unwrap();
        assert_eq!(pulled.digest, digest);
        assert_eq!(pulled.image.format, format);
        assert_same(&pushed, &pulled.image);
        assert_eq!(client.digest(&name).unwrap(), Some(digest.clone()));

        let by_digest = client.pull(&name.with_digest(digest.clone()), &Platform::host(), &target).unwrap();
        assert_eq!(by_digest.digest, digest);

        let inspected = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]);
        assert!(inspected.contains(&digest.to_string()), "{inspected}");
        let to = folder.path().join("copy").join(name.tag().unwrap());
        std::fs::create_dir_all(&to).unwrap();
        skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{name}"), &format!("dir:{}", to.display())]);
    }
}

#[test]
fn an_image_that_is_there_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let name = reference(&format!("{}/app:1", registry.name()));
    let image = image(1, &[1000, 2000, 3000], ImageFormat::Oci, &blobs);
    anonymous(plain(&registry.name())).push(&image, std::slice::from_ref(&name)).unwrap();
    assert_eq!(registry.count("PUT", "/blobs/uploads/"), 4);
    anonymous(plain(&registry.name())).push(&image, &[name]).unwrap();
    assert_eq!(registry.count("PUT", "/blobs/uploads/"), 4, "{:#?}", registry.requests());
    assert_eq!(registry.count("POST", "/blobs/uploads/"), 4);
    assert_eq!(registry.count("PUT", "/manifests/1"), 2);
}

#[test]
fn several_destinations_get_the_same_digest_and_share_the_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let image = image(1, &[1000, 2000], ImageFormat::Docker, &blobs);
    let names = ["one:1", "one:2", "two:1"].map(|name| reference(&format!("{}/{name}", registry.name())));
    let client = anonymous(plain(&registry.name()));
    let digest = client.push(&image, &names).unwrap();
    for name in &names {
        assert_eq!(client.digest(name).unwrap(), Some(digest.clone()));
    }
    assert_eq!(registry.count("PUT", "/blobs/uploads/"), 3, "{:#?}", registry.requests());
    assert_eq!(registry.count("POST", "/v2/two/blobs/uploads/?mount="), 3);
    assert_eq!(registry.count("HEAD", "/v2/one/blobs/"), 3, "asked again for the second tag");
}

#[test]
fn a_layer_of_a_pulled_base_is_mounted_and_never_downloaded() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path().join("one")).unwrap();
    let base = reference(&format!("{}/library/base:1", registry.name()));
    anonymous(plain(&registry.name()))
        .push(&image(1, &[50_000], ImageFormat::Oci, &blobs), std::slice::from_ref(&base))
        .unwrap();

    let client = anonymous(plain(&registry.name()));
    let work = BlobDir::open(folder.path().join("two")).unwrap();
    let mut built: Image = client.pull(&base, &Platform::host(), &work).unwrap().image;
    built.layers.push(layer(&tar("new", b"new"), Compression::GZIP, ImageFormat::Oci, &work));
    let sent = registry.count("PUT", "/blobs/uploads/");
    let name = reference(&format!("{}/app:1", registry.name()));
    client.push(&built, std::slice::from_ref(&name)).unwrap();
    assert_eq!(registry.count("PUT", "/blobs/uploads/"), sent + 2, "the new layer and the config");
    let digest = built.layers[0].descriptor.digest.clone();
    assert_eq!(registry.count("GET", &format!("/blobs/{digest}")), 0);
    let check = BlobDir::open(folder.path().join("three")).unwrap();
    assert_same(&client.pull(&name, &Platform::host(), &check).unwrap().image, &built);
}

#[test]
fn a_layer_from_another_registry_is_fetched_and_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (DockerRegistry::open(), DockerRegistry::open());
    let blobs = BlobDir::open(folder.path().join("one")).unwrap();
    let base = reference(&format!("{}/base:1", from.name()));
    let options = ClientOptions { insecure_registries: vec![from.name(), to.name()], ..impatient() };
    let client = anonymous(options);
    client.push(&image(1, &[50_000, 60_000], ImageFormat::Docker, &blobs), std::slice::from_ref(&base)).unwrap();
    let work = BlobDir::open(folder.path().join("two")).unwrap();
    let pulled = client.pull(&base, &Platform::host(), &work).unwrap();
    let name = reference(&format!("{}/copy:1", to.name()));
    assert_eq!(client.push(&pulled.image, std::slice::from_ref(&name)).unwrap(), pulled.digest);
    let check = BlobDir::open(folder.path().join("three")).unwrap();
    assert_same(&client.pull(&name, &Platform::host(), &check).unwrap().image, &pulled.image);
}

#[test]
fn a_layer_pushed_ahead_is_not_sent_by_the_push() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let image = image(1, &[2_000_000], ImageFormat::Oci, &blobs);
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = anonymous(plain(&registry.name()));
    client.push_ahead(&image.layers[0], std::slice::from_ref(&name));
    client.push(&image, &[name]).unwrap();
    assert_eq!(registry.count("PUT", "/blobs/uploads/"), 2, "{:#?}", registry.requests());
}

#[test]
fn the_permission_to_push_is_asked_for_and_leaves_nothing_behind() {
    let registry = DockerRegistry::open();
    let name = reference(&format!("{}/app:1", registry.name()));
    anonymous(plain(&registry.name())).check_push(&name).unwrap();
    assert_eq!(registry.count("POST", "/v2/app/blobs/uploads/ 202"), 1, "{:#?}", registry.requests());
    assert_eq!(registry.count("DELETE", "/v2/app/blobs/uploads/"), 1);
}

#[test]
fn zstd_layers_are_pushed_and_read_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let mut zstd = image(1, &[], ImageFormat::Oci, &blobs);
    zstd.layers.push(layer(&tar("a", &vec![7; 300_000]), Compression::ZSTD, ImageFormat::Oci, &blobs));
    zstd.layers.push(layer(&tar("b", b"b"), Compression::None, ImageFormat::Oci, &blobs));
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = anonymous(plain(&registry.name()));
    client.push(&zstd, std::slice::from_ref(&name)).unwrap();
    let check = BlobDir::open(folder.path().join("check")).unwrap();
    assert_same(&client.pull(&name, &Platform::host(), &check).unwrap().image, &zstd);
    let to = folder.path().join("copy");
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{name}"), &format!("oci:{}:1", to.display())]);
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = reference(&format!("127.0.0.1:{port}/app:1"));
    let error =
        anonymous(impatient()).push(&image(1, &[], ImageFormat::Oci, &blobs), std::slice::from_ref(&name)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("cannot reach https://127.0.0.1:{port}")) && text.contains("refused"), "{text}");
    assert!(error.hint().is_some());
    let name = reference("registry.invalid/app:1");
    let error = anonymous(impatient()).check_push(&name).unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }));
    assert!(error.to_string().contains("registry.invalid"), "{error}");
}

#[test]
fn a_missing_layer_file_is_an_error_and_moves_no_tag() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::open();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let image = image(1, &[1000, 2000], ImageFormat::Oci, &blobs);
    std::fs::remove_file(blobs.get(&image.layers[1].descriptor.digest).unwrap()).unwrap();
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = anonymous(plain(&registry.name()));
    let error = client.push(&image, std::slice::from_ref(&name)).unwrap_err();
    assert!(matches!(error, RegistryError::Io { .. }), "{error}");
    assert!(error.to_string().contains(&image.layers[1].descriptor.digest.to_string()), "{error}");
    assert_eq!(client.digest(&name).unwrap(), None);
}
