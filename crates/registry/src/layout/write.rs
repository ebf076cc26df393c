//! Writing a layout.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{FULL_NAME, MARKER, REF_NAME};
use crate::blob::BlobDir;
use crate::client::RegistryError;
use crate::image::{Descriptor, Encoded, Hasher, Image, Index, MediaType, Reference};

/// What the marker says.
pub(crate) const MARKER_CONTENT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes the image as an OCI layout whose index lists it alone, under the first reference's tag: tools that take a
/// layout without asking which image expect exactly one. The documents keep the bytes a registry would get, so the digest
/// is the same.
///
/// A folder that is not there yet appears whole or not at all. One that is there is filled, its index replaced last, and
/// blobs of the layout it was before are removed; its other files are left alone. Blobs are checked as they are copied.
pub fn write(image: &Image, references: &[Reference], dir: &Path) -> Result<(), RegistryError> {
    let encoded = image.encode();
    let result =
        if dir.is_dir() { fill(image, &encoded, references, dir) } else { create(image, &encoded, references, dir) };
    result
        .map_err(|source| RegistryError::Io { attempted: format!("cannot write OCI layout {}", dir.display()), source })
}

fn create(image: &Image, encoded: &Encoded, references: &[Reference], dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let staging = tempfile::Builder::new().prefix(".zuwai-layout-").tempdir_in(parent)?;
    write_blobs(image, encoded, staging.path())?;
    write_documents(encoded, references, staging.path())?;
    fs::set_permissions(staging.path(), fs::Permissions::from_mode(0o755))?;
    fs::rename(staging.path(), dir)?;
    // It has another name now: there is nothing to remove.
    let _ = staging.keep();
    Ok(())
}

fn fill(image: &Image, encoded: &Encoded, references: &[Reference], dir: &Path) -> io::Result<()> {
    let was_a_layout = dir.join(MARKER).is_file();
    let staging = tempfile::Builder::new().prefix(".zuwai-layout-").tempdir_in(dir)?;
    let blobs = write_blobs(image, encoded, staging.path())?;
    write_documents(encoded, references, staging.path())?;
    for blob in &blobs {
        let place = dir.join(blob);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(staging.path().join(blob), place)?;
    }
    // The index is what makes the blobs an image.
    for document in [MARKER, "index.json"] {
        fs::rename(staging.path().join(document), dir.join(document))?;
    }
    if was_a_layout {
        remove_other_blobs(dir, &blobs)?;
    }
    Ok(())
}

/// Blobs of an image that is not in the index any more.
fn remove_other_blobs(dir: &Path, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
    let folder = dir.join("blobs/sha256");
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name();
        let is_digest =
            name.to_str().is_some_and(|name| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_digest && !wanted.contains(&Path::new("blobs/sha256").join(&name)) {
            fs::remove_file(folder.join(&name))?;
        }
    }
    Ok(())
}

/// Copies every blob into `blobs/`, and says where they are.
fn write_blobs(image: &Image, encoded: &Encoded, root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let blobs = BlobDir::open(root.join("blobs"))?;
    let mut written = BTreeSet::new();
    let mut keep = |descriptor: &Descriptor| {
        let digest = &descriptor.digest;
        written.insert(Path::new("blobs").join(digest.algorithm().as_str()).join(digest.hex()))
    };
    for layer in &image.layers {
        if keep(&layer.descriptor) {
            copy_blob(&layer.descriptor, layer.blob.open()?, &blobs)?;
        }
    }
    for (descriptor, bytes) in [(&encoded.config_descriptor, &encoded.config), (&encoded.descriptor, &encoded.manifest)]
    {
        if keep(descriptor) {
            copy_blob(descriptor, Box::new(bytes.as_slice()), &blobs)?;
        }
    }
    Ok(written)
}

pub(crate) fn copy_blob(descriptor: &Descriptor, mut source: Box<dyn Read + '_>, blobs: &BlobDir) -> io::Result<()> {
    let mut file = blobs.create()?;
    file.set_mode(0o644)?;
    copy_verified(descriptor, &mut source, &mut file)?;
    file.keep(&descriptor.digest).map(drop)
}

