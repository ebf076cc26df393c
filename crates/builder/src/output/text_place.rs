//! Where a small text about an image goes: a file, or a web address that takes it.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

use url::Url;

use super::OutputError;
use crate::request::BuildRequest;
use crate::web;

/// A place for a small text. Printed without what stands behind `?`: addresses that are signed beforehand have their
/// signature there.
#[derive(Clone, PartialEq, Eq)]
pub enum TextPlace {
    /// A file; a relative path begins at [`BuildRequest::current_directory`].
    File(PathBuf),
    /// An address that begins with `https://`: the text is sent there with PUT.
    Address(Url),
}

/// A place that cannot be written to.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextPlaceError {
    /// `http://`.
    #[error("an address must begin with https://: what is sent over http:// can be changed on the way")]
    NotEncrypted,
    /// `https://`, and no address behind it.
    #[error("this is not a web address: {0}")]
    NoAddress(String),
}

impl FromStr for TextPlace {
    type Err = TextPlaceError;

    /// What begins with `https://` is an address, everything else a file.
    fn from_str(text: &str) -> Result<Self, TextPlaceError> {
        if text.starts_with("http://") {
            return Err(TextPlaceError::NotEncrypted);
        }
        if !text.starts_with("https://") {
            return Ok(TextPlace::File(PathBuf::from(text)));
        }
        Url::parse(text).map(TextPlace::Address).map_err(|error| TextPlaceError::NoAddress(error.to_string()))
    }
}

impl TextPlace {
    /// Writes it there, and says where that is.
    pub(super) fn write(
        &self,
        text: &str,
        request: &BuildRequest,
        cancelled: &AtomicBool,
    ) -> Result<String, OutputError> {
        match self {
            TextPlace::File(path) => {
                let path = request.current_directory.join(path);
                write_small(&path, text.as_bytes())?;
                Ok(path.display().to_string())
            }
            TextPlace::Address(address) => {
                web::put(address, text, &request.context.transport, cancelled)?;
                Ok(web::shown(address.as_str()))
            }
        }
    }
}

impl fmt::Debug for TextPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextPlace::File(path) => formatter.debug_tuple("File").field(path).finish(),
            TextPlace::Address(address) => {
                formatter.debug_tuple("Address").field(&web::shown(address.as_str())).finish()
            }
        }
    }
}

/// Writes a small file so that it is never seen half-written: beside its place first, then renamed. What exists already
/// and may be a device, a pipe or a mount (`/dev/termination-log` is one) is written in place. Missing folders are made
/// with mode 0700, the file has 0644, as Kaniko's have.
fn write_small(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let attempt = || {
        if path.exists() {
            return fs::OpenOptions::new().write(true).truncate(true).open(path)?.write_all(bytes);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(path)?;
        Ok(())
    };
    attempt().map_err(|source| OutputError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_appears_with_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/digest");
        write_small(&path, b"sha256:1").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"sha256:1");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left beside it");
    }

    #[test]
    fn a_file_that_exists_is_written_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("termination-log");
        fs::write(&path, b"something much longer than the digest").unwrap();
        let before = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
        write_small(&path, b"sha256:1").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"sha256:1");
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap()), before);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = write_small(&file.join("digest"), b"sha256:1").unwrap_err();
        assert_eq!(error.to_string(), format!("write {}", file.join("digest").display()));
    }

    #[test]
    fn what_begins_with_https_is_an_address_whose_signature_is_not_shown() {
        let place = |text: &str| text.parse::<TextPlace>();
        let address = place("https://me:pass@store.example.com/digest?X-Amz-Signature=s3cret").unwrap();
        assert_eq!(format!("{address:?}"), r#"Address("https://store.example.com/digest")"#);
        assert_eq!(place("https.txt"), Ok(TextPlace::File("https.txt".into())));
        assert_eq!(place("http://host/x"), Err(TextPlaceError::NotEncrypted));
        assert!(matches!(place("https://"), Err(TextPlaceError::NoAddress(_))));
    }
}
