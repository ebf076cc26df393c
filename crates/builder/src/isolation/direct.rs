//! `direct`: the container's own "/" is the image's. No namespace, no mount, no right beyond those every container's
//! root has: the way Kaniko works, and the only one that works everywhere.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zuwai_snapshot::{Ignore, RootFs};

use super::mount::Laid;
use super::{Cancel, Command, Evidence, Exit, Isolation, IsolationError, Named, Network, OutputSink, Wish, running};

/// What `direct` must know of the container it is in.
#[derive(Debug, Clone)]
pub struct DirectOptions {
    /// What was seen of the machine: see [`Evidence::look`].
    pub evidence: Evidence,
    /// `--force`: take it for a container although nothing shows one. A machine that shows itself as one is refused
    /// all the same.
    pub force: bool,
    /// The user this process runs as.
    pub uid: u32,
    /// Everything in the container that is no image's: mount points, the work folder, the builder's own folder. Absolute.
    pub ignored: Vec<PathBuf>,
    /// And what the user named.
    pub named: Named,
    /// The current directory of whoever asked for the build. A shell that stands in it must find itself there afterwards,
    /// so the folder itself is never moved; what lies in it is.
    pub current_directory: PathBuf,
    /// `--cleanup`: when a build ends, remove everything in the container that is not ignored, its own files too.
    pub cleanup: bool,
}

/// A name that nobody gives a file: a folder that leads to an ignored path stays where it is.
const STAYS: &str = ".zuwai-stays";

/// The container's own root filesystem.
#[derive(Debug)]
pub struct Direct {
    /// What is left alone in any case.
    ignored: Ignore,
    /// See [`STAYS`].
    stays: PathBuf,
    /// The contexts that have to stay where they are because something is mounted inside them.
    contexts: Mutex<Vec<PathBuf>>,
    cleanup: bool,
}

impl Direct {
    /// Checks that this is a container and that its root can be built in; changes nothing.
    pub fn new(options: DirectOptions) -> Result<Direct, IsolationError> {
        match options.evidence {
            Evidence::Container(_) => {}
            Evidence::Machine(why) => return Err(IsolationError::NotInContainer { why, confirmable: false }),
            Evidence::Unknown if options.force => {}
            Evidence::Unknown => {
                let why = "nothing shows that this one is a container's".to_owned();
                return Err(IsolationError::NotInContainer { why, confirmable: true });
            }
        }
        if options.uid != 0 {
            return Err(IsolationError::NotRoot { uid: options.uid });
        }
        let kernel = ["/proc", "/sys", "/dev"].map(PathBuf::from);
        let ignored = options.named.ignore(options.ignored.into_iter().chain(kernel));
        Ok(Direct {
            ignored,
            stays: options.current_directory.join(STAYS),
            contexts: Mutex::default(),
            cleanup: options.cleanup,
        })
    }
}

impl Direct {
    fn ignore(&self) -> Ignore {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        self.ignored.with(std::iter::once(self.stays.clone()).chain(contexts.iter().cloned()))
    }

    /// The container's own files take the place of the image's.
    fn restore(&self, parked: &Path, leftover: &Path) -> Result<(), IsolationError> {
        let root = self.root()?;
        if let Some(mut ignored) = read_mark(parked)? {
            ignored.patterns.extend(root.ignore().patterns().map(str::to_owned));
            let root = RootFs::open(Path::new("/"), ignored.ignore(root.ignore().iter().map(Path::to_owned)))?;
            // All that lies in the root is the build's: what cannot be moved aside can go.
            if root.park(leftover).is_err() {
                root.clear()?;
            }
            let path = mark(parked);
            fs::remove_file(&path).map_err(|source| IsolationError::Mark { path, source })?;
        }
        put_back(&root, parked)
    }

    fn root(&self) -> Result<RootFs, IsolationError> {
        Ok(RootFs::open(Path::new("/"), self.ignore())?)
    }
}

/// Beside the parked files while, and only while, all that lies in the root is the build's: a build that was killed is
/// put right by the next one, and whether it had moved the container's files out entirely must be known then. It holds
/// what was ignored, since another build may be told to ignore other things.
fn mark(parked: &Path) -> PathBuf {
    parked.with_extension("complete")
}

/// Before a path with wildcards in the mark: other paths begin with a slash.
const PATTERN: &[u8] = b"*";

fn write_mark(parked: &Path, ignore: &Ignore) -> Result<(), IsolationError> {
    let paths = ignore.iter().map(|path| path.as_os_str().as_bytes().to_vec());
    let patterns = ignore.patterns().map(|pattern| [PATTERN, pattern.as_bytes()].concat());
    let path = mark(parked);
    fs::write(&path, paths.chain(patterns).collect::<Vec<_>>().join(&0))
        .map_err(|source| IsolationError::Mark { path, source })
}

