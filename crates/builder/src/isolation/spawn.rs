//! Starts a command so that nothing of it can stay behind. With `sandbox` the only file of this crate with unsafe code:
//! what happens between fork and exec.
//!
//! Between zuwai and the command stands a keeper, a process that does nothing but wait. It is a child subreaper
//! (`PR_SET_CHILD_SUBREAPER`, prctl(2)), so every process that the command leaves behind, daemons that forked twice and
//! opened sessions of their own included, becomes the keeper's child. When the command ends the keeper kills and reaps
//! them all, and ends as the command ended. A library must not make its caller's process a reaper: the keeper's own
//! process is what makes this possible without touching the caller's.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Identity;
use super::sandbox::{Reporter, Sandbox};

/// Starts `command` below a keeper, as `identity`, in a session of its own with umask 022, no standard input, every signal
/// as it is by default, and nothing open besides its three streams. The child returned is the keeper: it exits with the
/// command's exit code, or 128 and the signal that ended the command, after everything the command started is gone.
/// `SIGTERM` to the keeper ends all of it. With a sandbox the command is started inside it.
pub(super) fn spawn_kept(
    command: &mut Command,
    identity: &Identity,
    working_dir: &Path,
    sandbox: Option<(Arc<Sandbox>, Reporter)>,
) -> io::Result<Child> {
    let (uid, gid) = (identity.uid, identity.gid);
    let groups: Vec<libc::gid_t> = identity.groups.clone();
    let working_dir = CString::new(working_dir.as_os_str().as_bytes())?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed: it makes system
    // calls alone and allocates nothing (what it reads was allocated before the fork).
    unsafe {
        command.pre_exec(move || {
            match &sandbox {
                None => become_keeper_and_fork()?,
                Some((sandbox, failure)) => sandbox.enter(failure)?,
            }
            check(libc::setsid())?;
            libc::umask(0o022);
            reset_signals();
            close_on_exec();
            // The streams are opened again by their names in /dev, as whoever the command runs as.
            for stream in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
                libc::fchown(stream, uid, libc::gid_t::MAX);
            }
            // Before the change of user, who may not be let in: the working folder is the builder's choice.
            check(libc::chdir(working_dir.as_ptr()))?;
            // Root stays root even where it may not choose its groups: a container can do without that capability.
            if libc::setgroups(groups.len(), groups.as_ptr()) < 0 && (uid, gid) != (0, 0) {
                return Err(io::Error::last_os_error());
            }
            if gid != libc::getegid() {
                check(libc::setresgid(gid, gid, gid))?;
            }
            if uid != libc::geteuid() {
                check(libc::setresuid(uid, uid, uid))?;
            }
            // After the change of user, which clears it: without the keeper, no command.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            Ok(())
        });
    }
    // A program that was just unpacked is busy while a process that another stage has forked meanwhile still holds what was open
    // for writing then: until it starts its own program.
    let begin = Instant::now();
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && begin.elapsed() < BUSY => {
                thread::sleep(Duration::from_millis(5));
            }
            spawned => return spawned,
        }
    }
}

/// So long a program may be busy before that is an error.
const BUSY: Duration = Duration::from_secs(2);

/// What the launcher ignores, the command does not: a `struct kernel_sigaction` of zeros is the default. glibc's own call
/// refuses the two signals that it uses itself, which may be ignored all the same.
unsafe fn reset_signals() {
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the structure is this stack's, and as long as the kernel's (handler, flags, restorer, mask).
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8) };
    }
}

/// Everything but the three streams is closed when the program starts, whoever opened it.
unsafe fn close_on_exec() {
    // SAFETY: system calls on numbers.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) < 0 {
            for number in 3..1024 {
                libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// How many moments of a millisecond at least are given to what a command left behind and what was killed.
const PATIENCE: u32 = 10_000;

pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Returns in the command's process only; this process becomes the keeper and never returns.
///
/// # Safety
/// To be called between fork and exec.
unsafe fn become_keeper_and_fork() -> io::Result<()> {
    // SAFETY: system calls with arguments that live on this stack.
    unsafe {
        check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1))?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
        check(libc::setsid())?;
        let before = block_signals()?;
        match check(libc::fork())? {
            0 => unblock_signals(&before),
            command => keep(command),
        }
    }
}

/// The signals that a keeper waits for.
///
/// # Safety
/// None is needed: system calls on a value of this stack.
pub(super) unsafe fn awaited() -> libc::sigset_t {
    // SAFETY: the set is initialised by the first call.
    unsafe {
        let mut awaited: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut awaited);
        libc::sigaddset(&raw mut awaited, libc::SIGCHLD);
        libc::sigaddset(&raw mut awaited, libc::SIGTERM);
        awaited
    }
}

/// Blocks them, so that none is lost between two waits, and says what was blocked before.
///
/// # Safety
/// To be called between fork and exec.
pub(super) unsafe fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: both sets live on this stack.
    unsafe {
        let awaited = awaited();
        let mut before: libc::sigset_t = std::mem::zeroed();
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const awaited, &raw mut before))?;
        Ok(before)
    }
}

