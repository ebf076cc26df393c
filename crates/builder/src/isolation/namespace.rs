//! `namespace`: a private root folder that the command is moved into, with namespaces of its own. For a laptop or a virtual
//! machine, as root or, inside a user namespace that this process already is in, as anybody.
//!
//! Stages are built in the work folder, where nothing of the machine's lies: there is nothing to park and nothing to put
//! back. What a command needs besides the image (`/proc`, `/dev`, `/sys`, names of hosts) is mounted for it alone and is
//! gone with it; nobody else, and no look for changes, ever sees it.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zuwai_snapshot::{Kind, RootFs, Stub};

use super::mount::{self, Laid, Mount, MountError, Overlay, OverlaySource};
use super::sandbox::{Deed, Sandbox, Step};
use super::{
    Cancel, Command, Exit, Isolation, IsolationError, Named, Network, OutputSink, Wish, private_root, running,
};

/// What `namespace` must know.
#[derive(Debug, Clone)]
pub struct NamespaceOptions {
    /// What of the image is part of no layer.
    pub ignored: Named,
    /// What a command finds in `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    /// What a command finds in `/etc/hosts`.
    pub hosts: Vec<u8>,
    /// How many user and group ids there are, from 0: those of a user namespace, or `u32::MAX`.
    pub ids: u32,
}

/// A private root, and namespaces for each command.
#[derive(Debug)]
pub struct Namespace {
    options: NamespaceOptions,
    /// The folder for the files that are mounted to `/etc`, for as long as the build goes on, those of each stage in a
    /// folder of its own: what one RUN writes to them the next one reads, and no layer has.
    provided: Mutex<Option<PathBuf>>,
}

impl Namespace {
    /// Changes nothing. Whether the kernel lets it work is found out by [`namespaces_allowed`](super::namespaces_allowed).
    #[must_use]
    pub fn new(options: NamespaceOptions) -> Namespace {
        Namespace { options, provided: Mutex::default() }
    }

    /// The folder with the files of a root, made when its first command asks for it.
    fn provided(&self, root: &RootFs) -> Result<PathBuf, IsolationError> {
        let provided = self.provided.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = provided.clone().unwrap_or_default().join(root.path().file_name().unwrap_or_default());
        let hosts = [self.options.hosts.as_slice(), b"\n127.0.0.1 ", HOST_NAME.as_bytes(), b"\n"].concat();
        let write = || {
            if folder.is_dir() {
                return Ok(());
            }
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("resolv.conf"), &self.options.resolv_conf)?;
            fs::write(folder.join("hosts"), hosts)
        };
        write().map_err(|source| IsolationError::Place { path: folder.clone(), source })?;
        Ok(folder)
    }

    /// Places in the image that the files of the builder are mounted on.
    fn places(&self, root: &RootFs) -> Result<Vec<(PathBuf, Stub)>, IsolationError> {
        let mut places = Vec::new();
        let provided = self.provided(root)?;
        for name in PROVIDED {
            if let Some(stub) = root.stub(&Path::new("/etc").join(name), Kind::File)? {
                places.push((provided.join(name), stub));
            }
        }
        Ok(places)
    }

    fn check_ids(&self, command: &Command) -> Result<(), IsolationError> {
        let identity = &command.identity;
        let ids = [identity.uid, identity.gid].into_iter().chain(identity.groups.iter().copied());
        match ids.max().filter(|id| *id >= self.options.ids) {
            Some(id) => Err(IsolationError::UnmappedId { id, ids: self.options.ids }),
            None => Ok(()),
        }
    }
}

/// Files of /etc that belong to the machine a command runs on.
const PROVIDED: [&str; 2] = ["resolv.conf", "hosts"];

/// What the machine is called in there; the name is in its /etc/hosts.
const HOST_NAME: &str = "zuwai";

impl Isolation for Namespace {
    fn builds_side_by_side(&self) -> bool {
        true
    }

