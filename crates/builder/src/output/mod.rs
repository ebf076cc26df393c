//! Where an image can go besides a registry. One file an output, one row in [`OUTPUTS`]; each writes whole or not at
//! all.

mod archive;
mod digest_file;
mod layout;
mod name_files;

use std::io;
use std::path::{Path, PathBuf};

use zuwai_registry::{Digest, Image, Reference};

use crate::request::BuildRequest;

/// What outputs are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished<'a> {
    /// The image.
    pub(crate) image: &'a Image,
    /// The digest of its manifest.
    pub(crate) digest: &'a Digest,
    /// What it is called.
    pub(crate) names: &'a [Reference],
}

/// One kind of output.
pub(crate) struct Output {
    /// The flag that asks for it, without dashes.
    pub(crate) flag: &'static str,
    /// Where the request wants it, if it does.
    pub(crate) path: fn(&BuildRequest) -> Option<&PathBuf>,
    write: fn(&Finished<'_>, &Path) -> Result<(), OutputError>,
}

/// In the order they are written: all before the push, because scripts read the digest even when that fails, and the
/// small files last, so that they are not there when an image could not be written.
pub(crate) const OUTPUTS: [Output; 5] = [
    Output { flag: "oci-layout-path", path: |request| request.outputs.oci_layout_path.as_ref(), write: layout::write },
    Output { flag: "tar-path", path: |request| request.outputs.tar_path.as_ref(), write: archive::write },
    Output { flag: "digest-file", path: |request| request.outputs.digest_file.as_ref(), write: digest_file::write },
    Output {
        flag: "image-name-with-digest-file",
        path: |request| request.outputs.image_name_with_digest_file.as_ref(),
        write: name_files::write_names,
    },
    Output {
        flag: "image-name-tag-with-digest-file",
        path: |request| request.outputs.image_name_tag_with_digest_file.as_ref(),
        write: name_files::write_names_and_tags,
    },
];

impl Output {
    /// Writes the image to `path`.
    pub(crate) fn write(&self, finished: &Finished<'_>, path: &Path) -> Result<(), OutputError> {
        (self.write)(finished, path)
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
    /// An archive or a layout.
    #[error(transparent)]
    Image(#[from] zuwai_registry::RegistryError),
}
