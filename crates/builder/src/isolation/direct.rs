//! `direct`: the container's own "/" is the image's. No namespace, no mount, no right beyond those every container's
//! root has: the way Kaniko works, and the only one that works everywhere.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::thread::CapabilitySet;
use zuwai_snapshot::{Ignore, RootFs};

use super::{Cancel, Command, Evidence, Exit, Identity, Isolation, IsolationError, OutputSink, spawn};
use crate::event::Stream;

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
    /// Everything in the container that is no image's: mount points, the work folder, the builder's own folder, paths
    /// the user named. Absolute.
    pub ignored: Vec<PathBuf>,
    /// The current directory of whoever asked for the build. A shell that stands in it must find itself there afterwards,
    /// so the folder itself is never moved; what lies in it is.
    pub current_directory: PathBuf,
}

/// A name that nobody gives a file: a folder that leads to an ignored path stays where it is.
const STAYS: &str = ".zuwai-stays";

/// The container's own root filesystem.
#[derive(Debug)]
pub struct Direct {
    ignored: Vec<PathBuf>,
    /// See [`STAYS`].
    stays: PathBuf,
    /// The build context, when it has to stay where it is because something is mounted inside it.
    context: Mutex<Option<PathBuf>>,
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
        let ignored = options.ignored.into_iter().chain(kernel).collect();
        Ok(Direct { ignored, stays: options.current_directory.join(STAYS), context: Mutex::default() })
    }
}

