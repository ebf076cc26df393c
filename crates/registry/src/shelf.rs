//! Many images in one folder, each under a tag: an OCI image layout that grows. Several processes may use one at a time,
//! on one machine or through a volume that knows file locks.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blob::{BlobDir, BlobSource, CheckedBlob, FileBlob};
use crate::client::{RegistryError, Stored};
use crate::image::{Descriptor, Digest, Document, Graph, Image, ImageConfig, Index, Layer, Manifest, MediaType};
use crate::layout::{MARKER, MARKER_CONTENT, REF_NAME, copy_blob, copy_verified, graph_of};

/// The file that whoever changes the index holds locked.
const LOCK: &str = ".lock";
/// The file that whoever has the folder open holds a shared lock on: nothing is removed from it that others may be reading.
const IN_USE: &str = ".in-use";

/// No document of an image is longer than this many bytes.
const LONGEST_DOCUMENT: u64 = 16 << 20;

/// A folder of images. What is read from it is verified: a blob whose bytes are not those its name says is as good as not
/// there, and removed. The folder is held open and reached through `/proc/self/fd`, so that it may be called something else
/// meanwhile, as the container's own folders are while an image lies in "/".
#[derive(Debug, Clone)]
pub struct Shelf {
    /// As it was called, for messages.
    folder: PathBuf,
    held: Arc<File>,
    /// Where it is whatever it is called.
    place: PathBuf,
    blobs: BlobDir,
    in_use: Arc<File>,
}

/// A blob that keeps the folder open which it lies in.
struct Held<B> {
    blob: B,
    _folder: Arc<File>,
}

impl<B: BlobSource> BlobSource for Held<B> {
    fn open(&self) -> io::Result<Box<dyn io::Read + Send>> {
        self.blob.open()
    }
}

impl Shelf {
    /// Opens the folder, making it where it is missing.
    pub fn open(folder: &Path) -> Result<Shelf, RegistryError> {
        let open = || -> io::Result<Shelf> {
            fs::create_dir_all(folder)?;
            let held = Arc::new(File::open(folder)?);
            let place = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
            let blobs = BlobDir::open(place.join("blobs"))?;
            let in_use = Arc::new(lock_file(&place, IN_USE)?);
            in_use.lock_shared()?;
            let shelf = Shelf { folder: folder.to_owned(), held, place, blobs, in_use };
            if !shelf.place.join(MARKER).is_file() {
                shelf.replace(MARKER, MARKER_CONTENT.as_bytes())?;
            }
            Ok(shelf)
        };
        open().map_err(|source| failed(folder, source))
    }

    /// The folder, as it was called when it was opened.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is kept under each of these tags, in their order; `None` where there is no such tag, or a part of it is missing
    /// or damaged.
    pub fn stored(&self, tags: &[String]) -> Result<Vec<Option<Stored>>, RegistryError> {
        let index = self.index().map_err(|source| failed(&self.folder, source))?;
        let find =
            |tag: &String| index.manifests.iter().rev().find(|found| found.annotations.get(REF_NAME) == Some(tag));
        Ok(tags.iter().map(|tag| find(tag).and_then(|descriptor| self.whole(descriptor))).collect())
    }

    /// The layer of a manifest that [`Shelf::stored`] found.
    pub fn layer(&self, descriptor: &Descriptor, diff_id: &Digest) -> Layer {
        let path = self.place.join("blobs").join(descriptor.digest.algorithm().as_str()).join(descriptor.digest.hex());
        Layer {
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            blob: Arc::new(Held { blob: FileBlob::new(path), _folder: Arc::clone(&self.held) }),
            origin: None,
        }
    }

    /// The config of a manifest that [`Shelf::stored`] found.
    pub fn config(&self, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        let read = || serde_json::from_slice(&self.document(&manifest.config)?).map_err(io::Error::from);
        read().map_err(|source| failed(&self.folder, source))
    }

