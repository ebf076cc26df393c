//! A file of an identity, read at the start and again when it is wanted: the tokens of workloads are replaced every hour by
//! whoever mounts them, and a build may take longer than the one it began with lasts.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// A file whose folder is held open. It is read again through that folder and never through `/`, where an image's files may
/// lie by then: nothing but what is below the folder is looked at, be it through links, as Kubernetes has them.
#[derive(Clone)]
pub(super) struct KeptFile {
    /// What it held first; `Err` says why it could not be read.
    first: Result<String, String>,
    folder: Option<Arc<File>>,
    name: OsString,
}

/// No file of an identity is longer than this many bytes.
const LONGEST: u64 = 1 << 20;

impl KeptFile {
    /// Reads it, and holds its folder.
    pub(super) fn read(path: &Path) -> KeptFile {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let first = File::open(path).and_then(text).map_err(|error| error.to_string());
        let folder = File::open(parent).ok().filter(|_| first.is_ok()).map(Arc::new);
        KeptFile { first, folder, name: path.file_name().unwrap_or_default().to_owned() }
    }

    /// What it holds now; what it held first where it cannot be read any more.
    pub(super) fn content(&self) -> Result<String, String> {
        let now = self.folder.as_ref().and_then(|folder| self.now(folder).ok());
        now.filter(|text| !text.trim().is_empty()).map_or_else(|| self.first.clone(), Ok)
    }

    fn now(&self, folder: &File) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let below = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        text(File::from(openat2(folder, &self.name, flags, Mode::empty(), below)?))
    }
}

fn text(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_token_that_was_replaced_as_kubernetes_does_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, token) in [("1", "one"), ("2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("token"), token).unwrap();
        }
        symlink("1", at("..data")).unwrap();
        symlink("..data/token", at("token")).unwrap();
        let kept = KeptFile::read(&at("token"));
        assert_eq!(kept.content().as_deref(), Ok("one"));
        symlink("2", at("next")).unwrap();
        fs::rename(at("next"), at("..data")).unwrap();
        assert_eq!(kept.content().as_deref(), Ok("two"));
        fs::remove_dir_all(at("2")).unwrap();
        assert_eq!(kept.content().as_deref(), Ok("one"), "it is as it was at the start");
    }

    #[test]
    fn another_file_in_its_place_is_not_followed_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("token"), "mine").unwrap();
        fs::write(folder.path().join("theirs"), "theirs").unwrap();
        let kept = KeptFile::read(&inner.join("token"));
        for target in [folder.path().join("theirs"), "../theirs".into()] {
            fs::remove_file(inner.join("token")).unwrap();
            symlink(target, inner.join("token")).unwrap();
            assert_eq!(kept.content().as_deref(), Ok("mine"));
        }
        // The folder has another name, and there is another one of its name.
        fs::remove_file(inner.join("token")).unwrap();
        fs::write(inner.join("token"), "mine again").unwrap();
        fs::rename(&inner, folder.path().join("parked")).unwrap();
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("token"), "the image's").unwrap();
        assert_eq!(kept.content().as_deref(), Ok("mine again"));
    }

    #[test]
    fn a_file_that_is_not_there_is_told_and_does_not_appear_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let kept = KeptFile::read(&path);
        fs::write(&path, "late").unwrap();
        assert!(kept.content().unwrap_err().contains("No such file"));
    }
}
