//! The distribution protocol, version 2 (OCI distribution spec): pull and push.
//!
//! | file | what is in it |
//! |---|---|
//! | `options` | what the caller wants |
//! | `transport/` | names, proxies and certificates |
//! | `http` | one exchange: redirects, limits on progress, errors that name the server |
//! | `endpoint` | where a repository is, mirrors included |
//! | `credentials` | what the keychain answered |
//! | `challenge`, `token` | how a registry asks for a credential, and how one is shown |
//! | `session` | a request with all that belongs to it; what all pulls and pushes share |
//! | `retry` | trying again |
//! | `pull`, `download` | from a name to an image; blobs into files |
//! | `push`, `upload` | an image to registries; blobs to a registry |
//! | `stored` | many manifests of one repository at once, for a cache |
//! | `engine` | the runtime behind the blocking calls |

mod challenge;
mod credentials;
mod download;
mod endpoint;
mod engine;
mod error;
mod http;
mod options;
mod pull;
mod push;
mod retry;
mod session;
mod stored;
mod stream;
mod token;
pub mod transport;
mod upload;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::Keychain;
use crate::blob::{BlobDir, BlobSource};
use crate::image::{Blob, Descriptor, Digest, Document, Graph, Image, Layer, Platform, Reference};
use download::{Download, LazyBlob, Source};
use engine::Engine;
use session::Session;

pub(crate) use endpoint::server_of as server_of_url;
pub(crate) use error::innermost;
pub use error::{Refusal, RegistryError};
pub(crate) use http::{message_of, status_text};
pub use options::{ClientOptions, RetryPolicy};
pub use stored::Stored;

/// Speaks to registries. One for the whole build: it keeps connections, tokens, and what it knows to be there. Its methods
/// block, and must not be called from inside an asynchronous runtime; they may be called from several threads at once.
/// A clone is the same client.
#[derive(Clone)]
pub struct Client {
    engine: Arc<Engine>,
}

/// An image that was found at a registry.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image. The bytes of its layers are fetched when they are opened.
    pub image: Image,
    /// The digest of the platform's manifest, not of an index that lists it.
    pub digest: Digest,
    /// Where it was found: the name itself, or what a mirror calls it.
    pub origin: Reference,
}

impl Client {
    /// Reads the files the options name and starts the threads for transfers. No connection is made.
    pub fn new(options: ClientOptions, keychain: Arc<dyn Keychain>) -> Result<Client, RegistryError> {
        let engine = Engine::new(Session::new(options, keychain)?)?;
        Ok(Client { engine: Arc::new(engine) })
    }

