//! Where the bytes of blobs come from, and a folder to keep them in.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::image::{Descriptor, Digest, Hasher};

/// The bytes of one blob, compressed as the registry knows them. Opened, they were verified where they entered; opening twice
/// gives the same bytes twice.
pub trait BlobSource: Send + Sync {
    /// A reader from the first byte. May block: a blob that is not here yet is fetched first.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;

    /// A reader of the bytes as they come, for who verifies what is in them: perhaps nobody else has, and perhaps they are not
    /// kept and whoever opens the blob later fetches it again. By itself the same as [`BlobSource::open`].
    fn stream(&self) -> io::Result<Box<dyn BufRead + Send>> {
        Ok(buffered(self.open()?))
    }

    /// Somebody will open it soon: a blob that is not here yet may be fetched now, in the background. Does not wait.
    fn prefetch(&self) {}
}

/// The reader of a blob, with the buffer that suits an inflater.
pub(crate) fn buffered(reader: Box<dyn Read + Send>) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::with_capacity(256 * 1024, reader))
}

/// A folder of blobs, each named by its digest (`sha256/<hex>`, as in an OCI layout). A blob under its name is whole and
/// verified: it is written under another name and renamed. Cheap to clone; several may use one folder.
#[derive(Debug, Clone)]
pub struct BlobDir {
    path: Arc<Path>,
}

/// A blob being written. Dropped without [`BlobFile::keep`], it is gone.
#[derive(Debug)]
pub(crate) struct BlobFile {
    file: NamedTempFile,
    dir: BlobDir,
}

/// Names of blobs that are being written begin with this.
const UNFINISHED: &str = ".unfinished-";

impl BlobDir {
    /// Opens the folder, making it where it is missing.
    pub fn open(path: impl AsRef<Path>) -> io::Result<BlobDir> {
        let path = path.as_ref();
        fs::create_dir_all(path.join("sha256"))?;
        Ok(BlobDir { path: path.into() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that holds the blob, if it is here.
    pub fn get(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.place_of(digest);
        path.is_file().then_some(path)
    }

    /// Keeps these bytes.
    pub fn insert(&self, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        if self.get(&digest).is_none() {
            let mut blob = self.create()?;
            blob.write_all(bytes)?;
            blob.keep(&digest)?;
        }
        Ok(digest)
    }

    /// A blob whose digest is not known yet.
    pub(crate) fn create(&self) -> io::Result<BlobFile> {
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&*self.path)?;
        Ok(BlobFile { file, dir: self.clone() })
    }

    fn place_of(&self, digest: &Digest) -> PathBuf {
        self.path.join(digest.algorithm().as_str()).join(digest.hex())
    }
}

impl BlobFile {
    /// Gives the blob its name. The caller has verified that these are the bytes.
    pub(crate) fn keep(self, digest: &Digest) -> io::Result<PathBuf> {
        let path = self.dir.place_of(digest);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        self.file.persist(&path).map_err(|failed| failed.error)?;
        Ok(path)
    }

    /// Who may read it once it is kept: by itself, only its owner.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.as_file().set_permissions(fs::Permissions::from_mode(mode))
    }

    /// Forgets what was written.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        use std::io::Seek;
        self.file.as_file().set_len(0)?;
        self.file.rewind()
    }
}

impl Write for BlobFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A blob in a file.
#[derive(Debug, Clone)]
pub struct FileBlob(PathBuf);

impl FileBlob {
    /// The whole file is the blob.
    pub fn new(path: impl Into<PathBuf>) -> FileBlob {
        FileBlob(path.into())
    }
}

impl BlobSource for FileBlob {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let file = File::open(&self.0)
            .map_err(|error| io::Error::new(error.kind(), format!("open blob {}: {error}", self.0.display())))?;
        Ok(Box::new(file))
    }
}

/// A blob in memory: configs and the like.
#[derive(Debug, Clone)]
pub struct BytesBlob(Arc<[u8]>);

impl BytesBlob {
    /// These bytes are the blob.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> BytesBlob {
        BytesBlob(bytes.into())
    }
}

impl BlobSource for BytesBlob {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0.clone())))
    }
}

/// A blob that somebody else wrote: a part of a file whose bytes are checked each time they are read. The last of them are
/// not handed out when the digest is another, so that whoever copies them notices before the copy is whole.
#[derive(Debug, Clone)]
pub(crate) struct CheckedBlob {
    file: Holder,
    offset: u64,
    size: u64,
    digest: Digest,
}

/// A file, opened when it is read, or open already.
#[derive(Debug, Clone)]
enum Holder {
    Path(PathBuf),
    /// A folder that is open, wherever it may lie by now, and the file's path in it. What it was called is for messages.
    Within(Arc<File>, PathBuf, PathBuf),
    /// A whole file that is open, and what it was called.
    Held(Arc<File>, PathBuf),
    Open(Arc<File>),
}

impl CheckedBlob {
    /// The whole of this file.
    pub(crate) fn file(path: PathBuf, descriptor: &Descriptor) -> CheckedBlob {
        CheckedBlob { file: Holder::Path(path), offset: 0, size: descriptor.size, digest: descriptor.digest.clone() }
    }

