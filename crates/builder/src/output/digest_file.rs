//! `--digest-file`: the digest of the manifest, without a newline, because Tekton and Skaffold take the file verbatim.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::{Finished, OutputError};

pub(super) fn write(finished: &Finished<'_>, path: &Path) -> Result<(), OutputError> {
    write_small(path, finished.digest.to_string().as_bytes())
}

/// Writes a small file so that it is never seen half-written: beside its place first, then renamed. What exists already
/// and may be a device, a pipe or a mount (`/dev/termination-log` is one) is written in place. Missing folders are made
/// with mode 0700, the file has 0644, as Kaniko's have.
pub(super) fn write_small(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
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
}
