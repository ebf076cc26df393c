//! What COPY, ADD and bind mounts take out of the build context, as inputs of a key: names below the source, kinds, bytes,
//! modes, link targets and extended attributes. Owners do not reach the image from there, and modification times are left
//! out (see [`key`](super::key)).

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tracing::info_span;
use zuwai_snapshot::{Include, Kind as FileKind, Metadata, ModeChange, RootFs};

use super::key::{Framed, Input, Inputs, Kind, Looked, Seen};
use crate::context::files::{self, Named, Pivot};
use crate::context::{Contexts, Dockerignore, Sight};
use crate::step::StepError;

/// How much of a file is read at once.
const CHUNK: usize = 256 * 1024;

/// A thread more is worth its while for this many files.
const FILES_A_THREAD: usize = 16;

/// A build context, and the hashes of the files that were read so far: several instructions take the same ones.
pub(crate) struct Content<'a> {
    /// The place of a named context; `None` for the main one.
    place: Option<usize>,
    root: &'a RootFs,
    ignore: &'a Dockerignore,
    read: Mutex<HashMap<PathBuf, [u8; 32]>>,
}

/// Those of a whole build.
pub(crate) struct Contents<'a> {
    pub(crate) main: Content<'a>,
    /// By the place of the context in the request.
    pub(crate) named: BTreeMap<usize, Content<'a>>,
}

impl<'a> Contents<'a> {
    pub(crate) fn new(contexts: &'a Contexts) -> Self {
        let named = contexts.named.iter().map(|(place, sight)| (*place, Content::named(*place, sight)));
        Contents { main: Content::new(&contexts.main.root, &contexts.main.ignore), named: named.collect() }
    }
}

/// What an instruction takes out of the context.
#[derive(Default)]
pub(crate) struct Taking<'a> {
    /// Paths and patterns.
    pub(crate) sources: &'a [String],
    /// What becomes of the modes.
    pub(crate) chmod: Option<&'a ModeChange>,
    /// Whether sources keep the folders above them.
    pub(crate) parents: bool,
    /// What of a folder stays behind.
    pub(crate) exclude: Option<&'a Dockerignore>,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    /// Of each file or folder that a source names, whether it is a folder.
    folders: Vec<bool>,
    entries: Vec<Entry>,
    seen: Seen,
}

/// The hash of a file that some thread reads, once it is there.
type Hashing = Mutex<Option<Result<[u8; 32], StepError>>>;

/// One entry that comes along.
struct Entry {
    /// Its path in the context.
    path: PathBuf,
    /// Its path below the source it belongs to; of a source that is no folder, its name.
    name: PathBuf,
    /// The source's place among the sources.
    source: usize,
    metadata: Metadata,
    /// The entry of the same source that it is a hard link of.
    link_of: Option<PathBuf>,
}

impl<'a> Content<'a> {
    pub(crate) fn new(root: &'a RootFs, ignore: &'a Dockerignore) -> Self {
        Content { place: None, root, ignore, read: Mutex::default() }
    }

    /// The same of a named context.
    fn named(place: usize, sight: &'a Sight) -> Self {
        Content { place: Some(place), ..Content::new(&sight.root, &sight.ignore) }
    }

    /// Adds what an instruction takes: of each source whether it is a folder, and what of it comes along.
    pub(crate) fn add(&self, inputs: &mut Inputs, taking: &Taking<'_>) -> Result<(), StepError> {
        let mut found = Found::default();
        for source in taking.sources {
            if taking.parents {
                self.with_parents(source, taking, &mut found)?;
                continue;
            }
            for named in files::matching(self.root, std::slice::from_ref(source), Some(self.ignore))? {
                let name = named.path.file_name().map(PathBuf::from).unwrap_or_default();
                self.one(&named, name, &|_| Include::Yes, taking, &mut found)?;
            }
        }
        self.hash(inputs, found, taking.chmod)
    }

