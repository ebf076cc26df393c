//! Layouts and archives, read by other tools.

use zuwai_registry::{BlobDir, Compression, ImageFormat, archive, layout};

use super::images::{image, layer, reference, tar};
use super::push::skopeo;

#[test]
fn skopeo_reads_a_layout_of_either_format_with_the_same_digest() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    // skopeo 1.9 finds a Docker manifest in a layout only where no tag is asked for.
    for (format, name, tag) in [(ImageFormat::Oci, "oci", ":1.0"), (ImageFormat::Docker, "docker", "")] {
        let image = image(3, &[1000, 50_000], format, &blobs);
        let dir = folder.path().join(name);
        layout::write(&image, &[reference("registry.example.com/app:1.0")], &dir).unwrap();
        let source = format!("oci:{}{tag}", dir.display());
        let digest = image.encode().descriptor.digest.to_string();
        assert_eq!(skopeo(&["inspect", "--format", "{{.Digest}}", &source]).trim(), digest);
        skopeo(&["copy", &source, &format!("dir:{}", folder.path().join(format!("{name}-copy")).display())]);
    }
}

#[test]
fn skopeo_reads_an_archive_with_every_kind_of_layer() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
    let mut image = image(3, &[1000], ImageFormat::Oci, &blobs);
    image.layers.push(layer(&tar("zstd", b"z"), Compression::ZSTD, ImageFormat::Oci, &blobs));
    image.layers.push(layer(&tar("plain", b"p"), Compression::None, ImageFormat::Oci, &blobs));
    let path = folder.path().join("image.tar");
    archive::write(&image, &[reference("registry.example.com/app:1.0"), reference("debian:12")], &path).unwrap();
    for name in ["registry.example.com/app:1.0", "docker.io/library/debian:12"] {
        let source = format!("docker-archive:{}:{name}", path.display());
        let config = skopeo(&["inspect", "--config", &source]);
        for layer in &image.layers {
            assert!(config.contains(&layer.diff_id.to_string()), "{config}");
        }
        let copy = folder.path().join(name.replace(['/', ':'], "-"));
        skopeo(&["copy", &source, &format!("oci:{}:copy", copy.display())]);
    }
}