impl Direct {
    fn ignore(&self) -> Ignore {
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        Ignore::new(self.ignored.iter().chain([&self.stays]).cloned().chain(context.clone()))
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

fn write_mark(parked: &Path, ignore: &Ignore) -> Result<(), IsolationError> {
    let paths: Vec<&[u8]> = ignore.iter().map(|path| path.as_os_str().as_bytes()).collect();
    let path = mark(parked);
    fs::write(&path, paths.join(&0)).map_err(|source| IsolationError::Mark { path, source })
}

/// What was ignored when the root became the build's; `None` when it is not the build's.
fn read_mark(parked: &Path) -> Result<Option<Vec<PathBuf>>, IsolationError> {
    let path = mark(parked);
    match fs::read(&path) {
        Ok(text) => {
            Ok(Some(text.split(|&byte| byte == 0).map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()))
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

/// Stages change places by rename: what is done is moved aside, a few top-level folders at a time, and read where it
/// lies; nothing is deleted, copied or unpacked a second time.
impl Isolation for Direct {
    fn recover(&self, parked: &Path, leftover: &Path) -> Result<(), IsolationError> {
        if parked.exists() { self.end(parked, leftover) } else { Ok(()) }
    }

    fn begin(&self, parked: &Path, context: &Path) -> Result<(), IsolationError> {
        if context == Path::new("/") {
            return Err(IsolationError::ContextIsRoot);
        }
        let ignore = Ignore::new(self.ignored.iter().cloned());
        if !ignore.covers(context) && ignore.leads_to(context) {
            *self.context.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.to_owned());
        }
        let root = self.root()?;
        let begun = root.park(parked).map_err(IsolationError::from).and_then(|()| write_mark(parked, root.ignore()));
        begun.or_else(|error| put_back(&root, parked).and(Err(error)))
    }

    fn enter(&self, _: &Path) -> Result<RootFs, IsolationError> {
        self.root()
    }

    fn leave(&self, root: &RootFs, folder: &Path) -> Result<(), IsolationError> {
        Ok(root.park(folder)?)
    }

    fn end(&self, parked: &Path, leftover: &Path) -> Result<(), IsolationError> {
        let root = self.root()?;
        if let Some(ignored) = read_mark(parked)? {
            let root = RootFs::open(Path::new("/"), root.ignore().with(ignored))?;
            // All that lies in the root is the build's: what cannot be moved aside can go.
            if root.park(leftover).is_err() {
                root.clear()?;
            }
            let path = mark(parked);
            fs::remove_file(&path).map_err(|source| IsolationError::Mark { path, source })?;
        }
        put_back(&root, parked)
    }

    fn moved(&self, context: &Path, parked: &Path) -> PathBuf {
        if self.ignore().covers(context) {
            return context.to_owned();
        }
        parked.join(context.strip_prefix("/").unwrap_or(context))
    }

    fn run(&self, command: &Command, output: &OutputSink<'_>, cancel: &Cancel) -> Result<Exit, IsolationError> {
        let Some((program, arguments)) = command.arguments.split_first() else { return Ok(Exit { code: 0 }) };
        check_capabilities(&command.identity)?;
        let mut process = Process::new(program);
        process.args(arguments).current_dir(&command.working_dir).env_clear();
        for variable in &command.environment {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            process.env(name, value);
        }
        let keeper = match spawn::spawn_kept(&mut process, &command.identity) {
            Ok(keeper) => keeper,
            Err(error) => return not_started(program, error, output),
        };
        follow(keeper, output, cancel).map_err(|source| IsolationError::Wait { program: program.clone(), source })?
    }
}

/// Becoming another user or group takes a capability that every container has unless it is taken away. A command must not
/// be blamed for its lack.
fn check_capabilities(identity: &Identity) -> Result<(), IsolationError> {
    let (uid, gid) = (identity.uid, identity.gid);
    let Ok(sets) = rustix::thread::capabilities(None) else { return Ok(()) };
    let missing = |capability| Err(IsolationError::MissingCapability { capability, uid, gid });
    if uid != 0 && !sets.effective.contains(CapabilitySet::SETUID) {
        return missing("SETUID");
    }
    if (gid != 0 || uid != 0) && !sets.effective.contains(CapabilitySet::SETGID) {
        return missing("SETGID");
    }
    Ok(())
}

/// What a shell would say and answer for a program that cannot be executed.
fn not_started(program: &str, error: io::Error, output: &OutputSink<'_>) -> Result<Exit, IsolationError> {
    let code = match error.kind() {
        io::ErrorKind::NotFound => 127,
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => 126,
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => 126,
        _ => return Err(IsolationError::Start { program: program.to_owned(), source: error }),
    };
    output(Stream::Stderr, format!("{program}: {error}\n").as_bytes());
    Ok(Exit { code })
}

/// Hands on the output until the keeper, and with it everything, is gone.
fn follow(mut keeper: Child, output: &OutputSink<'_>, cancel: &Cancel) -> io::Result<Result<Exit, IsolationError>> {
    let (stdout, stderr) = (keeper.stdout.take(), keeper.stderr.take());
    thread::scope(|scope| {
        scope.spawn(move || pump(stdout, Stream::Stdout, output));
        scope.spawn(move || pump(stderr, Stream::Stderr, output));
        let cancelled = wait(&keeper, cancel)?;
        let status = keeper.wait()?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
        Ok(if cancelled { Err(IsolationError::Cancelled) } else { Ok(Exit { code }) })
    })
}

/// Waits for the keeper's end; true when it was asked to end before. The cancel token is looked at ten times a second.
fn wait(keeper: &Child, cancel: &Cancel) -> io::Result<bool> {
    let pid = i32::try_from(keeper.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let mut asked = false;
    loop {
        let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match poll(&mut [PollFd::new(&handle.as_fd(), PollFlags::IN)], Some(&tick)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(asked),
            Err(error) => return Err(error.into()),
        }
        if cancel.is_cancelled() && !asked {
            kill_process(pid, Signal::TERM)?;
            asked = true;
        }
    }
}

fn pump(from: Option<impl Read>, stream: Stream, output: &OutputSink<'_>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => output(stream, &buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The pipe of a process that is gone has nothing more to tell.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Runs in the machine's own root, where `run` changes nothing by itself.
    fn run(arguments: &[&str], identity: Identity, cancel: &Cancel) -> (Result<Exit, IsolationError>, String) {
        let direct = Direct { ignored: Vec::new(), stays: PathBuf::from("/"), context: Mutex::default() };
        let command = Command {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: vec!["PATH=/usr/bin:/bin".to_owned(), "ONLY=this".to_owned()],
            identity,
            working_dir: PathBuf::from("/usr"),
        };
        let output = Mutex::new(Vec::new());
        let exit = direct.run(&command, &|_, bytes| output.lock().unwrap().extend_from_slice(bytes), cancel);
        (exit, String::from_utf8(output.into_inner().unwrap()).unwrap())
    }

    fn shell(script: &str) -> (u8, String) {
        let (exit, output) = run(&["/bin/sh", "-c", script], Identity::default(), &Cancel::default());
        (exit.unwrap().code, output)
    }

    /// Whether a process whose command line holds this word is there.
    fn is_running(word: &str) -> bool {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).split('\0').any(|argument| argument == word)
        })
    }

    #[test]
    fn a_command_sees_its_own_environment_folder_and_mask_and_no_input() {
        let (code, output) = shell("env; pwd; umask; cat; ps -o tty= -p $$ 2>/dev/null; exit 0");
        assert_eq!(code, 0);
        let lines: Vec<&str> = output.lines().collect();
        assert!(lines.contains(&"ONLY=this") && lines.contains(&"/usr") && lines.contains(&"0022"), "{output}");
        assert!(!output.contains("CARGO"), "the environment of this process is not seen: {output}");
    }

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(shell("exit 42").0, 42);
        assert_eq!(shell("kill -9 $$").0, 137);
        let absent = run(&["no-such-program"], Identity::default(), &Cancel::default());
        assert_eq!(absent.0.unwrap().code, 127);
        assert!(absent.1.contains("no-such-program"));
        assert_eq!(run(&["/etc/passwd"], Identity::default(), &Cancel::default()).0.unwrap().code, 126);
    }

    #[test]
    fn a_command_runs_as_the_identity_it_is_given() {
        let identity = Identity { uid: 4242, gid: 4343, groups: vec![4343, 4444] };
        let (exit, output) = run(&["/bin/sh", "-c", "id -u; id -g; id -G"], identity, &Cancel::default());
        assert!(exit.unwrap().is_success());
        assert_eq!(output, "4242\n4343\n4343 4444\n");
    }

    #[test]
    fn nothing_a_command_leaves_behind_is_there_when_it_is_done() {
        let begin = Instant::now();
        let script = "setsid sh -c '(sleep 987651 & sleep 987652) &' & nohup sleep 987653 >/dev/null & sleep 0.1";
        assert_eq!(shell(script).0, 0);
        for word in ["987651", "987652", "987653"] {
            assert!(!is_running(word), "sleep {word} is still there");
        }
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_cancelled_command_ends_with_all_it_started() {
        let cancel = Cancel::default();
        let asker = cancel.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            asker.cancel();
        });
        let begin = Instant::now();
        let (exit, _) = run(&["/bin/sh", "-c", "sleep 987654 & sleep 987655"], Identity::default(), &cancel);
        thread.join().unwrap();
        assert!(matches!(exit, Err(IsolationError::Cancelled)), "{exit:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
        assert!(!is_running("987654") && !is_running("987655"));
    }

    #[test]
    fn a_machine_is_refused_even_when_forced_and_a_user_without_rights_too() {
        let options = |evidence, force, uid| DirectOptions {
            evidence,
            force,
            uid,
            ignored: Vec::new(),
            current_directory: PathBuf::from("/"),
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
