//! Where an image can go besides a registry. One file an output, one row in [`OUTPUTS`]; each writes whole or not at
//! all.

mod archive;
mod digest_file;
mod layout;
mod name_files;
mod text_place;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use zuwai_registry::{Digest, Image, Reference};

pub use self::text_place::{TextPlace, TextPlaceError};
use crate::request::BuildRequest;
use crate::web::WebError;

/// What outputs are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished<'a> {
    /// The image.
    pub(crate) image: &'a Image,
    /// The digest of its manifest.
    pub(crate) digest: &'a Digest,
    /// What was asked for.
    pub(crate) request: &'a BuildRequest,
    /// Set when the build is to stop.
    pub(crate) cancelled: &'a AtomicBool,
}

/// One kind of output.
pub(crate) struct Output {
    /// The flag that asks for it, without dashes.
    pub(crate) flag: &'static str,
    /// Writes it to where the request wants it, if it does, and says where that is.
    pub(crate) write: fn(&Finished<'_>) -> Option<Result<String, OutputError>>,
}

/// In the order they are written: all before the push, because scripts read the digest even when that fails, and the
/// small texts last, so that they are not there when an image could not be written.
pub(crate) const OUTPUTS: [Output; 5] = [
    Output {
        flag: "oci-layout-path",
        write: |finished| finished.into(finished.request.outputs.oci_layout_path.as_ref(), layout::write),
    },
    Output {
        flag: "tar-path",
        write: |finished| finished.into(finished.request.outputs.tar_path.as_ref(), archive::write),
    },
    Output {
        flag: "digest-file",
        write: |finished| finished.tell(finished.request.outputs.digest_file.as_ref(), digest_file::text),
    },
    Output {
        flag: "image-name-with-digest-file",
        write: |finished| {
            finished.tell(finished.request.outputs.image_name_with_digest_file.as_ref(), name_files::names)
        },
    },
    Output {
        flag: "image-name-tag-with-digest-file",
        write: |finished| {
            finished.tell(finished.request.outputs.image_name_tag_with_digest_file.as_ref(), name_files::names_and_tags)
        },
    },
];

impl Finished<'_> {
    /// What the image is called.
    fn names(&self) -> &[Reference] {
        &self.request.destinations
    }

    fn into(
        &self,
        path: Option<&PathBuf>,
        write: fn(&Finished<'_>, &Path) -> Result<(), OutputError>,
    ) -> Option<Result<String, OutputError>> {
        let path = self.request.current_directory.join(path?);
        Some(write(self, &path).map(|()| path.display().to_string()))
    }

    fn tell(
        &self,
        place: Option<&TextPlace>,
        text: fn(&Finished<'_>) -> String,
    ) -> Option<Result<String, OutputError>> {
        Some(place?.write(&text(self), self.request, self.cancelled))
    }
}

/// An output could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A small file.
    #[error("write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A web address.
    #[error(transparent)]
    Web(#[from] WebError),
    /// An archive or a layout.
    #[error(transparent)]
    Image(#[from] zuwai_registry::RegistryError),
}
