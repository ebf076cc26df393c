//! Base images in a folder that outlives the build: found by digest, verified when they are read. One that is named by
//! its digest needs no registry at all; of one that is named by a tag the registry says which it is, and its layers are
//! not fetched. What is damaged or gone is fetched from the registry as if nothing had been there.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use zuwai_registry::{
    BlobDir, BlobSource, Client, Digest, Document, Graph, Image, Index, Layer, Platform, Pulled, Reference,
    RegistryError, Shelf,
};

/// Where in `--cache-dir` they are.
const FOLDER: &str = "images";

/// See the module.
pub(crate) struct Bases {
    shelf: Shelf,
}

impl Bases {
    /// The images that are kept in the folder, if any ever were.
    pub(crate) fn open(folder: &Path) -> Option<Bases> {
        let folder = folder.join(FOLDER);
        folder.is_dir().then(|| Shelf::open(&folder).ok()).flatten().map(|shelf| Bases { shelf })
    }

    /// The same, for who wants to keep some.
    pub(super) fn make(folder: &Path) -> Result<Bases, RegistryError> {
        Ok(Bases { shelf: Shelf::open(&folder.join(FOLDER))? })
    }

    /// An image that is named by its digest, if it is here. No registry is asked.
    pub(crate) fn pinned(
        &self,
        reference: &Reference,
        platform: &Platform,
        client: &Client,
        blobs: &BlobDir,
    ) -> Option<Pulled> {
        let asked = reference.digest()?;
        let graph = self.graph(asked, platform)?;
        let digest = graph.document.descriptor.digest.clone();
        let image = graph.image(platform, &reference.to_string()).ok()?;
        // Should a layer be damaged, it is asked for when nobody may be asked for credentials any more.
        client.resolve_credentials(std::slice::from_ref(reference));
        let again = |layer: &Layer| {
            let (client, reference, platform) = (client.clone(), reference.clone(), platform.clone());
            let (blobs, digest) = (blobs.clone(), layer.descriptor.digest.clone());
            Remote::Image(Box::new(move || {
                let pulled = client.pull(&reference, &platform, &blobs).map_err(io::Error::other)?;
                let layer = pulled.image.layers.into_iter().find(|layer| layer.descriptor.digest == digest);
                layer.map(|layer| layer.blob).ok_or_else(|| io::Error::other("the image has another layer there"))
            }))
        };
        let layers = image.layers.iter().map(|layer| mended(layer, layer, again(layer), reference)).collect();
        Some(Pulled { image: Image { layers, ..image }, digest, origin: reference.clone() })
    }

    /// The same image with those layers out of the folder that are there.
    pub(crate) fn instead_of(&self, pulled: Pulled, platform: &Platform) -> Pulled {
        let Some(graph) = self.graph(&pulled.digest, platform) else { return pulled };
        let Ok(kept) = graph.image(platform, &pulled.origin.to_string()) else { return pulled };
        let layers = pulled.image.layers.iter().map(|layer| {
            match kept.layers.iter().find(|kept| kept.descriptor.digest == layer.descriptor.digest) {
                Some(kept) => mended(layer, kept, Remote::Layer(Arc::clone(&layer.blob)), &pulled.origin),
                None => layer.clone(),
            }
        });
        let layers = layers.collect();
        Pulled { image: Image { layers, ..pulled.image }, ..pulled }
    }

    /// Whether the image is here whole. What is damaged is removed.
    pub(super) fn has(&self, asked: &Digest, platform: &Platform) -> bool {
        let Ok(kept) = self.shelf.stored(&[tag(asked, platform)]) else { return false };
        kept.into_iter().flatten().next().is_some() && self.graph(asked, platform).is_some()
    }

    /// Fetches an image, and keeps it under the digest it is asked for by and under its own.
    pub(super) fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        client: &Client,
    ) -> Result<Digest, RegistryError> {
        let blobs = self.shelf.blobs();
        let pulled = client.pull(reference, platform, blobs)?;
        client.prefetch(&pulled.image.layers);
        let graph = client.graph(&reference.with_digest(pulled.digest.clone()), blobs)?;
        let mut tags = vec![tag(&pulled.digest, platform)];
        if let Some(named) = client.inspect(reference)?.filter(|named| lists(named, &pulled.digest)) {
            let keep = |source| RegistryError::Io { attempted: format!("keep the index of {reference}"), source };
            self.shelf.keep_document(&named).map_err(keep)?;
            tags.push(tag(&named.descriptor.digest, platform));
        }
        self.shelf.keep(&tags, &graph)?;
        Ok(pulled.digest)
    }

    /// The manifest for a digest: its own, or that of an index which lists it.
    fn graph(&self, asked: &Digest, platform: &Platform) -> Option<Graph> {
        let graph = self.shelf.graph(&tag(asked, platform)).ok()??;
        let found = &graph.document.descriptor.digest;
        let listed = || {
            let index: Index = serde_json::from_slice(&self.shelf.document_of(asked)?).ok()?;
            index.manifests.iter().any(|listed| listed.digest == *found).then_some(())
        };
        (found == asked || listed().is_some()).then_some(graph)
    }
}

/// The name of an entry: what was asked for, and for which platform.
fn tag(digest: &Digest, platform: &Platform) -> String {
    format!("{}-{}.{}", digest.algorithm().as_str(), digest.hex(), platform.to_string().replace(['/', ':'], "-"))
}

/// Whether a document is an index that lists the manifest itself.
fn lists(document: &Document, manifest: &Digest) -> bool {
    let index = serde_json::from_slice::<Index>(&document.bytes);
    document.descriptor.media_type.is_index()
        && index.is_ok_and(|index| index.manifests.iter().any(|listed| listed.digest == *manifest))
}

/// Where a layer comes from when it is damaged or gone.
enum Remote {
    Layer(Arc<dyn BlobSource>),
    Image(Box<dyn Fn() -> io::Result<Arc<dyn BlobSource>> + Send + Sync>),
}

/// A blob that is here, we hope.
struct Mended {
    kept: Arc<dyn BlobSource>,
    remote: Remote,
}

fn mended(layer: &Layer, kept: &Layer, remote: Remote, origin: &Reference) -> Layer {
    let blob = Mended { kept: Arc::clone(&kept.blob), remote };
    Layer { blob: Arc::new(blob), origin: Some(origin.clone()), ..layer.clone() }
}

impl BlobSource for Mended {
    /// Reads the file to its end before it is handed out: then it is known to be whole.
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let whole = self.kept.open().and_then(|mut kept| io::copy(&mut kept, &mut io::sink()));
        if whole.is_ok() {
            return self.kept.open();
        }
        match &self.remote {
            Remote::Layer(blob) => blob.open(),
            Remote::Image(find) => find()?.open(),
        }
    }
}
