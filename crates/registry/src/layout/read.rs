//! Reading a layout: which image is meant, and where its bytes are.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FULL_NAME, MARKER, REF_NAME};
use crate::blob::{BlobSource, CheckedBlob};
use crate::client::RegistryError;
use crate::image::{
    Blob, DEEPEST_INDEX, Descriptor, Digest, Document, DocumentBudget, Graph, Index, LARGEST_MANIFEST, Parts,
};

/// A folder in OCI image layout, opened to be read. Blobs are checked each time they are read.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
    /// The same, held open: it may be moved before its blobs are read.
    open: Arc<File>,
    index: Index,
    /// Whether blobs are opened as soon as they are known of.
    holds: bool,
}

/// An image among several, and what it is called: tags or full names.
pub(crate) struct Named<T> {
    pub(crate) names: Vec<String>,
    pub(crate) image: T,
}

impl Layout {
    /// Opens the folder and reads its index.
    pub fn open(dir: impl AsRef<Path>) -> Result<Layout, RegistryError> {
        let dir = dir.as_ref().to_owned();
        let name = dir.display().to_string();
        if !dir.join(MARKER).is_file() {
            let reason = format!("it is no OCI layout, for it has no file `{MARKER}`");
            return Err(RegistryError::NotAnImage { reference: name, reason });
        }
        let path = dir.join("index.json");
        let bytes = File::open(&path)
            .and_then(|file| read_at_most(file, LARGEST_MANIFEST))
            .map_err(|source| RegistryError::Io { attempted: format!("cannot read {}", path.display()), source })?
            .ok_or_else(|| RegistryError::TooLarge {
                what: "index",
                reference: name.clone(),
                limit: LARGEST_MANIFEST,
            })?;
        let index = serde_json::from_slice(&bytes).map_err(|source| RegistryError::Document {
            what: "index",
            reference: name,
            source,
        })?;
        let open = File::open(&dir)
            .map_err(|source| RegistryError::Io { attempted: format!("cannot open {}", dir.display()), source })?;
        Ok(Layout { dir, open: Arc::new(open), index, holds: false })
    }

    /// The blobs of its images are opened when their documents are read, and not when they are: for who takes the folder apart in
    /// between. Those of a large index are many open files.
    #[must_use]
    pub fn held(self) -> Layout {
        Layout { holds: true, ..self }
    }

    /// What its index lists, as it stands there.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.index.manifests
    }

    /// The image of this tag or full name; without one, the only image there is. Documents are read now and keep their
    /// bytes; blobs are read when they are opened.
    pub fn graph(&self, name: Option<&str>) -> Result<Graph, RegistryError> {
        let listed = self.index.manifests.iter().map(|descriptor| Named {
            names: [REF_NAME, FULL_NAME].iter().filter_map(|key| descriptor.annotations.get(*key).cloned()).collect(),
            image: descriptor,
        });
        let place = self.dir.display().to_string();
        self.graph_below(pick(listed.collect(), name, &place)?)
    }

    /// The same of the manifest or the index with this digest, which the layout's index lists.
    pub fn graph_of(&self, digest: &Digest) -> Result<Graph, RegistryError> {
        let listed = self.index.manifests.iter().find(|descriptor| descriptor.digest == *digest);
        self.graph_below(listed.ok_or_else(|| {
            let known: Vec<String> = self.index.manifests.iter().map(|listed| listed.digest.to_string()).collect();
            RegistryError::NotAnImage {
                reference: self.dir.display().to_string(),
                reason: format!("its index does not list {digest}, but {}", known.join(", ")),
            }
        })?)
    }

    fn graph_below(&self, descriptor: &Descriptor) -> Result<Graph, RegistryError> {
        let place = self.dir.display().to_string();
        let blob = |descriptor: &Descriptor| -> Result<Arc<dyn BlobSource>, RegistryError> {
            let digest = &descriptor.digest;
            let name = Path::new("blobs").join(digest.algorithm().as_str()).join(digest.hex());
            let blob = CheckedBlob::within(Arc::clone(&self.open), &self.dir, &name, descriptor);
            Ok(Arc::new(if self.holds { blob.held() } else { blob }))
        };
        graph_of(descriptor, &place, &blob)
    }
}