/// Copies exactly the bytes the descriptor names, or fails.
pub(crate) fn copy_verified(descriptor: &Descriptor, source: &mut dyn Read, target: &mut dyn Write) -> io::Result<()> {
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    let mut buffer = vec![0; 256 * 1024];
    let mut left = descriptor.size;
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let digest = &descriptor.digest;
        let too_long = || {
            io::Error::new(io::ErrorKind::InvalidData, format!("blob {digest} has more bytes than its descriptor says"))
        };
        left = left.checked_sub(count as u64).ok_or_else(too_long)?;
        hasher.update(&buffer[..count]);
        target.write_all(&buffer[..count])?;
    }
    let got = hasher.finish();
    if got != descriptor.digest {
        let message = format!("blob {} has other bytes: got {got}", descriptor.digest);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(())
}

fn write_documents(encoded: &Encoded, references: &[Reference], root: &Path) -> io::Result<()> {
    let mut descriptor = encoded.descriptor.clone();
    if let Some(reference) = references.first() {
        if reference.digest().is_none() || reference.tag().is_some() {
            descriptor.annotations.insert(REF_NAME.to_owned(), reference.tag_or_latest().to_owned());
        }
        descriptor.annotations.insert(FULL_NAME.to_owned(), reference.familiar());
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OCI_INDEX),
        manifests: vec![descriptor],
        annotations: BTreeMap::new(),
        extra: BTreeMap::new(),
    };
    fs::write(root.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(root.join(MARKER), MARKER_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BytesBlob;
    use crate::image::sample::image;
    use crate::image::{Digest, Layer};
    use std::sync::Arc;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_layout_lists_the_image_alone_under_its_first_tag() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("work")).unwrap();
        let image = image(b"one", &blobs);
        let references = ["example.com/app:1.0", "example.com/app:2.0"].map(|text| text.parse().unwrap());
        let dir = folder.path().join("deep/layout");
        write(&image, &references, &dir).unwrap();
        assert_eq!(names(&dir), ["blobs", "index.json", "oci-layout"]);
        assert_eq!(names(&folder.path().join("deep")), ["layout"]);
        let index: Index = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
        assert_eq!(index.manifests.len(), 1);
        assert_eq!(index.manifests[0].digest, image.encode().descriptor.digest);
        assert_eq!(index.manifests[0].annotations[REF_NAME], "1.0");
        assert_eq!(names(&dir.join("blobs/sha256")).len(), 3);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o755);
        for blob in names(&dir.join("blobs/sha256")) {
            let path = dir.join("blobs/sha256").join(&blob);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
            assert_eq!(Digest::of(&fs::read(path).unwrap()).hex(), blob);
        }
    }

    #[test]
    fn writing_again_replaces_the_image_and_leaves_other_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("work")).unwrap();
        let dir = folder.path().join("layout");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("notes"), "mine").unwrap();
        write(&image(b"one", &blobs), &[], &dir).unwrap();
        let second = image(b"two", &blobs);
        write(&second, &[], &dir).unwrap();
        assert_eq!(names(&dir), ["blobs", "index.json", "notes", "oci-layout"]);
        let mut expected: Vec<String> = vec![
            second.layers[0].descriptor.digest.hex().to_owned(),
            second.encode().config_descriptor.digest.hex().to_owned(),
            second.encode().descriptor.digest.hex().to_owned(),
        ];
        expected.sort();
        assert_eq!(names(&dir.join("blobs/sha256")), expected);
    }

    #[test]
    fn a_layer_that_cannot_be_read_leaves_no_layout() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("work")).unwrap();
        let mut image = image(b"one", &blobs);
        image.layers.push(Layer { blob: Arc::new(BytesBlob::new(b"other".to_vec())), ..image.layers[0].clone() });
        image.layers[1].descriptor.digest = Digest::of(b"what it should be");
        let dir = folder.path().join("layout");
        let error = write(&image, &[], &dir).unwrap_err();
        assert!(error.to_string().contains("layout"), "{error}");
        assert!(!dir.exists());
        assert_eq!(names(folder.path()), ["work"]);
    }
}
