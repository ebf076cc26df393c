//! An image as a folder: OCI image layout (OCI image spec, image-layout.md).

mod read;
mod write;

pub use read::Layout;
pub use write::write;
pub(crate) use write::{MARKER_CONTENT, copy_blob, copy_verified};

pub(crate) use read::{Named, graph_of, pick};

/// The annotation that names an image inside a layout: its tag, as skopeo, umoci and podman look for it.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation with the full name, as `ctr image import` and `docker buildx` have it.
const FULL_NAME: &str = "io.containerd.image.name";

/// What a folder that is a layout has.
pub(crate) const MARKER: &str = "oci-layout";
