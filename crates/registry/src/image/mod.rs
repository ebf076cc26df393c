//! The nouns of the field as plain data. A value that exists is well-formed: constructors and parsers check.

mod compression;
mod config;
mod deflate;
mod dense;
mod descriptor;
mod digest;
mod document;
mod graph;
mod gunzip;
mod gzip;
mod inflate;
mod layer;
mod layer_writer;
mod manifest;
mod media_type;
mod platform;
pub(crate) mod reference;
#[cfg(test)]
pub(crate) mod sample;

pub use compression::Compression;
pub(crate) use compression::{Seen, decompress, see_start};
pub use config::{Healthcheck, History, ImageConfig, RootFsSection, RunConfig};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use document::{Encoded, Image, ImageFormat};
pub use graph::{Blob, Document, Graph};
pub(crate) use graph::{DEEPEST_INDEX, DocumentBudget, LARGEST_CONFIG, LARGEST_MANIFEST, Parts};
pub use layer::Layer;
pub use layer_writer::LayerWriter;
pub use manifest::{Index, Manifest};
pub use media_type::MediaType;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
