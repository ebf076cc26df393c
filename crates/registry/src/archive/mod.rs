//! An image as a tar file: as `docker save` writes it, and OCI layouts that were put into a tar.

mod members;
mod read;
mod write;

pub use read::read;
pub use write::write;