    fn begin(&self, parked: &Path, _: &[&Path]) -> Result<(), IsolationError> {
        let folder = parked.with_file_name("provided");
        *self.provided.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder);
        Ok(())
    }

    fn enter(&self, folder: &Path) -> Result<RootFs, IsolationError> {
        private_root::make(folder)?;
        Ok(RootFs::open(folder, private_root::ignore(&self.options.ignored))?)
    }

    fn leave(&self, root: &RootFs, folder: &Path) -> Result<(), IsolationError> {
        private_root::leave(root, folder)
    }

    fn lacks(&self, wish: Wish<'_>) -> Option<&'static str> {
        match wish {
            Wish::Offline => None,
            Wish::Insecure => Some("a command has no rights outside its own namespaces"),
            Wish::Device(_) => Some("a command has the devices that every container has"),
        }
    }

    fn lay(&self, mounts: &[Mount<'_>], root: &RootFs, aside: &Path) -> Result<Box<dyn Laid>, MountError> {
        mount::lay_with_overlays(mounts, root, aside)
    }

    fn run(
        &self,
        root: &RootFs,
        command: &Command,
        laid: &dyn Laid,
        output: &OutputSink<'_>,
        cancel: &Cancel,
    ) -> Result<Exit, IsolationError> {
        self.check_ids(command)?;
        let places = self.places(root)?;
        let steps = steps(root.path(), &places, laid.overlays(), command.network);
        let sandbox = Sandbox::new(steps, command.network == Network::None);
        let exit = running::run(command, Some(sandbox), output, cancel);
        // The last first: what was made for one of them may hold the next.
        let removed = places.into_iter().rev().map(|(_, stub)| stub.remove()).fold(Ok(()), Result::and);
        match exit {
            Ok(exit) if exit.is_success() => Ok(removed.map(|()| exit)?),
            // What the command failed of is the reason to tell.
            exit => exit,
        }
    }
}

const QUIET: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
/// `MOUNT_ATTR_RDONLY`, `NOSUID`, `NODEV`, `NOEXEC`: `mount_setattr(2)`.
const READ_ONLY: u64 = 1;
const NO_SETUID: u64 = 2;
const NO_DEVICES: u64 = 4;
const NO_PROGRAMS: u64 = 8;

/// What of /proc and /sys tells of the machine, or changes it: hidden or read-only, as container runtimes do.
const HIDDEN_FILES: [&str; 6] =
    ["proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/timer_stats", "proc/sched_debug"];
const HIDDEN_FOLDERS: [&str; 5] =
    ["proc/acpi", "proc/asound", "proc/scsi", "sys/firmware", "sys/devices/virtual/powercap"];
const READ_ONLY_PLACES: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Everything that is done before a command is started, in order.
fn steps(root: &Path, places: &[(PathBuf, Stub)], overlays: &[Overlay], network: Network) -> Vec<Step> {
    let below = |path: &str| text(&root.join(path));
    let mount = |kind: &str, path: &str, flags, data: &str| Deed::Mount {
        kind: words(kind),
        target: below(path),
        flags,
        data: words(data),
    };
    let bind =
        |source: &Path, target: &Path| Deed::Bind { source: text(source), target: text(target), recursive: false };
    let read_only = |path: &str, recursive| {
        let attributes = READ_ONLY | NO_SETUID | NO_DEVICES | NO_PROGRAMS;
        let first = Deed::Restrict { target: below(path), attributes, recursive };
        [first, Deed::Remount { target: below(path), flags: QUIET | libc::MS_RDONLY }]
    };
    let mut steps = vec![
        Step::must(Deed::Private),
        // A device that the image holds, or that a command makes, is a file and nothing more.
        Step::must(bind(root, root)),
        Step::any([
            Deed::Restrict { target: text(root), attributes: NO_DEVICES, recursive: false },
            Deed::Remount { target: text(root), flags: libc::MS_NODEV },
        ]),
        Step::must(mount("proc", "proc", QUIET, "")),
        Step::any([
            mount("sysfs", "sys", QUIET | libc::MS_RDONLY, ""),
            // The machine's network goes with the machine's /sys.
            Deed::Bind { source: words("/sys"), target: below("sys"), recursive: true },
        ]),
        Step::any(read_only("sys", true)),
        Step::must(mount("tmpfs", "dev", libc::MS_NOSUID, "mode=755,size=65536k")),
    ];
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let path = format!("dev/{name}");
        steps.push(Step::must(Deed::File { path: below(&path) }));
        steps.push(Step::must(bind(&Path::new("/").join(&path), &root.join(&path))));
    }
    for (name, target) in [
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
        ("dev/ptmx", "pts/ptmx"),
        ("dev/pipes", super::mount::SCRIPTS),
    ] {
        steps.push(Step::must(Deed::Link { path: below(name), target: words(target) }));
    }
    for name in ["dev/pts", "dev/shm", "dev/mqueue"] {
        steps.push(Step::must(Deed::Folder { path: below(name), mode: 0o755 }));
    }
    let terminals = "newinstance,ptmxmode=0666,mode=0620";
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    steps.push(Step::any([
        mount("devpts", "dev/pts", flags, &format!("{terminals},gid=5")),
        // The group of terminals is not among the ids of this user namespace.
        mount("devpts", "dev/pts", flags, terminals),
    ]));
    steps.push(Step::must(mount("tmpfs", "dev/shm", QUIET, "mode=1777,size=65536k")));
    steps.push(Step::must(mount("mqueue", "dev/mqueue", QUIET, "")).optional());
    for path in HIDDEN_FILES {
        steps.push(Step::must(bind(Path::new("/dev/null"), &root.join(path))).optional());
    }
    for path in HIDDEN_FOLDERS {
        steps.push(Step::must(mount("tmpfs", path, QUIET | libc::MS_RDONLY, "size=0")).optional());
    }
    for path in READ_ONLY_PLACES {
        steps.push(Step::must(bind(&root.join(path), &root.join(path))).optional());
        steps.push(Step::any(read_only(path, false)).optional());
    }
    for (source, stub) in places {
        steps.push(Step::must(bind(source, stub.on_machine())));
    }
    overlay(&mut steps, root, overlays);
    if network == Network::None {
        steps.push(Step::must(Deed::LoopbackUp).optional());
    }
    steps.push(Step::must(Deed::HostName(words(HOST_NAME))));
    steps.push(Step::must(Deed::Root(text(root))));
    steps
}