    /// The whole of a file of a folder, which is called `shown`.
    pub(crate) fn within(folder: Arc<File>, shown: &Path, name: &Path, descriptor: &Descriptor) -> CheckedBlob {
        let file = Holder::Within(folder, name.to_owned(), shown.join(name));
        CheckedBlob { file, offset: 0, size: descriptor.size, digest: descriptor.digest.clone() }
    }

    /// The same, and the file is open from now on: it is read even where its folder is taken apart. One that cannot be opened is
    /// opened when it is read.
    pub(crate) fn held(self) -> CheckedBlob {
        let file = match self.file {
            Holder::Within(folder, name, shown) => match open_within(&folder, &name) {
                Ok(file) => Holder::Held(Arc::new(file), shown),
                Err(_) => Holder::Within(folder, name, shown),
            },
            file => file,
        };
        CheckedBlob { file, ..self }
    }

    /// A part of this file.
    pub(crate) fn part(file: Arc<File>, offset: u64, size: u64, digest: Digest) -> CheckedBlob {
        CheckedBlob { file: Holder::Open(file), offset, size, digest }
    }
}

impl CheckedBlob {
    /// A file that was opened, if it has the size that it should have.
    fn whole(&self, path: &Path, opened: io::Result<Arc<File>>) -> io::Result<Arc<File>> {
        let about = |kind, reason: &dyn std::fmt::Display| {
            io::Error::new(kind, format!("open blob {}: {reason}", path.display()))
        };
        let file = opened.map_err(|error| about(error.kind(), &error))?;
        let length = file.metadata()?.len();
        if length != self.size {
            let reason = format!("it has {length} bytes and its descriptor says {}", self.size);
            return Err(about(io::ErrorKind::InvalidData, &reason));
        }
        Ok(file)
    }
}

fn open_within(folder: &File, name: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, rustix::fs::Mode::empty())?.into())
}

impl BlobSource for CheckedBlob {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let file = match &self.file {
            Holder::Open(file) => Arc::clone(file),
            Holder::Path(path) => self.whole(path, File::open(path).map(Arc::new))?,
            Holder::Within(folder, name, shown) => self.whole(shown, open_within(folder, name).map(Arc::new))?,
            Holder::Held(file, shown) => self.whole(shown, Ok(Arc::clone(file)))?,
        };
        let hasher = Some(Hasher::new(self.digest.algorithm()));
        let part = FilePart { file, offset: self.offset, left: self.size };
        Ok(Box::new(Checked { part, hasher, expected: self.digest.clone() }))
    }
}

/// Some bytes of a file that others may read at the same time.
pub(crate) struct FilePart {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) left: u64,
}

impl Read for FilePart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        if count == 0 {
            let message = format!("the file ends {} bytes early", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

struct Checked {
    part: FilePart,
    hasher: Option<Hasher>,
    expected: Digest,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.part.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        if self.part.left == 0
            && let Some(hasher) = self.hasher.take()
        {
            let got = hasher.finish();
            if got != self.expected {
                let message = format!("blob {} has other bytes: got {got}", self.expected);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_of_a_blob_that_is_another_are_not_handed_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        fs::write(&path, "0123456789").unwrap();
        let read = |blob: CheckedBlob| {
            let mut bytes = Vec::new();
            let result = blob.open().and_then(|mut reader| reader.read_to_end(&mut bytes));
            (bytes, result.map_err(|error| error.to_string()))
        };
        let descriptor = |bytes: &[u8]| Descriptor::of(crate::image::MediaType::OCI_LAYER, bytes);
        assert_eq!(read(CheckedBlob::file(path.clone(), &descriptor(b"0123456789"))), (b"0123456789".to_vec(), Ok(10)));
        let (bytes, result) = read(CheckedBlob::file(path.clone(), &descriptor(b"012345678x")));
        assert!(bytes.is_empty() && result.unwrap_err().contains("has other bytes"));
        let (_, result) = read(CheckedBlob::file(path.clone(), &descriptor(b"short")));
        assert!(result.unwrap_err().contains("it has 10 bytes and its descriptor says 5"));
        let file = Arc::new(File::open(&path).unwrap());
        assert_eq!(read(CheckedBlob::part(Arc::clone(&file), 2, 3, Digest::of(b"234"))).0, b"234");
        assert!(
            read(CheckedBlob::part(Arc::clone(&file), 8, 3, Digest::of(b"89x")))
                .1
                .unwrap_err()
                .contains("1 bytes early")
        );
        assert!(read(CheckedBlob::part(file, 2, 0, Digest::of(b"x"))).1.is_err(), "an empty blob is checked too");
    }

    #[test]
    fn a_blob_is_found_under_its_digest_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path().join("blobs")).unwrap();
        let digest = Digest::of(b"hello");
        assert_eq!(blobs.get(&digest), None);
        assert_eq!(blobs.insert(b"hello").unwrap(), digest);
        assert_eq!(fs::read(blobs.get(&digest).unwrap()).unwrap(), b"hello");
    }

    #[test]
    fn a_blob_that_was_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(folder.path()).unwrap();
        let mut blob = blobs.create().unwrap();
        blob.write_all(b"half").unwrap();
        drop(blob);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["sha256"]);
    }
}