    /// Keeps an image under a tag, in place of what was there under it. Its documents keep the bytes a registry would get.
    pub fn put(&self, tag: &str, image: &Image) -> Result<(), RegistryError> {
        let put = || -> io::Result<()> {
            let encoded = image.encode();
            for layer in &image.layers {
                if self.blobs.get(&layer.descriptor.digest).is_none() {
                    copy_blob(&layer.descriptor, layer.blob.open()?, &self.blobs)?;
                }
            }
            copy_blob(&encoded.config_descriptor, Box::new(encoded.config.as_slice()), &self.blobs)?;
            copy_blob(&encoded.descriptor, Box::new(encoded.manifest.as_slice()), &self.blobs)?;
            self.point(&[tag.to_owned()], &encoded.descriptor)
        };
        put().map_err(|source| failed(&self.folder, source))
    }

    /// Where its blobs are: a client may be told to fetch into it.
    pub fn blobs(&self) -> &BlobDir {
        &self.blobs
    }

    /// Keeps the manifest of a graph with all that it refers to, byte for byte, under these tags. What is here and whole is
    /// not fetched again; the graph's blobs are best those that are fetched into [`Shelf::blobs`].
    pub fn keep(&self, tags: &[String], graph: &Graph) -> Result<(), RegistryError> {
        let keep = || -> io::Result<()> {
            for blob in graph.all_blobs() {
                if self.check(&blob.descriptor) {
                    continue;
                }
                let reader = blob.source.open()?;
                if self.blobs.get(&blob.descriptor.digest).is_none() {
                    copy_blob(&blob.descriptor, reader, &self.blobs)?;
                }
            }
            self.keep_document(&graph.document)?;
            self.point(tags, &graph.document.descriptor)
        };
        keep().map_err(|source| failed(&self.folder, source))
    }

    /// Keeps a manifest or an index by its digest alone.
    pub fn keep_document(&self, document: &Document) -> io::Result<()> {
        copy_blob(&document.descriptor, Box::new(document.bytes.as_slice()), &self.blobs)
    }

    /// A document that was kept so, verified; `None` where it is not.
    pub fn document_of(&self, digest: &Digest) -> Option<Vec<u8>> {
        let size = fs::metadata(self.blobs.get(digest)?).ok()?.len();
        self.document(&Descriptor::new(MediaType::new(""), digest.clone(), size)).ok()
    }

    /// What [`Shelf::keep`] kept under a tag. Documents are verified now, blobs when they are read.
    pub fn graph(&self, tag: &str) -> Result<Option<Graph>, RegistryError> {
        let index = self.index().map_err(|source| failed(&self.folder, source))?;
        let named = |kept: &&Descriptor| kept.annotations.get(REF_NAME).map(String::as_str) == Some(tag);
        let Some(descriptor) = index.manifests.iter().rev().find(named) else { return Ok(None) };
        let blob = |descriptor: &Descriptor| -> Result<Arc<dyn BlobSource>, RegistryError> {
            let digest = &descriptor.digest;
            let path = self.place.join("blobs").join(digest.algorithm().as_str()).join(digest.hex());
            let blob = CheckedBlob::file(path, descriptor);
            Ok(Arc::new(Held { blob, _folder: Arc::clone(&self.held) }))
        };
        graph_of(descriptor, &self.folder.display().to_string(), &blob).map(Some)
    }

    /// Removes what is not to stay: the tags of which `stays` says so, given their names and manifests, and then every blob
    /// that no tag needs any more. Nothing happens while somebody else has the folder open, or where it holds images that
    /// are not known here, such as indexes of several.
    pub fn prune(&self, stays: impl Fn(&str, &Manifest) -> bool) -> Result<(), RegistryError> {
        let prune = || -> io::Result<()> {
            if self.in_use.try_lock().is_err() {
                return self.in_use.lock_shared();
            }
            let removed = self.remove_but(&stays);
            self.in_use.lock_shared()?;
            removed
        };
        prune().map_err(|source| failed(&self.folder, source))
    }

