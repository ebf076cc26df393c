//! Writing an archive: `docker load`, `podman load` and skopeo's `docker-archive:` read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;

use crate::client::RegistryError;
use crate::image::{Compression, Encoded, Image, Layer, Reference};
use crate::layout::copy_verified;

/// One image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// A layer as it lies in the archive.
struct Member<'a> {
    name: String,
    layer: &'a Layer,
    plain: bool,
}

/// Writes the image as a `docker save` archive with every reference as a tag. Layers keep their gzip; zstd ones are
/// decompressed, because loaders of this format need not know it. The same image gives the same bytes.
///
/// The file appears whole or not at all, unless it is a pipe or a device: then it is written to as it comes.
pub fn write(image: &Image, references: &[Reference], path: &Path) -> Result<(), RegistryError> {
    write_file(image, references, path)
        .map_err(|source| RegistryError::Io { attempted: format!("cannot write archive {}", path.display()), source })
}

fn write_file(image: &Image, references: &[Reference], path: &Path) -> io::Result<()> {
    let special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    if special {
        let mut out = BufWriter::new(File::options().write(true).open(path)?);
        write_to(image, references, &mut out)?;
        return out.flush();
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".zuwai-archive-").permissions(fs::Permissions::from_mode(0o644));
    let mut out = BufWriter::with_capacity(256 * 1024, builder.tempfile_in(parent)?);
    write_to(image, references, &mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

fn write_to(image: &Image, references: &[Reference], out: &mut dyn Write) -> io::Result<()> {
    let encoded = image.encode();
    let config = format!("{}.json", encoded.config_descriptor.digest.hex());
    write_member(out, &config, encoded.config.len() as u64, &mut encoded.config.as_slice())?;
    let members: Vec<Member<'_>> = image.layers.iter().map(member).collect();
    let mut written = BTreeSet::new();
    for member in &members {
        if written.insert(member.name.as_str()) {
            member.write(out)?;
        }
    }
    let tags: Vec<String> = references.iter().map(Reference::familiar).collect();
    let entry = Entry {
        config,
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: members.iter().map(|member| member.name.clone()).collect(),
    };
    let manifest = serde_json::to_vec(&[entry])?;
    write_member(out, "manifest.json", manifest.len() as u64, &mut manifest.as_slice())?;
    if !references.is_empty() {
        let repositories = serde_json::to_vec(&repositories(&encoded, references))?;
        write_member(out, "repositories", repositories.len() as u64, &mut repositories.as_slice())?;
    }
    out.write_all(&[0; 2 * BLOCK])
}

/// repository → tag → image, as older tools list the content of an archive.
fn repositories(encoded: &Encoded, references: &[Reference]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for reference in references {
        let name = reference.familiar();
        let (repository, tag) = name.rsplit_once(':').expect("a familiar name ends with its tag");
        let id = encoded.config_descriptor.digest.hex().to_owned();
        repositories.entry(repository.to_owned()).or_default().insert(tag.to_owned(), id);
    }
    repositories
}

fn member(layer: &Layer) -> Member<'_> {
    let digest = layer.descriptor.digest.hex();
    match layer.descriptor.media_type.compression() {
        Some(Compression::Zstd { .. }) => Member { name: format!("{}.tar", layer.diff_id.hex()), layer, plain: true },
        Some(Compression::None) => Member { name: format!("{digest}.tar"), layer, plain: false },
        Some(Compression::Gzip { .. }) | None => Member { name: format!("{digest}.tar.gz"), layer, plain: false },
    }
}

impl Member<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.plain {
            // A member's size stands before its bytes: they are counted first.
            let size = io::copy(&mut self.layer.open_tar()?, &mut io::sink())?;
            return write_member(out, &self.name, size, &mut self.layer.open_tar()?);
        }
        let descriptor = &self.layer.descriptor;
        let mut source = self.layer.blob.open()?;
        out.write_all(&header(&self.name, descriptor.size))?;
        copy_verified(descriptor, &mut source, out)?;
        pad(out, descriptor.size)
    }
}

const BLOCK: usize = 512;

fn write_member(out: &mut dyn Write, name: &str, size: u64, source: &mut dyn Read) -> io::Result<()> {
    out.write_all(&header(name, size))?;
    let copied = io::copy(source, out)?;
    if copied != size {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{name} has {copied} bytes in place of {size}"),
        ));
    }
    pad(out, size)
}

fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let rest = usize::try_from(size % BLOCK as u64).expect("it is less than a block");
    if rest == 0 { Ok(()) } else { out.write_all(&[0; BLOCK][rest..]) }
}

/// A ustar header (POSIX.1-1988) of a plain file: root's, readable by all, no time.
fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    assert!(name.len() < 100, "members are named by digests");
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size < 1 << 33 {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        // More than eleven octal digits: GNU's binary form, which every loader reads.
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let checksum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BlobDir;
    use crate::image::{ImageConfig, ImageFormat, LayerWriter};

    fn layer(compression: Compression, blobs: &BlobDir) -> Layer {
        let mut writer = LayerWriter::new(blobs, compression, ImageFormat::Oci).unwrap();
        writer.write_all(&b"not really a tar".repeat(100)).unwrap();
        writer.finish().unwrap()
    }

    fn image(compressions: &[Compression], blobs: &BlobDir) -> Image {
        Image {
            config: ImageConfig::default(),
            layers: compressions.iter().map(|&compression| layer(compression, blobs)).collect(),
            format: ImageFormat::Docker,
            annotations: BTreeMap::new(),
        }
    }

    fn list(path: &Path) -> Vec<String> {
        let output = std::process::Command::new("tar").arg("-tf").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_archive_has_a_config_each_layer_once_and_every_tag() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
        let image = image(&[Compression::GZIP, Compression::GZIP, Compression::None, Compression::ZSTD], &blobs);
        let references = ["debian:12", "example.com:5000/app:1.0"].map(|text| text.parse().unwrap());
        let path = folder.path().join("out/image.tar");
        write(&image, &references, &path).unwrap();
        let config = format!("{}.json", image.encode().config_descriptor.digest.hex());
        let gzip = format!("{}.tar.gz", image.layers[0].descriptor.digest.hex());
        // Not compressed is the same tar as the decompressed one.
        let plain = format!("{}.tar", image.layers[0].diff_id.hex());
        assert_eq!(list(&path), [config.as_str(), &gzip, &plain, "manifest.json", "repositories"]);
        let read = |name: &str| {
            let output = std::process::Command::new("tar").arg("-xOf").arg(&path).arg(name).output().unwrap();
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
        };
        assert_eq!(
            read("manifest.json"),
            serde_json::json!([{
                "Config": config,
                "RepoTags": ["docker.io/library/debian:12", "example.com:5000/app:1.0"],
                "Layers": [gzip, gzip, plain, plain],
            }])
        );
        assert!(read("repositories")["example.com:5000/app"]["1.0"].is_string());
    }

    #[test]
    fn the_same_image_gives_the_same_archive_and_one_that_was_there_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
        let image = image(&[Compression::GZIP], &blobs);
        let (one, two) = (folder.path().join("one.tar"), folder.path().join("two.tar"));
        fs::write(&two, "old").unwrap();
        write(&image, &[], &one).unwrap();
        write(&image, &[], &two).unwrap();
        assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
        assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_layer_that_cannot_be_read_leaves_the_old_archive() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
        let image = image(&[Compression::GZIP], &blobs);
        fs::remove_file(blobs.get(&image.layers[0].descriptor.digest).unwrap()).unwrap();
        let path = folder.path().join("image.tar");
        fs::write(&path, "old").unwrap();
        let error = write(&image, &[], &path).unwrap_err().to_string();
        assert!(error.contains("image.tar"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_pipe_is_written_to_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
        let image = image(&[Compression::GZIP], &blobs);
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read(pipe).unwrap())
        };
        write(&image, &[], &pipe).unwrap();
        let file = folder.path().join("file.tar");
        write(&image, &[], &file).unwrap();
        assert!(reader.join().unwrap() == fs::read(file).unwrap());
    }

    #[test]
    fn a_member_of_more_than_eight_gibibytes_has_a_size_that_tar_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big.tar");
        let mut file = File::create(&path).unwrap();
        let size = (1 << 33) + 5;
        file.write_all(&header("big", size)).unwrap();
        file.set_len(512 + size.next_multiple_of(512) + 1024).unwrap();
        let output = std::process::Command::new("tar").arg("-tvf").arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&size.to_string()), "{text}");
    }
}