/// The image that is meant: the one of this name, or the only one.
pub(crate) fn pick<T>(mut images: Vec<Named<T>>, name: Option<&str>, place: &str) -> Result<T, RegistryError> {
    let known: Vec<String> = images.iter().flat_map(|image| image.names.clone()).collect();
    let error = |reason: String| Err(RegistryError::NotAnImage { reference: place.to_owned(), reason });
    let known = if known.is_empty() { "none has a name".to_owned() } else { known.join(", ") };
    match name {
        Some(name) => {
            let is_it = |known: &String| known == name || familiar(known) == familiar(name);
            match images.iter().position(|image| image.names.iter().any(is_it)) {
                Some(at) => Ok(images.swap_remove(at).image),
                None => error(format!("it has no image `{name}`; there is: {known}")),
            }
        }
        None if images.len() > 1 => {
            error(format!("it has {} images, and one must be chosen; there is: {known}", images.len()))
        }
        None => match images.pop() {
            Some(image) => Ok(image.image),
            None => error("it has no image at all".to_owned()),
        },
    }
}

/// A name as it is compared: archives hold `app:1` and `docker.io/library/app:1` alike.
fn familiar(name: &str) -> String {
    name.parse::<crate::image::Reference>().map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// Where the bytes of a blob are.
pub(crate) type FindBlob<'a> = &'a dyn Fn(&Descriptor) -> Result<Arc<dyn BlobSource>, RegistryError>;

/// A document and all it refers to, from wherever `blob` finds bytes. `place` is for errors.
pub(crate) fn graph_of(descriptor: &Descriptor, place: &str, blob: FindBlob<'_>) -> Result<Graph, RegistryError> {
    graph_below(descriptor, place, blob, 0, &mut DocumentBudget::new())
}

fn graph_below(
    descriptor: &Descriptor,
    place: &str,
    blob: FindBlob<'_>,
    depth: usize,
    budget: &mut DocumentBudget,
) -> Result<Graph, RegistryError> {
    let reference = || place.to_owned();
    if depth > DEEPEST_INDEX {
        let reason = format!("indexes lie more than {DEEPEST_INDEX} deep in one another");
        return Err(RegistryError::NotAnImage { reference: reference(), reason });
    }
    if descriptor.size > LARGEST_MANIFEST {
        return Err(RegistryError::TooLarge { what: "manifest", reference: reference(), limit: LARGEST_MANIFEST });
    }
    budget.count(descriptor.size, place)?;
    let attempted = || format!("cannot read manifest {} of {place}", descriptor.digest);
    let mut bytes = Vec::new();
    blob(descriptor)?
        .open()
        .and_then(|mut reader| reader.read_to_end(&mut bytes))
        .map_err(|source| RegistryError::Io { attempted: attempted(), source })?;
    let document = Document { descriptor: descriptor.clone(), bytes };
    let mut graph = Graph { manifests: Vec::new(), blobs: Vec::new(), document };
    match graph.document.parts(place)? {
        Parts::Index(listed) => {
            for listed in &listed {
                graph.manifests.push(graph_below(listed, place, blob, depth + 1, budget)?);
            }
        }
        Parts::Manifest(blobs) => {
            for descriptor in blobs {
                let source = blob(&descriptor)?;
                graph.blobs.push(Blob { descriptor, source, origin: None });
            }
        }
    }
    Ok(graph)
}

/// All there is to read, unless it is more than this.
fn read_at_most(file: File, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::blob::BlobDir;
    use crate::image::sample;
    use crate::image::{Image, Platform};

    fn written(folder: &Path) -> (Image, PathBuf) {
        let blobs = BlobDir::open(folder.join("work")).unwrap();
        let mut image = sample::image(b"one", &blobs);
        image.config.extra.insert("x-unknown".to_owned(), serde_json::json!({"kept": true}));
        let dir = folder.join("layout");
        super::super::write(&image, &["example.com/app:1.0".parse().unwrap()], &dir).unwrap();
        (image, dir)
    }

    #[test]
    fn what_was_written_is_read_with_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (image, dir) = written(folder.path());
        let layout = Layout::open(&dir).unwrap();
        for name in [None, Some("1.0"), Some("example.com/app:1.0")] {
            let graph = layout.graph(name).unwrap();
            assert_eq!(graph.document.bytes, image.encode().manifest);
            let read = graph.image(&Platform::host(), "layout").unwrap();
            assert_eq!(read.config.extra, image.config.extra);
            let mut tar = Vec::new();
            read.layers[0].open_tar().unwrap().read_to_end(&mut tar).unwrap();
            assert_eq!(tar, b"one");
        }
        let error = layout.graph(Some("2.0")).unwrap_err().to_string();
        assert!(error.contains("no image `2.0`") && error.contains("1.0, example.com/app:1.0"), "{error}");
    }

    #[test]
    fn a_layout_that_is_held_is_read_after_its_folder_was_taken_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (_, dir) = written(folder.path());
        let read =
            |layout: Layout| layout.graph(None).unwrap().image(&Platform::host(), "layout").unwrap().layers.remove(0);
        let (held, other) = (read(Layout::open(&dir).unwrap().held()), read(Layout::open(&dir).unwrap()));
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        fs::rename(dir.join("blobs"), folder.path().join("elsewhere/blobs")).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let mut tar = Vec::new();
        held.open_tar().unwrap().read_to_end(&mut tar).unwrap();
        assert_eq!(tar, b"one");
        assert!(other.open_tar().is_err(), "this test would see nothing");
    }

    #[test]
    fn an_index_in_a_layout_is_read_with_all_it_lists() {
        let folder = tempfile::tempdir().unwrap();
        let (image, dir) = written(folder.path());
        let inner = fs::read(dir.join("index.json")).unwrap();
        let descriptor = Descriptor::of(crate::image::MediaType::OCI_INDEX, &inner);
        fs::write(dir.join("blobs/sha256").join(descriptor.digest.hex()), &inner).unwrap();
        let outer = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor]});
        fs::write(dir.join("index.json"), outer.to_string()).unwrap();
        let graph = Layout::open(&dir).unwrap().graph(None).unwrap();
        assert_eq!(graph.manifests.len(), 1);
        assert_eq!(graph.document.bytes, inner);
        assert_eq!(graph.all_blobs().len(), 2);
        let read = graph.image(&Platform::host(), "layout").unwrap();
        assert_eq!(read.encode().descriptor.digest, image.encode().descriptor.digest);
    }

    #[test]
    fn an_index_that_lists_large_documents_again_and_again_does_not_fill_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (_, dir) = written(folder.path());
        let large = [vec![b' '; 7 << 20], fs::read(dir.join("index.json")).unwrap()].concat();
        let document = Descriptor::of(crate::image::MediaType::OCI_INDEX, &large);
        fs::write(dir.join("blobs/sha256").join(document.digest.hex()), &large).unwrap();
        for (times, fits) in [(9, true), (10, false)] {
            let inner = serde_json::json!({"schemaVersion": 2, "manifests": vec![document.clone(); times]}).to_string();
            let descriptor = Descriptor::of(crate::image::MediaType::OCI_INDEX, inner.as_bytes());
            fs::write(dir.join("blobs/sha256").join(descriptor.digest.hex()), inner).unwrap();
            let outer = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor]});
            fs::write(dir.join("index.json"), outer.to_string()).unwrap();
            let graph = Layout::open(&dir).unwrap().graph(None);
            assert_eq!(graph.is_ok(), fits, "{:?}", graph.err());
        }
    }

    #[test]
    fn a_layout_that_makes_no_sense_is_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let open = |dir: &Path| Layout::open(dir).and_then(|layout| layout.graph(None)).unwrap_err().to_string();
        assert!(open(folder.path()).contains("no file `oci-layout`"));
        let (_, dir) = written(folder.path());
        let good = fs::read_to_string(dir.join("index.json")).unwrap();
        let index: Index = serde_json::from_str(&good).unwrap();
        for (text, expected) in [
            ("{", "index of"),
            (r#"{"schemaVersion":2,"manifests":[]}"#, "no image at all"),
            (
                &good.replace("\"manifests\":[", &format!("\"manifests\":[{},", serde_json::json!(index.manifests[0]))),
                "2 images",
            ),
            (&good.replace("vnd.oci.image.manifest.v1+json", "vnd.example+json"), "vnd.example+json"),
        ] {
            fs::write(dir.join("index.json"), text).unwrap();
            let error = open(&dir);
            assert!(error.contains(expected) && error.contains(&dir.display().to_string()), "{error}");
        }
        fs::write(dir.join("index.json"), &good).unwrap();
        let manifest = dir.join("blobs/sha256").join(index.manifests[0].digest.hex());
        let damaged = fs::read_to_string(&manifest).unwrap().replace("schemaVersion", "schemaVersioN");
        fs::write(manifest, damaged).unwrap();
        let error = open(&dir);
        assert!(error.contains(&index.manifests[0].digest.to_string()), "{error}");
    }
}