    /// The same, where nobody else is.
    fn remove_but(&self, stays: &dyn Fn(&str, &Manifest) -> bool) -> io::Result<()> {
        let lock = lock_file(&self.place, LOCK)?;
        lock.lock()?;
        let mut index = self.index()?;
        let (mut needed, mut kept) = (HashSet::new(), Vec::new());
        for descriptor in index.manifests {
            let Ok(bytes) = self.document(&descriptor) else { continue };
            let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(()) };
            let tag = descriptor.annotations.get(REF_NAME).map_or("", String::as_str);
            if stays(tag, &manifest) {
                needed
                    .extend(manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest.hex().to_owned()));
                needed.insert(descriptor.digest.hex().to_owned());
                kept.push(descriptor);
            }
        }
        index.manifests = kept;
        self.replace("index.json", &serde_json::to_vec(&index)?)?;
        for folder in fs::read_dir(self.place.join("blobs"))? {
            let folder = folder?.path();
            // What was being written when somebody was killed.
            let files =
                if folder.is_dir() { fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()? } else { Vec::new() };
            let unneeded =
                files.iter().filter(|file| file.file_name().to_str().is_none_or(|name| !needed.contains(name)));
            unneeded
                .map(fs::DirEntry::path)
                .chain((!folder.is_dir()).then_some(folder))
                .try_for_each(fs::remove_file)?;
        }
        Ok(())
    }

    /// Points tags to a manifest that is here.
    fn point(&self, tags: &[String], descriptor: &Descriptor) -> io::Result<()> {
        let lock = lock_file(&self.place, LOCK)?;
        lock.lock()?;
        let mut index = self.index()?;
        index.manifests.retain(|kept| kept.annotations.get(REF_NAME).is_none_or(|name| !tags.contains(name)));
        for tag in tags {
            let mut descriptor = descriptor.clone();
            descriptor.annotations.insert(REF_NAME.to_owned(), tag.clone());
            index.manifests.push(descriptor);
        }
        self.replace("index.json", &serde_json::to_vec(&index)?)
    }

    /// The manifest, if all that it names is here and whole.
    fn whole(&self, descriptor: &Descriptor) -> Option<Stored> {
        let bytes = self.document(descriptor).ok()?;
        let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        // All of them, so that everything that is damaged is gone at once.
        let whole: Vec<bool> = blobs.map(|blob| self.check(blob)).collect();
        whole.into_iter().all(|whole| whole).then(|| Stored { manifest, digest: descriptor.digest.clone() })
    }

    /// Whether the blob is here with the bytes its name says. One with other bytes is removed, so that it can come anew.
    fn check(&self, descriptor: &Descriptor) -> bool {
        let Some(path) = self.blobs.get(&descriptor.digest) else { return false };
        let verified = File::open(&path).and_then(|mut file| copy_verified(descriptor, &mut file, &mut io::sink()));
        if matches!(&verified, Err(error) if error.kind() == io::ErrorKind::InvalidData) {
            let _ = fs::remove_file(&path);
        }
        verified.is_ok()
    }

    fn document(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("blob {} is missing", descriptor.digest));
        let path = self.blobs.get(&descriptor.digest).ok_or_else(missing)?;
        if descriptor.size > LONGEST_DOCUMENT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the document is too long"));
        }
        let mut bytes = Vec::new();
        copy_verified(descriptor, &mut File::open(path)?.take(LONGEST_DOCUMENT + 1), &mut bytes)?;
        Ok(bytes)
    }

    /// A folder without an index has no images yet.
    fn index(&self) -> io::Result<Index> {
        match fs::read(self.place.join("index.json")) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index {
                schema_version: 2,
                media_type: Some(MediaType::OCI_INDEX),
                manifests: Vec::new(),
                annotations: std::collections::BTreeMap::new(),
                extra: std::collections::BTreeMap::new(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Writes a file of the folder whole.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::PermissionsExt as _;
        let mut file = tempfile::Builder::new().prefix(".unfinished-").tempfile_in(&self.place)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(self.place.join(name)).map(drop).map_err(|failed| failed.error)
    }
}

fn lock_file(folder: &Path, name: &str) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(folder.join(name))
}

