//! The nouns of the field as plain data. A value that exists is well-formed: constructors and parsers check.

mod compression;
mod config;
mod descriptor;
mod digest;
mod document;
mod gzip;
mod layer;
mod layer_writer;
mod manifest;
mod media_type;
mod platform;
pub(crate) mod reference;

pub use compression::Compression;
pub use config::{Healthcheck, History, ImageConfig, RootFsSection, RunConfig};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use document::{Encoded, Image, ImageFormat};
pub use layer::Layer;
pub use layer_writer::LayerWriter;
pub use manifest::{Index, Manifest};
pub use media_type::MediaType;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
