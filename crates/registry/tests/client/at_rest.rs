//! Layouts and archives of other tools' making, read and pushed.

use std::path::Path;
use std::process::Command;

use zuwai_registry::layout::Layout;
use zuwai_registry::{BlobDir, Compression, Graph, Image, ImageFormat, Platform, RegistryError, archive, layout};

use super::docker_registry::DockerRegistry;
use super::images::{anonymous, assert_same, image, layer, plain, reference, tar};
use super::push::skopeo;

fn run(folder: &Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A layout `layout`, and what skopeo and others make of it.
fn scene(format: ImageFormat) -> (tempfile::TempDir, BlobDir, Image) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let image = image(3, &[1000, 50_000], format, &blobs);
    layout::write(&image, &[reference("registry.example.com/app:1.0")], &folder.path().join("layout")).unwrap();
    (folder, blobs, image)
}

fn same_files(one: &Graph, two: &Image) {
    let one = one.image(&Platform::host(), "graph").unwrap();
    assert_eq!(one.config, {
        let mut config = two.config.clone();
        config.rootfs.diff_ids = two.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        config
    });
    for (one, two) in one.layers.iter().zip(&two.layers) {
        assert_eq!(super::images::read(one).unwrap(), super::images::read(two).unwrap());
    }
}

#[test]
fn an_archive_of_skopeos_is_read_plain_and_compressed_and_from_a_pipe() {
    let (folder, blobs, image) = scene(ImageFormat::Oci);
    // It decompresses the layers, as docker save does.
    run(folder.path(), "skopeo copy oci:layout:1.0 docker-archive:image.tar:registry.example.com/app:1.0");
    run(folder.path(), "gzip -k image.tar; zstd -q image.tar; mkfifo pipe; cp -r blobs before");
    for name in ["image.tar", "image.tar.gz", "image.tar.zst"] {
        let graph = archive::read(&folder.path().join(name), None, &blobs).unwrap();
        same_files(&graph, &image);
        assert!(graph.document.descriptor.media_type.is_docker());
        assert!(
            graph.blobs[1..].iter().all(|blob| blob.descriptor.media_type.compression() == Some(Compression::GZIP))
        );
    }
    let pipe = folder.path().join("pipe");
    let (from, to) = (folder.path().join("image.tar.gz"), pipe.clone());
    let writer = std::thread::spawn(move || std::fs::write(to, std::fs::read(from).unwrap()).unwrap());
    same_files(&archive::read(&pipe, None, &blobs).unwrap(), &image);
    writer.join().unwrap();
}

#[test]
fn an_archive_of_an_oci_layout_keeps_its_manifest() {
    let (folder, blobs, image) = scene(ImageFormat::Oci);
    run(folder.path(), "skopeo copy oci:layout:1.0 oci-archive:image.tar:1.0; tar -czf own.tar.gz -C layout .");
    for name in ["image.tar", "own.tar.gz"] {
        let graph = archive::read(&folder.path().join(name), Some("1.0"), &blobs).unwrap();
        assert_eq!(graph.document.bytes, image.encode().manifest, "{name}");
        same_files(&graph, &image);
    }
}

#[test]
fn an_archive_of_ours_keeps_its_compressed_layers() {
    let (folder, blobs, mut image) = scene(ImageFormat::Docker);
    image.layers.push(layer(&tar("plain", b"p"), Compression::None, ImageFormat::Docker, &blobs));
    let names = ["registry.example.com/app:1.0", "debian:12"].map(reference);
    let path = folder.path().join("image.tar");
    archive::write(&image, &names, &path).unwrap();
    let graph = archive::read(&path, Some("debian:12"), &blobs).unwrap();
    same_files(&graph, &image);
    for (blob, layer) in graph.blobs[1..].iter().zip(&image.layers).take(2) {
        assert_eq!(blob.descriptor.digest, layer.descriptor.digest);
    }
    let error = archive::read(&path, Some("debian:13"), &blobs).unwrap_err().to_string();
    assert!(error.contains("no image `debian:13`") && error.contains("docker.io/library/debian:12"), "{error}");
}

