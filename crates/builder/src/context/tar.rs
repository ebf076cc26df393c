//! An archive as the build context: `tar://PATH`, or `tar://stdin` for standard input. It may be compressed in any way that ADD
//! knows; Kaniko takes gzip alone.

use std::fs::{self, File};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use zuwai_snapshot::{ApplyOptions, Ignore, RootFs, apply_tar};

use super::{Context, ContextError, ContextSource, Fetching};
use crate::cancellable::Cancellable;
use crate::decompress::decompressed;
use crate::event::Event;
use crate::request::ContextRequest;

pub(super) struct Tar;

/// What stands for standard input.
const STDIN: &str = "stdin";

impl ContextSource for Tar {
    fn check(&self, rest: &str, request: &ContextRequest) -> Result<(), ContextError> {
        if rest == STDIN && request.standard_input.is_none() {
            return Err(ContextError::NoStandardInput);
        }
        Ok(())
    }

    fn fetch(&self, rest: &str, fetching: &Fetching<'_>) -> Result<Context, ContextError> {
        if rest == STDIN {
            let input = fetching.request.standard_input.clone().ok_or(ContextError::NoStandardInput)?;
            return unpack(Box::new(Shared { input, cancelled: fetching.cancelled }), "standard input", fetching);
        }
        let path = fetching.current_directory.join(rest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(ContextError::Missing { path, hint: None });
            }
            Err(source) => return Err(ContextError::Io { action: "open the build context", path, source }),
        };
        unpack(Box::new(file), &path.display().to_string(), fetching)
    }
}

/// Unpacks an archive into the folder for what comes from elsewhere, and names that folder.
pub(super) fn unpack(
    stream: Box<dyn Read + Send + '_>,
    name: &str,
    fetching: &Fetching<'_>,
) -> Result<Context, ContextError> {
    let into = fetching.into;
    let archive = |source: io::Error| ContextError::Archive { name: name.to_owned(), source: source.into() };
    fs::create_dir_all(into).map_err(|source| ContextError::Io {
        action: "make the folder",
        path: into.to_owned(),
        source,
    })?;
    let root = if rustix::process::geteuid().is_root() {
        RootFs::open(into, Ignore::default())?
    } else {
        // Whose the files are does not matter here, and could not be said.
        RootFs::open_with_owners(into, Ignore::default(), Arc::default())?
    };
    let plain = decompressed(stream).map_err(archive)?;
    let mut tar = Cancellable::new(plain, fetching.cancelled);
    // A file that is called as whiteouts are is a file here.
    let options = ApplyOptions { whiteouts: false, ..ApplyOptions::default() };
    let applied = apply_tar(&mut tar, &root, &options)
        .map_err(|source| ContextError::Archive { name: name.to_owned(), source: source.into() })?;
    // Nothing at all is no archive.
    if tar.passed_bytes() == 0 {
        return Err(archive(io::Error::new(io::ErrorKind::UnexpectedEof, "there is nothing in it")));
    }
    for text in &applied.warnings {
        fetching.observer.event(&Event::Warning { text });
    }
    Ok(Context { root: into.to_owned(), time: None })
}

/// Standard input as somebody else holds it too. Whoever writes to it may take their time: meanwhile the wish to stop is
/// looked at.
struct Shared<'a> {
    input: Arc<File>,
    cancelled: &'a AtomicBool,
}

impl Read for Shared<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            match poll(&mut [PollFd::new(&*self.input, PollFlags::IN)], Some(&tick)) {
                Ok(0) | Err(Errno::INTR) if self.cancelled.load(Ordering::SeqCst) => {
                    return Err(io::Error::other("the build was cancelled"));
                }
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return (&*self.input).read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::super::{Context, fetch};
    use super::*;
    use crate::event::Silent;
    use crate::request::GitOptions;

    fn fetched(location: &str, input: Option<File>, current: &Path) -> Result<Context, ContextError> {
        let request = ContextRequest {
            location: location.to_owned(),
            sub_path: None,
            git: GitOptions::default(),
            transport: zuwai_registry::TransportOptions::default(),
            standard_input: input.map(Arc::new),
        };
        fetch(&request, current, &current.join("context"), &Silent, &AtomicBool::new(false))
    }

    /// An archive with one file, as zuwai's own writer makes it of a folder.
    fn archive(folder: &Path) -> Vec<u8> {
        let tree = folder.join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("Dockerfile"), "FROM scratch\n").unwrap();
        fs::write(tree.join(".wh.kept"), "a name like any other").unwrap();
        let output = std::process::Command::new("tar").arg("-C").arg(&tree).args(["-cf", "-", "."]).output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn an_archive_is_unpacked_whatever_its_compression() {
        let folder = tempfile::tempdir().unwrap();
        let plain = archive(folder.path());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        for (name, bytes) in [("a.tar", plain), ("a.tar.gz", gzip.finish().unwrap())] {
            fs::write(folder.path().join(name), bytes).unwrap();
            let context = fetched(&format!("tar://{name}"), None, folder.path()).unwrap();
            assert_eq!(fs::read_to_string(context.root.join("Dockerfile")).unwrap(), "FROM scratch\n");
            assert!(context.root.join(".wh.kept").exists());
            fs::remove_dir_all(context.root).unwrap();
        }
    }

    #[test]
    fn standard_input_is_read_when_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive(folder.path())).unwrap();
        file.rewind().unwrap();
        let context = fetched("tar://stdin", Some(file), folder.path()).unwrap();
        assert!(context.root.join("Dockerfile").exists());
        assert!(matches!(fetched("tar://stdin", None, folder.path()), Err(ContextError::NoStandardInput)));
    }

    #[test]
    fn what_is_no_archive_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("text"), "no archive").unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        for name in ["text", "empty"] {
            let error = fetched(&format!("tar://{name}"), None, folder.path()).unwrap_err();
            assert!(matches!(&error, ContextError::Archive { name: said, .. } if said.ends_with(name)), "{error}");
        }
        assert!(matches!(fetched("tar://absent", None, folder.path()), Err(ContextError::Missing { .. })));
    }
}
