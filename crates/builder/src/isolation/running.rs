//! A command that runs: started, its output handed on, its end waited for. What surrounds it is another's choice.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command as Process};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::thread::CapabilitySet;

use super::sandbox::{self, Sandbox};
use super::{Cancel, Command, Exit, Identity, IsolationError, OutputSink, spawn};
use crate::event::Stream;

/// Runs a command to its end: see [`Isolation::run`](super::Isolation::run). Without a sandbox it runs in this process's own
/// root.
pub(super) fn run(
    command: &Command,
    sandbox: Option<Sandbox>,
    output: &OutputSink<'_>,
    cancel: &Cancel,
) -> Result<Exit, IsolationError> {
    let Some((program, arguments)) = command.arguments.split_first() else { return Ok(Exit { code: 0 }) };
    check_capabilities(&command.identity)?;
    let mut process = Process::new(program);
    process.args(arguments).env_clear();
    for variable in &command.environment {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        process.env(name, value);
    }
    let start = |source| IsolationError::Start { program: program.clone(), source };
    let sandbox = sandbox.map(Arc::new);
    let (reporter, failure) = match &sandbox {
        None => (None, None),
        Some(sandbox) => {
            let (reporter, failure) = sandbox::report().map_err(start)?;
            (Some((Arc::clone(sandbox), reporter)), Some(failure))
        }
    };
    let spawned = spawn::spawn_kept(&mut process, &command.identity, &command.working_dir, reporter);
    // With it go the reporters.
    drop(process);
    match spawned {
        Ok(keeper) => follow(keeper, output, cancel)
            .map_err(|source| IsolationError::Wait { program: program.clone(), source })?,
        Err(error) => {
            let failed = failure.and_then(sandbox::Failure::step);
            match failed.and_then(|number| Some(sandbox.as_ref()?.step(number)?.to_string())) {
                Some(what) => Err(IsolationError::Sandbox { what, source: error }),
                None => not_started(program, error, output),
            }
        }
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
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use super::super::Network;
    use super::*;

    /// Runs in the machine's own root, where `run` changes nothing by itself.
    fn run(arguments: &[&str], identity: Identity, cancel: &Cancel) -> (Result<Exit, IsolationError>, String) {
        let command = Command {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: vec!["PATH=/usr/bin:/bin".to_owned(), "ONLY=this".to_owned()],
            identity,
            working_dir: PathBuf::from("/usr"),
            network: Network::Host,
        };
        let output = Mutex::new(Vec::new());
        let exit = super::run(&command, None, &|_, bytes| output.lock().unwrap().extend_from_slice(bytes), cancel);
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
}