/// What was ignored when the root became the build's; `None` when it is not the build's.
fn read_mark(parked: &Path) -> Result<Option<Named>, IsolationError> {
    let path = mark(parked);
    match fs::read(&path) {
        Ok(text) => {
            let mut named = Named::default();
            for entry in text.split(|&byte| byte == 0) {
                match entry.strip_prefix(PATTERN) {
                    Some(pattern) => named.patterns.push(String::from_utf8_lossy(pattern).into_owned()),
                    None => named.paths.push(PathBuf::from(OsStr::from_bytes(entry))),
                }
            }
            Ok(Some(named))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IsolationError::Mark { path, source }),
    }
}

fn put_back(root: &RootFs, parked: &Path) -> Result<(), IsolationError> {
    root.restore(parked).map_err(|source| IsolationError::PutBack { parked: parked.to_owned(), source })?;
    // What is not empty is kept, and found by the next build.
    let _ = fs::remove_dir(parked);
    Ok(())
}

/// Folders that are never a context's alone.
const OF_EVERY_IMAGE: [&str; 12] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var"];

/// Stages change places by rename: what is done is moved aside, a few top-level folders at a time, and read where it
/// lies; nothing is deleted, copied or unpacked a second time.
impl Isolation for Direct {
    fn recover(&self, parked: &Path, leftover: &Path) -> Result<(), IsolationError> {
        if parked.exists() { self.restore(parked, leftover) } else { Ok(()) }
    }

    fn begin(&self, parked: &Path, contexts: &[&Path]) -> Result<(), IsolationError> {
        if contexts.contains(&Path::new("/")) {
            return Err(IsolationError::ContextIsRoot);
        }
        // What a pattern may match in a context is no reason to take the whole of it out of the image.
        let paths = Ignore::new(self.ignored.iter().map(Path::to_owned));
        let stays = |context: &&&Path| !self.ignored.covers(context) && paths.leads_to(context);
        let staying: Vec<PathBuf> = contexts.iter().filter(stays).map(|context| context.to_path_buf()).collect();
        if let Some(path) =
            staying.iter().find(|path| OF_EVERY_IMAGE.iter().any(|folder| path.as_path() == Path::new(folder)))
        {
            return Err(IsolationError::ContextInTheWay { path: path.clone() });
        }
        *self.contexts.lock().unwrap_or_else(PoisonError::into_inner) = staying;
        let root = self.root()?;
        let begun = root.park(parked).map_err(IsolationError::from).and_then(|()| write_mark(parked, root.ignore()));
        begun.or_else(|error| put_back(&root, parked).and(Err(error)))
    }

    fn enter(&self, _: &Path) -> Result<RootFs, IsolationError> {
        Ok(self.root()?.mark_scaffold())
    }

    fn leave(&self, root: &RootFs, folder: &Path) -> Result<(), IsolationError> {
        Ok(root.park(folder)?)
    }

    fn end(&self, parked: &Path, leftover: &Path) -> Result<(), IsolationError> {
        self.restore(parked, leftover)?;
        if self.cleanup {
            self.root()?.clear()?;
        }
        Ok(())
    }

    fn moved(&self, context: &Path, parked: &Path) -> PathBuf {
        if self.ignore().covers(context) {
            return context.to_owned();
        }
        parked.join(context.strip_prefix("/").unwrap_or(context))
    }

    fn run(
        &self,
        _: &RootFs,
        command: &Command,
        _: &dyn Laid,
        output: &OutputSink<'_>,
        cancel: &Cancel,
    ) -> Result<Exit, IsolationError> {
        if command.network == Network::None {
            self.check(Wish::Offline)?;
        }
        running::run(command, None, output, cancel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_refused_even_when_forced_and_a_user_without_rights_too() {
        let options = |evidence, force, uid| DirectOptions {
            evidence,
            force,
            uid,
            ignored: Vec::new(),
            named: Named::default(),
            current_directory: PathBuf::from("/"),
            cleanup: false,
        };
        let machine = Evidence::Machine("process 1 is systemd".to_owned());
        let error = Direct::new(options(machine, true, 0)).unwrap_err();
        assert!(error.to_string().ends_with("process 1 is systemd"), "{error}");
        assert!(!error.hint().unwrap().contains("--force"));
        let error = Direct::new(options(Evidence::Unknown, false, 0)).unwrap_err();
        assert!(error.hint().unwrap().contains("--force"));
        assert!(Direct::new(options(Evidence::Unknown, true, 0)).is_ok());
        let container = Evidence::Container("/.dockerenv exists".to_owned());
        let error = Direct::new(options(container.clone(), false, 1000)).unwrap_err();
        assert!(error.to_string().contains("user 1000"), "{error}");
        assert!(Direct::new(options(container, false, 0)).is_ok());
    }
}