    /// Adds what a mount shows: one path, in which wildcards are characters. Of a folder its own mode is seen, too.
    pub(crate) fn show(&self, inputs: &mut Inputs, source: &str) -> Result<(), StepError> {
        let named = files::one(self.root, source, Some(self.ignore))?;
        let mut found = Found::default();
        if named.kind == FileKind::Dir {
            let mode = self.root.metadata(&named.real)?.map_or(0, |metadata| metadata.mode);
            inputs.show(Kind::Argument, format!("mode of {source}"), &format!("{mode:04o}"));
        }
        self.one(&named, PathBuf::new(), &|_| Include::Yes, &Taking::default(), &mut found)?;
        self.hash(inputs, found, None)
    }

    /// `--parents`: what matches below the folder that the pattern begins in, with the folders above it.
    fn with_parents(&self, source: &str, taking: &Taking<'_>, found: &mut Found) -> Result<(), StepError> {
        let Pivot { folder, pattern, literal, shown } = files::pivot(source)?;
        for folder in files::matching(self.root, &[folder], Some(self.ignore))? {
            if literal {
                files::one(self.root, &format!("{}/{pattern}", folder.path.display()), Some(self.ignore))?;
            }
            if folder.kind == FileKind::Dir {
                let only = |path: &Path| shown.as_ref().map_or(Include::Yes, |shown| shown.include(path));
                self.one(&folder, PathBuf::new(), &only, taking, found)?;
            }
        }
        Ok(())
    }

    /// One file, or what of a folder comes along.
    fn one(
        &self,
        named: &Named,
        name: PathBuf,
        only: &dyn Fn(&Path) -> Include,
        taking: &Taking<'_>,
        found: &mut Found,
    ) -> Result<(), StepError> {
        let links = HashMap::new();
        let source = found.folders.len();
        found.folders.push(named.kind == FileKind::Dir);
        let mut walk = Walk { content: self, source, top: &named.real, only, exclude: taking.exclude, links, found };
        if named.kind == FileKind::Dir {
            walk.seen(&named.real)?;
            walk.below(&named.real, Path::new(""))
        } else {
            walk.entry(named.real.clone(), name)
        }
    }

    fn hash(&self, inputs: &mut Inputs, found: Found, chmod: Option<&ModeChange>) -> Result<(), StepError> {
        for (number, folder) in found.folders.iter().enumerate() {
            let kind = if *folder { "a folder" } else { "a file" };
            inputs.show(Kind::Argument, format!("source {}", number + 1), kind);
        }
        let hashes = self.hash_files(&found.entries)?;
        for (entry, hash) in found.entries.iter().zip(hashes) {
            inputs.list.push(self.input(entry, hash.as_ref(), chmod)?);
        }
        inputs.seen.extend(found.seen);
        Ok(())
    }

    fn input(&self, entry: &Entry, content: Option<&[u8; 32]>, chmod: Option<&ModeChange>) -> Result<Input, StepError> {
        let Metadata { kind, mode, rdev, .. } = entry.metadata;
        let mut hash = Framed::new("entry");
        hash.part(&(entry.source as u64).to_le_bytes());
        hash.part(entry.name.as_os_str().as_bytes());
        if let Some(first) = &entry.link_of {
            hash.part(b"hard link");
            hash.part(first.as_os_str().as_bytes());
        }
        hash.part(format!("{kind:?}").as_bytes());
        let mode = chmod.map_or(mode, |change| change.apply(mode, kind == FileKind::Dir));
        match kind {
            FileKind::Symlink => hash.part(self.root.read_link(&entry.path)?.as_os_str().as_bytes()),
            FileKind::CharDevice | FileKind::BlockDevice => hash.part(format!("{rdev:?} {mode:o}").as_bytes()),
            _ => hash.part(format!("{mode:o}").as_bytes()),
        }
        hash.part(content.map_or(&[][..], |content| content));
        let attributes = self.root.attributes(&entry.path)?;
        hash.part(&(attributes.len() as u64).to_le_bytes());
        for (name, value) in &attributes {
            hash.part(name);
            hash.part(value);
        }
        let name = entry.path.strip_prefix("/").unwrap_or(&entry.path).display().to_string();
        let shown = (kind != FileKind::Symlink).then(|| format!("{mode:04o}"));
        Ok(Input { kind: Kind::File, value: hash.finish(), name, shown })
    }