/// Where files in memory are made; gone before the command starts.
const MEMORY: &str = "dev/.zuwai";

/// What is laid over the root for the command alone. A file in memory is made in a filesystem that nobody can see, is seen
/// at its place, and the filesystem's own place goes.
fn overlay(steps: &mut Vec<Step>, root: &Path, overlays: &[Overlay]) {
    let memory = root.join(MEMORY);
    let size: usize = overlays.iter().map(|overlay| overlay.source.size()).sum();
    if size > 0 {
        steps.push(Step::must(Deed::Folder { path: text(&memory), mode: 0o700 }));
        // Each file takes whole pages, and one more for itself.
        let data = words(&format!("mode=700,size={}k", size / 1024 + 128 * (overlays.len() + 1)));
        steps.push(Step::must(Deed::Mount { kind: words("tmpfs"), target: text(&memory), flags: QUIET, data }));
    }
    for (number, Overlay { place, source }) in overlays.iter().enumerate() {
        let from = match source {
            OverlaySource::Memory(content, card) => {
                let path = memory.join(number.to_string());
                steps.push(Step::must(Deed::Write { path: text(&path), content: content.clone(), card: *card }));
                path
            }
            OverlaySource::File(path) | OverlaySource::Folder(path) => path.clone(),
        };
        // Something to mount on is there, but for what the kernel's folders lack.
        let above = place.ancestors().skip(1).take_while(|above| above.starts_with(root) && *above != root);
        for folder in above.collect::<Vec<_>>().into_iter().rev() {
            steps.push(Step::must(Deed::Folder { path: text(folder), mode: 0o755 }).optional());
        }
        let stub = match source {
            OverlaySource::Folder(_) => Deed::Folder { path: text(place), mode: 0o755 },
            _ => Deed::File { path: text(place) },
        };
        steps.push(Step::must(stub).optional());
        steps.push(Step::must(Deed::Bind { source: text(&from), target: text(place), recursive: true }));
        if matches!(source, OverlaySource::Memory(..)) {
            let attributes = READ_ONLY | NO_SETUID | NO_DEVICES | NO_PROGRAMS;
            steps.push(Step::any([
                Deed::Restrict { target: text(place), attributes, recursive: false },
                Deed::Remount { target: text(place), flags: QUIET | libc::MS_RDONLY },
            ]));
        }
    }
    if size > 0 {
        steps.push(Step::must(Deed::Unmount { path: text(&memory) }));
    }
}

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path that was opened has no NUL")
}

fn words(text: &str) -> CString {
    CString::new(text).expect("constants have no NUL")
}
