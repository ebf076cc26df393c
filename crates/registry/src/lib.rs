//! Container images at rest and in transit.
//!
//! This crate knows the documents of an image (config, manifest, index), its blobs, and the protocol by which registries
//! hand them out. It decides how a name becomes a request, which credential is shown to whom, and that nothing enters or
//! leaves without its digest being checked. It knows nothing of Dockerfiles or root filesystems, and it reads no
//! environment, home folder or terminal: everything it needs to know of its surroundings is passed in.
//!
//! | module | what is in it |
//! |---|---|
//! | [`image`] | the nouns, plain data: digest, reference, platform, manifest, config, layer |
//! | [`blob`] | where blobs come from and where they are kept |
//! | [`auth`] | credentials: which one is shown to which registry |
//! | [`client`] | the distribution protocol: pull and push |
//! | [`layout`], [`archive`] | an image as a folder, and as a tar file |
//! | [`shelf`] | many images in one folder |
//!
//! ```no_run
//! use std::sync::Arc;
//! use zuwai_registry::{BlobDir, Client, ClientOptions, Platform, auth::Anonymous};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(ClientOptions::default(), Arc::new(Anonymous))?;
//! let blobs = BlobDir::open("blobs")?;
//! let pulled = client.pull(&"registry.example.com/base:1".parse()?, &Platform::host(), &blobs)?;
//! let mut image = pulled.image;
//! image.config.config.labels.insert("kind".to_owned(), "copy".to_owned());
//! let digest = client.push(&image, &["registry.example.com/copy:1".parse()?])?;
//! println!("{digest}");
//! # Ok(())
//! # }
//! ```

pub mod archive;
pub mod auth;
pub mod blob;
pub mod client;
pub mod image;
pub mod layout;
pub mod shelf;

pub use auth::{Credential, DockerConfigKeychain, Keychain, KeychainError, Resolved};
pub use blob::{BlobDir, BlobSource};
pub use client::transport::{self, Proxies, TransportOptions};
pub use client::{Client, ClientOptions, Pulled, RegistryError, RetryPolicy, Stored};
pub use image::{
    Blob, Compression, Descriptor, Digest, Document, Encoded, Graph, Healthcheck, History, Image, ImageConfig,
    ImageFormat, Index, Layer, LayerWriter, Manifest, MediaType, Platform, Reference, RootFsSection, RunConfig,
};
pub use shelf::Shelf;