    /// The hash of each regular file's bytes, read on as many threads as the machine lets this process use.
    fn hash_files(&self, entries: &[Entry]) -> Result<Vec<Option<[u8; 32]>>, StepError> {
        let next = AtomicUsize::new(0);
        let results: Vec<Hashing> = entries.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            let _span = info_span!(target: "zuwai", "hash").entered();
            let mut buffer = vec![0; CHUNK];
            while let Some(place) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|place| *place < entries.len()) {
                let entry = &entries[place];
                if entry.metadata.kind == FileKind::File && entry.link_of.is_none() {
                    *lock(&results[place]) = Some(self.hash_file(&entry.path, &mut buffer));
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
        std::thread::scope(|scope| {
            (1..threads.min(entries.len() / FILES_A_THREAD)).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        results
            .into_iter()
            .map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner).transpose())
            .collect()
    }

    fn hash_file(&self, path: &Path, buffer: &mut [u8]) -> Result<[u8; 32], StepError> {
        if let Some(hash) = lock(&self.read).get(path) {
            return Ok(*hash);
        }
        let mut file = self.root.open_file(path)?;
        let mut hash = Sha256::new();
        loop {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(length) => hash.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StepError::Read { path: path.to_owned(), source }),
            }
        }
        let hash = hash.finalize().into();
        lock(&self.read).insert(path.to_owned(), hash);
        Ok(hash)
    }
}

/// The entries of one source, folders before what is in them, names in order.
struct Walk<'a> {
    content: &'a Content<'a>,
    source: usize,
    /// The source itself.
    top: &'a Path,
    /// What else says which paths below the source come along.
    only: &'a dyn Fn(&Path) -> Include,
    exclude: Option<&'a Dockerignore>,
    links: HashMap<(u64, u64), PathBuf>,
    found: &'a mut Found,
}

impl Walk<'_> {
    /// What of a folder comes along, as [`zuwai_snapshot::copy()`] decides it.
    fn below(&mut self, folder: &Path, relative: &Path) -> Result<(), StepError> {
        for name in self.content.root.read_dir(folder)? {
            let (path, relative) = (folder.join(&name), relative.join(&name));
            let include = self.include(&relative);
            if include == Include::No {
                continue;
            }
            let Some(metadata) = self.content.root.metadata(&path)? else { continue };
            if metadata.kind != FileKind::Dir {
                if include == Include::Yes {
                    self.entry(path, relative)?;
                }
                continue;
            }
            // A hidden folder comes along if something in it does.
            let before = self.found.entries.len();
            self.entry(path.clone(), relative.clone())?;
            self.below(&path, &relative)?;
            if include == Include::Below && self.found.entries.len() == before + 1 {
                self.found.entries.truncate(before);
            }
        }
        Ok(())
    }

    fn include(&self, relative: &Path) -> Include {
        let seen = self.content.ignore.include(&self.top.join(relative));
        let kept = self.exclude.map_or(Include::Yes, |exclude| exclude.include(relative));
        files::both(files::both(seen, kept), (self.only)(relative))
    }

    fn entry(&mut self, path: PathBuf, name: PathBuf) -> Result<(), StepError> {
        let Some(metadata) = self.seen(&path)? else { return Ok(()) };
        if metadata.kind == FileKind::Socket {
            return Ok(());
        }
        let mut link_of = None;
        if metadata.nlink > 1 && metadata.kind != FileKind::Dir {
            link_of = self.links.get(&metadata.identity).cloned();
            self.links.entry(metadata.identity).or_insert_with(|| name.clone());
        }
        self.found.entries.push(Entry { path, name, source: self.source, metadata, link_of });
        Ok(())
    }

    fn seen(&mut self, path: &Path) -> Result<Option<Metadata>, StepError> {
        let metadata = self.content.root.metadata(path)?;
        let context = self.content.place;
        self.found.seen.extend(metadata.map(|was| Looked { context, path: path.to_owned(), was }));
        Ok(metadata)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