    /// Finds an image for a platform: manifest and config now, each layer's bytes into `blobs` when it is opened or
    /// prefetched. Mirrors are asked first. The layers keep what they need of this client alive.
    ///
    /// ```no_run
    /// # fn example(client: &zuwai_registry::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use zuwai_registry::{BlobDir, Platform};
    ///
    /// let blobs = BlobDir::open("blobs")?;
    /// let pulled = client.pull(&"debian:12".parse()?, &Platform::host(), &blobs)?;
    /// client.prefetch(&pulled.image.layers);
    /// for layer in &pulled.image.layers {
    ///     // Waits for the download; both digests are checked by the end of the tar.
    ///     std::io::copy(&mut layer.open_tar()?, &mut std::io::sink())?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pull(&self, reference: &Reference, platform: &Platform, blobs: &BlobDir) -> Result<Pulled, RegistryError> {
        let session = &self.engine.session;
        let found = self.engine.block_on_unless_cancelled(async {
            let mut tries = 0;
            loop {
                match session.pull(reference, platform).await {
                    Err(_) if tries < session.options.image_download_retry => {
                        tokio::time::sleep(Duration::from_secs(1 << tries.min(6))).await;
                        tries += 1;
                    }
                    other => return other,
                }
            }
        })?;
        Ok(found.into_pulled(&self.engine, blobs))
    }

    /// Starts to fetch these layers in the background, a few at a time, in this order. Opening one waits for it; what went
    /// wrong is told then.
    pub fn prefetch(&self, layers: &[Layer]) {
        for layer in layers {
            layer.blob.prefetch();
        }
    }

    /// Asks the keychain for each of these now, so that nothing has to be run for them later. Answers are kept for as long
    /// as the client lives; an error is kept as well, and told by the request that needs the answer: a registry that wants
    /// no credential is not harmed by a file that cannot be read.
    pub fn resolve_credentials(&self, references: &[Reference]) {
        self.engine.block_on(self.engine.session.authenticator.credentials.prepare(references.iter()));
    }

    /// From the return on, the keychain is not asked any more, and none of its programs runs: credential helpers must not
    /// be started while an image's files lie where the helpers' own libraries would be looked for. Waits for one that
    /// runs. Repositories that were asked for before keep their answer; for others, a request that needs a credential fails
    /// with [`RegistryError::Sealed`].
    pub fn seal_credentials(&self) {
        self.engine.block_on(self.engine.session.authenticator.credentials.seal());
    }

    /// Shows the reference's registry the credential for it, and asks for nothing (`GET /v2/`): whether a login is right.
    pub fn check_login(&self, reference: &Reference) -> Result<(), RegistryError> {
        self.engine.block_on_unless_cancelled(self.engine.session.check_login(reference))
    }

    /// Asks whether the image may be pushed there, before it is built.
    pub fn check_push(&self, reference: &Reference) -> Result<(), RegistryError> {
        self.engine.block_on_unless_cancelled(self.engine.session.check_push(reference))
    }

    /// Starts to push a finished layer in the background, while its image is still being built. What goes wrong is told by
    /// [`Client::push`], which tries again.
    pub fn push_ahead(&self, layer: &Layer, references: &[Reference]) {
        for reference in references {
            let (session, layer, reference) = (Arc::clone(&self.engine.session), layer.clone(), reference.clone());
            self.engine.spawn(async move {
                let _ = session.push_blob(&layer.to_blob(), &reference).await;
            });
        }
    }

    /// Pushes the image to each destination: what a registry has is not sent again, what another of its repositories has is
    /// mounted, and tags are moved last of all, when every destination has every blob. Gives the digest of the manifest, the
    /// same for all.
    ///
    /// ```no_run
    /// # fn example(client: &zuwai_registry::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::collections::BTreeMap;
    /// use zuwai_registry::{BlobDir, Compression, Image, ImageConfig, ImageFormat, LayerWriter, Platform};
    ///
    /// let mut layer = LayerWriter::new(&BlobDir::open("blobs")?, Compression::GZIP, ImageFormat::Oci)?;
    /// std::io::copy(&mut std::fs::File::open("rootfs.tar")?, &mut layer)?;
    /// let mut config = ImageConfig::default();
    /// config.set_platform(&Platform::host());
    /// let (layers, annotations) = (vec![layer.finish()?], BTreeMap::new());
    /// let image = Image { config, layers, format: ImageFormat::Oci, annotations };
    /// let digest = client.push(&image, &["registry.example.com/app:1".parse()?])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn push(&self, image: &Image, references: &[Reference]) -> Result<Digest, RegistryError> {
        self.push_graph(&image.graph(&image.encode()), references)
    }

    /// As [`Client::push`], for what somebody else stored: a layout, an archive, an image of another registry. Every
    /// document keeps its bytes.
    ///
    /// ```no_run
    /// # fn example(client: &zuwai_registry::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let layout = zuwai_registry::layout::Layout::open("image")?;
    /// client.push_graph(&layout.graph(None)?, &["registry.example.com/app:1".parse()?])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn push_graph(&self, graph: &Graph, references: &[Reference]) -> Result<Digest, RegistryError> {
        self.engine.block_on_unless_cancelled(self.engine.session.push(graph, references))?;
        Ok(graph.document.descriptor.digest.clone())
    }

    /// A manifest or an index with all it refers to, as it is: for every platform. Documents are fetched now, the bytes of
    /// blobs into `blobs` when they are opened.
    pub fn graph(&self, reference: &Reference, blobs: &BlobDir) -> Result<Graph, RegistryError> {
        let found = self.engine.block_on_unless_cancelled(self.engine.session.graph(reference))?;
        Ok(found.into_graph(&self.engine, blobs))
    }

    /// Copies an image, for every platform it is there for, to other names. Within one registry blobs are mounted and none
    /// is downloaded; otherwise they pass through `blobs`.
    ///
    /// ```no_run
    /// # fn example(client: &zuwai_registry::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let blobs = zuwai_registry::BlobDir::open("blobs")?;
    /// let names = ["registry.example.com/debian:12".parse()?, "registry.example.com/debian:latest".parse()?];
    /// client.copy(&"debian:12".parse()?, &names, &blobs)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy(&self, from: &Reference, to: &[Reference], blobs: &BlobDir) -> Result<Digest, RegistryError> {
        self.push_graph(&self.graph(from, blobs)?, to)
    }

    /// The manifest or index a name stands for, byte for byte; `None` when there is no such image. Mirrors are asked first.
    ///
    /// ```no_run
    /// # fn example(client: &zuwai_registry::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Some(document) = client.inspect(&"debian:12".parse()?)? {
    ///     println!("{} {}", document.descriptor.media_type, document.descriptor.digest);
    ///     println!("{}", String::from_utf8_lossy(&document.bytes));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn inspect(&self, reference: &Reference) -> Result<Option<Document>, RegistryError> {
        self.engine.block_on_unless_cancelled(self.engine.session.inspect(reference))
    }

    /// The digest a name stands for at its own registry, an index's where it names one; `None` when there is no such image.
    /// One HEAD, which does not count as a pull where pulls are limited.
    pub fn digest(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        self.engine.block_on_unless_cancelled(self.engine.session.digest(reference))
    }

    /// Whether the reference's repository has this blob (HEAD). Its tag and digest do not matter.
    pub fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool, RegistryError> {
        self.engine.block_on_unless_cancelled(self.engine.session.has_blob(reference, digest))
    }

    /// Whether a push to these repositories will need none of the layer's bytes: they have it, or their registry has it
    /// elsewhere. What cannot be found out within some seconds is answered with no.
    pub fn can_do_without(&self, layer: &Layer, references: &[Reference]) -> bool {
        let (origin, digest) = (layer.origin.as_ref().map(Reference::registry), &layer.descriptor.digest);
        let others: Vec<&Reference> =
            references.iter().filter(|reference| origin != Some(reference.registry())).collect();
        let asked = async { Ok(self.engine.session.all_have(&others, digest).await) };
        others.is_empty() || self.engine.block_on_unless_cancelled(asked).unwrap_or(false)
    }

    /// A blob of the reference's repository; its bytes are fetched into `blobs`, and checked, when it is opened.
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor, blobs: &BlobDir) -> Result<Blob, RegistryError> {
        let session = &self.engine.session;
        let place = self.engine.block_on_unless_cancelled(session.place(reference, session::Purpose::Pull, false))?;
        let source = Source { places: vec![place], descriptor: descriptor.clone(), blobs: blobs.clone() };
        let source: Arc<dyn BlobSource> = Arc::new(LazyBlob::new(Arc::clone(&self.engine), Download::new(source)));
        Ok(Blob { descriptor: descriptor.clone(), source, origin: Some(reference.clone()) })
    }

    /// Sees to it that the reference's repository has the blob: asks first, mounts it from [`Blob::origin`] or from wherever
    /// this client has put it at the same registry, and sends it otherwise.
    pub fn push_blob(&self, blob: &Blob, reference: &Reference) -> Result<(), RegistryError> {
        self.engine.block_on_unless_cancelled(self.engine.session.push_blob(blob, reference))
    }

    /// Puts one manifest or index under the reference's tag or digest. What it refers to must be there.
    pub fn push_document(&self, document: &Document, reference: &Reference) -> Result<(), RegistryError> {
        self.engine.block_on_unless_cancelled(self.engine.session.push_document(document, reference))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What a panic of another thread left behind is still whole: nothing here is changed in several steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