/// # Safety
/// To be called between fork and exec.
pub(super) unsafe fn unblock_signals(before: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is the caller's.
    unsafe { check(libc::sigprocmask(libc::SIG_SETMASK, std::ptr::from_ref(before), std::ptr::null_mut())).map(drop) }
}

/// The pipes to zuwai, and the one on which the command reports a failed exec: they must close with the command.
///
/// # Safety
/// To be called in a process that needs none of its descriptors any more.
pub(super) unsafe fn close_all() {
    // SAFETY: system calls on numbers.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) < 0 {
            for number in 0..=65_535 {
                libc::close(number);
            }
        }
    }
}

/// Waits for the command, ends what it left behind, and exits as it did.
unsafe fn keep(command: libc::pid_t) -> ! {
    // SAFETY: system calls with arguments that live on this stack; the process ends here and drops nothing.
    unsafe {
        close_all();
        let awaited = awaited();
        let code = loop {
            let mut status = 0;
            let ended = libc::waitpid(-1, &raw mut status, libc::WNOHANG);
            if ended == command {
                break exit_code(status);
            }
            if ended > 0 {
                continue;
            }
            let signal = libc::sigwaitinfo(&raw const awaited, std::ptr::null_mut());
            if signal == libc::SIGTERM {
                break 128 + libc::SIGTERM;
            }
        };
        // Without CAP_KILL a process of another user cannot be ended: it is not waited for longer than this.
        let mut moments = 0;
        while !reaped_all() && moments < PATIENCE {
            kill_children();
            moments += 1;
        }
        libc::_exit(code)
    }
}

pub(super) fn exit_code(status: libc::c_int) -> libc::c_int {
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// Reaps every child that has ended; true when none is left at all.
unsafe fn reaped_all() -> bool {
    loop {
        let mut status = 0;
        // SAFETY: `status` lives on this stack.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if ended > 0 {
            continue;
        }
        // SAFETY: reads this thread's errno.
        return ended < 0 && unsafe { *libc::__errno_location() } == libc::ECHILD;
    }
}

/// Sends SIGKILL to every child of this process, found in /proc, and gives them a moment to end.
unsafe fn kill_children() {
    // SAFETY: system calls on buffers of this stack; names in the directory's records are NUL-terminated by the kernel.
    unsafe {
        let me = libc::getpid();
        let proc = libc::open(c"/proc".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC);
        if proc < 0 {
            libc::_exit(126);
        }
        let mut buffer = [0u8; 4096];
        loop {
            let read = libc::syscall(libc::SYS_getdents64, proc, buffer.as_mut_ptr(), buffer.len());
            let Ok(read @ 1..) = usize::try_from(read) else { break };
            let mut place = 0;
            while place + 19 < read {
                // struct linux_dirent64: inode 8, offset 8, length of the record 2, type 1, name.
                let length = usize::from(u16::from_ne_bytes([buffer[place + 16], buffer[place + 17]]));
                let name = &buffer[place + 19..(place + length).min(read)];
                if let Some(pid) = number(name)
                    && parent_of(proc, name) == Some(me)
                {
                    libc::kill(pid, libc::SIGKILL);
                }
                place += length.max(1);
            }
        }
        libc::close(proc);
        let moment = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        libc::nanosleep(&raw const moment, std::ptr::null_mut());
    }
}

/// The number at the beginning of a NUL-terminated name, if the name is nothing else.
fn number(name: &[u8]) -> Option<libc::pid_t> {
    let mut value: libc::pid_t = 0;
    let mut digits = 0;
    for &byte in name {
        match byte {
            0 => break,
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(libc::pid_t::from(byte - b'0'))?,
            _ => return None,
        }
        digits += 1;
    }
    (digits > 0).then_some(value)
}

/// The parent of a process: the second field after the command's closing bracket in /proc/PID/stat (proc(5)).
unsafe fn parent_of(proc: libc::c_int, name: &[u8]) -> Option<libc::pid_t> {
    let mut path = [0u8; 32];
    let digits = name.iter().position(|&byte| byte == 0)?;
    let suffix = b"/stat\0";
    path.get_mut(..digits)?.copy_from_slice(&name[..digits]);
    path.get_mut(digits..digits + suffix.len())?.copy_from_slice(suffix);
    let mut text = [0u8; 512];
    // SAFETY: `path` is NUL-terminated, `text` is this stack's.
    let read = unsafe {
        let file = libc::openat(proc, path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return None;
        }
        let read = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        read
    };
    let text = &text[..usize::try_from(read).ok()?];
    let bracket = text.iter().rposition(|&byte| byte == b')')?;
    let mut fields = text.get(bracket + 2..)?.split(|&byte| byte == b' ');
    let parent = fields.nth(1)?;
    let mut value: libc::pid_t = 0;
    for &byte in parent {
        value = value.checked_mul(10)?.checked_add(libc::pid_t::from(byte.checked_sub(b'0')?))?;
    }
    Some(value)
}