#[test]
fn archives_with_links_between_layers_are_read_as_old_dockers_wrote_them() {
    let (folder, blobs, image) = scene(ImageFormat::Docker);
    run(
        folder.path(),
        "skopeo copy oci:layout docker-archive:image.tar:app:1; mkdir x; tar -xf image.tar -C x; cd x; \
         for layer in $(ls | grep -E '^[0-9a-f]{64}.tar$'); do mkdir ${layer%.tar}; mv $layer ${layer%.tar}/layer.tar; done; \
         mkdir other; first=$(ls -d */ | head -1); mv ${first}layer.tar other/layer.tar; ln -s ../other/layer.tar ${first}layer.tar; \
         sed -i 's#\\([0-9a-f]\\{64\\}\\)\\.tar#\\1/layer.tar#g' manifest.json; tar -cf ../old.tar .",
    );
    same_files(&archive::read(&folder.path().join("old.tar"), None, &blobs).unwrap(), &image);
}

#[test]
fn what_is_read_is_pushed_with_the_same_digest() {
    let (folder, _blobs, image) = scene(ImageFormat::Oci);
    let registry = DockerRegistry::open();
    let client = anonymous(plain(&registry.name()));
    let name = reference(&format!("{}/app:1", registry.name()));
    let graph = Layout::open(folder.path().join("layout")).unwrap().graph(None).unwrap();
    let digest = client.push_graph(&graph, std::slice::from_ref(&name)).unwrap();
    assert_eq!(digest, image.encode().descriptor.digest);
    let work = BlobDir::open(folder.path().join("work")).unwrap();
    assert_same(&client.pull(&name, &Platform::host(), &work).unwrap().image, &image);
    let inspected = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    assert!(inspected.contains(&digest.to_string()), "{inspected}");
}

#[test]
fn a_damaged_blob_of_a_layout_never_reaches_a_registry() {
    let (folder, _blobs, image) = scene(ImageFormat::Oci);
    let layer = &image.layers[1].descriptor;
    let path = folder.path().join("layout/blobs/sha256").join(layer.digest.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let registry = DockerRegistry::open();
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = anonymous(plain(&registry.name()));
    let graph = Layout::open(folder.path().join("layout")).unwrap().graph(None).unwrap();
    let error = client.push_graph(&graph, std::slice::from_ref(&name)).unwrap_err();
    assert!(matches!(error, RegistryError::Io { .. }), "{error}");
    assert!(error.to_string().contains(&layer.digest.to_string()), "{error}");
    assert_eq!(client.digest(&name).unwrap(), None);
    assert!(!client.has_blob(&name, &layer.digest).unwrap());
}

#[test]
fn archives_that_make_no_sense_are_named_with_what_is_wrong() {
    let (folder, blobs, image) = scene(ImageFormat::Docker);
    run(folder.path(), "skopeo copy oci:layout docker-archive:good.tar:app:1; mkdir x; tar -xf good.tar -C x");
    let diff_id = image.layers[0].diff_id.hex();
    for (script, expected) in [
        ("echo hello > bad.tar", "cannot read archive"),
        ("tar -cf bad.tar blobs", "neither `manifest.json`"),
        ("head -c 20000 good.tar > bad.tar", "cannot read archive"),
        ("gzip -c good.tar | head -c 2000 > bad.tar", "cannot read archive"),
        ("cp -r x y; echo '[]' > y/manifest.json; tar -cf bad.tar -C y .", "no image at all"),
        ("cp -r x y; echo '{' > y/manifest.json; tar -cf bad.tar -C y .", "manifest of"),
        ("cp -r x y; sed -i 's/\\[{/[{},{/' y/manifest.json; tar -cf bad.tar -C y .", "manifest of"),
        ("cp -r x y; rm y/*.json; cp x/manifest.json y; tar -cf bad.tar -C y .", "no member"),
        (&format!("cp -r x y; echo x >> y/{diff_id}.tar; tar -cf bad.tar -C y ."), diff_id),
    ] {
        run(folder.path(), &format!("rm -rf y bad.tar; {script}"));
        let error = archive::read(&folder.path().join("bad.tar"), None, &blobs).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error}: {cause}");
        assert!(text.contains(expected) && text.contains("bad.tar"), "{script}: {text}");
    }
}