fn failed(folder: &Path, source: io::Error) -> RegistryError {
    RegistryError::Io { attempted: format!("use the OCI layout {}", folder.display()), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sample::image;

    #[test]
    fn images_are_found_under_their_tags_by_whoever_opens_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("work")).unwrap();
        let shelf = Shelf::open(&folder.path().join("shelf")).unwrap();
        let (one, two) = (image(b"one", &blobs), image(b"two", &blobs));
        shelf.put("a", &one).unwrap();
        shelf.put("b", &two).unwrap();
        shelf.put("a", &two).unwrap();
        let found = Shelf::open(shelf.folder()).unwrap().stored(&["b", "c", "a"].map(str::to_owned)).unwrap();
        let digests: Vec<_> = found.iter().map(|found| found.as_ref().map(|stored| stored.digest.clone())).collect();
        let digest = two.encode().descriptor.digest;
        assert_eq!(digests, [Some(digest.clone()), None, Some(digest)]);
        let manifest = &found[0].as_ref().unwrap().manifest;
        let layer = shelf.layer(&manifest.layers[0], &two.layers[0].diff_id);
        let mut read = Vec::new();
        layer.open_tar().unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, b"two");
        assert_eq!(shelf.config(manifest).unwrap().platform(), crate::image::Platform::host());
    }

    #[test]
    fn a_damaged_layer_is_not_found_and_can_be_kept_again() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("work")).unwrap();
        let shelf = Shelf::open(&folder.path().join("shelf")).unwrap();
        let image = image(b"one", &blobs);
        shelf.put("a", &image).unwrap();
        let path = shelf.blobs.get(&image.layers[0].descriptor.digest).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[12] ^= 1;
        fs::write(&path, bytes).unwrap();
        let tags = ["a".to_owned()];
        assert!(shelf.stored(&tags).unwrap()[0].is_none());
        shelf.put("a", &image).unwrap();
        assert!(shelf.stored(&tags).unwrap()[0].is_some());
    }

    #[test]
    fn what_is_not_to_stay_is_removed_with_its_blobs_unless_somebody_else_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("work")).unwrap();
        let shelf = Shelf::open(&folder.path().join("shelf")).unwrap();
        let (one, two) = (image(b"one", &blobs), image(b"two", &blobs));
        shelf.put("a", &one).unwrap();
        shelf.put("b", &two).unwrap();
        // Its manifest of before is nobody's any more.
        shelf.put("a", &Image { annotations: [("x".to_owned(), "y".to_owned())].into(), ..one.clone() }).unwrap();
        let count = || fs::read_dir(folder.path().join("shelf/blobs/sha256")).unwrap().count();
        let there =
            || shelf.stored(&["a", "b"].map(str::to_owned)).unwrap().iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!(count(), 7);
        let other = Shelf::open(shelf.folder()).unwrap();
        shelf.prune(|tag, _| tag == "b").unwrap();
        assert_eq!((count(), there()), (7, vec![true, true]), "another one has it open");
        drop(other);
        shelf.prune(|_, _| true).unwrap();
        assert_eq!((count(), there()), (6, vec![true, true]));
        shelf.prune(|tag, _| tag == "b").unwrap();
        assert_eq!((count(), there()), (3, vec![false, true]));
        shelf.put("a", &one).unwrap();
        assert_eq!(there(), [true, true]);
    }

    #[test]
    fn nobody_loses_a_tag_when_several_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("work")).unwrap();
        let shelf = Shelf::open(&folder.path().join("shelf")).unwrap();
        let image = image(b"one", &blobs);
        let tags: Vec<String> = (0..24).map(|number| format!("tag-{number}")).collect();
        std::thread::scope(|scope| {
            for some in tags.chunks(6) {
                let (shelf, image) = (shelf.clone(), image.clone());
                scope.spawn(move || some.iter().for_each(|tag| shelf.put(tag, &image).unwrap()));
            }
        });
        assert!(shelf.stored(&tags).unwrap().iter().all(Option::is_some));
    }
}
