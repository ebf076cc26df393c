//! The namespaces that one command is run in, and everything that is mounted there. Unsafe code, as in `spawn`: all of it
//! runs in a process that was just forked, where nothing may be allocated; what is to be done is therefore written down
//! before, as [`Step`]s.
//!
//! Three processes stand in a row. The keeper is zuwai's child and makes the namespaces; its only child is process 1 of
//! the new process namespace, which lays the mounts and moves into the private root; its child becomes the command. When
//! the command ends, process 1 ends with its exit code, and the kernel then kills everything that is left in the process
//! namespace, whatever it did to get away: daemons, zombies, processes of other users.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use super::spawn::{awaited, block_signals, check, close_all, exit_code, unblock_signals};

/// What a command is to find around it.
#[derive(Debug)]
pub(super) struct Sandbox {
    steps: Vec<Step>,
    own_network: bool,
    /// Where this process's own arguments and environment lie, which process 1 inherits and shows in /proc.
    words: Option<(usize, usize)>,
}

/// One thing to do, in the order of the list. Where one attempt fails the next is made; when the last fails too, the
/// command is not started, unless the step is one that can be done without.
#[derive(Debug)]
pub(super) struct Step {
    attempts: Vec<Deed>,
    optional: bool,
}

/// What is done. Nothing of it is shown but where: content can be a secret. Every path is one of the machine, without links, since the old root is still in view.
pub(super) enum Deed {
    /// No mount made from here on is seen by anybody else.
    Private,
    /// A new filesystem.
    Mount { kind: CString, target: CString, flags: libc::c_ulong, data: CString },
    /// A file or folder seen at a second place; with everything mounted below it where `recursive` says so.
    Bind { source: CString, target: CString, recursive: bool },
    /// Rights taken from a mount: `MOUNT_ATTR_*`, `mount_setattr(2)`.
    Restrict { target: CString, attributes: u64, recursive: bool },
    /// The same in the words of older kernels, for one mount: `MS_*`.
    Remount { target: CString, flags: libc::c_ulong },
    /// A new folder.
    Folder { path: CString, mode: libc::mode_t },
    /// A new empty file, for something to be mounted on.
    File { path: CString },
    /// A new file with this content, of this owner and group, and with this mode.
    Write { path: CString, content: Vec<u8>, card: (u32, u32, u32) },
    /// What is mounted there goes out of sight, and the folder it was mounted on goes.
    Unmount { path: CString },
    /// A new symbolic link.
    Link { path: CString, target: CString },
    /// What the machine is called in here.
    HostName(CString),
    /// The one network interface of a network namespace of its own.
    LoopbackUp,
    /// This folder becomes the root; the one before is out of sight and reach.
    Root(CString),
}

impl Step {
    pub(super) fn must(deed: Deed) -> Self {
        Self { attempts: vec![deed], optional: false }
    }

    pub(super) fn any(attempts: impl IntoIterator<Item = Deed>) -> Self {
        Self { attempts: attempts.into_iter().collect(), optional: false }
    }

    /// The same, for what can be done without.
    pub(super) fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

impl fmt::Debug for Deed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &CStr| text.to_string_lossy().into_owned();
        match self {
            Deed::Private => formatter.write_str("make the mounts private"),
            Deed::Mount { kind, target, .. } => write!(formatter, "mount {} on {}", shown(kind), shown(target)),
            Deed::Bind { source, target, .. } => write!(formatter, "bind {} to {}", shown(source), shown(target)),
            Deed::Restrict { target, .. } | Deed::Remount { target, .. } => {
                write!(formatter, "restrict the mount on {}", shown(target))
            }
            Deed::Folder { path, .. } | Deed::File { path } | Deed::Write { path, .. } | Deed::Link { path, .. } => {
                write!(formatter, "make {}", shown(path))
            }
            Deed::Unmount { path } => write!(formatter, "unmount {}", shown(path)),
            Deed::HostName(_) => formatter.write_str("set the host name"),
            Deed::LoopbackUp => formatter.write_str("set up the loopback interface"),
            Deed::Root(path) => write!(formatter, "make {} the root folder", shown(path)),
        }
    }
}

/// What a command's processes may have at most: the capabilities that every container has by default. Numbers of
/// capabilities(7).
const CAPABILITIES: [libc::c_ulong; 14] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    13, // NET_RAW
    18, // SYS_CHROOT
    27, // MKNOD
    29, // AUDIT_WRITE
    31, // SETFCAP
];

impl Sandbox {
    pub(super) fn new(steps: Vec<Step>, own_network: bool) -> Self {
        Self { steps, own_network, words: place_of_words() }
    }

    /// What the step is about whose number [`Failure::step`] gives.
    pub(super) fn step(&self, number: usize) -> Option<&Deed> {
        self.steps.get(number)?.attempts.last()
    }

    /// Makes the namespaces and returns in the process that is to become the command; the others never return.
    ///
    /// # Safety
    /// To be called between fork and exec.
    pub(super) unsafe fn enter(&self, failure: &Reporter) -> io::Result<()> {
        // SAFETY: system calls with arguments that live on this stack or were allocated before the fork.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
            check(libc::setsid())?;
            let before = block_signals()?;
            let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
            if self.own_network {
                namespaces |= libc::CLONE_NEWNET;
            }
            check(libc::unshare(namespaces))?;
            match check(libc::fork())? {
                0 => {}
                first => keep(first),
            }
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            libc::umask(0);
            for (number, step) in self.steps.iter().enumerate() {
                if let Err(error) = perform(step) {
                    failure.tell(number);
                    return Err(error);
                }
            }
            match check(libc::fork())? {
                0 => {}
                command => be_first(command, self.words),
            }
            unblock_signals(&before)?;
            limit_capabilities();
            Ok(())
        }
    }
}

/// How process 1 tells which step failed.
#[derive(Debug)]
pub(super) struct Reporter(OwnedFd);

/// Where that is read.
#[derive(Debug)]
pub(super) struct Failure(OwnedFd);

/// A pipe for the number of the step that failed.
pub(super) fn report() -> io::Result<(Reporter, Failure)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((Reporter(write), Failure(read)))
}

impl Reporter {
    /// # Safety
    /// A system call on arguments of this stack.
    unsafe fn tell(&self, number: usize) {
        let byte = u8::try_from(number).unwrap_or(u8::MAX);
        // SAFETY: one byte of this stack is written.
        unsafe { libc::write(self.0.as_raw_fd(), std::ptr::from_ref(&byte).cast(), 1) };
    }
}

impl Failure {
    /// The number of the step that failed; `None` when it was none of them. Every reporter must be gone by now.
    pub(super) fn step(self) -> Option<usize> {
        let mut byte = [0];
        let read = std::fs::File::from(self.0).read(&mut byte).ok()?;
        (read == 1).then(|| usize::from(byte[0]))
    }
}

/// The keeper: waits for process 1, which it kills when it is told to stop, and exits as it did.
unsafe fn keep(first: libc::pid_t) -> ! {
    // SAFETY: system calls with arguments that live on this stack; the process ends here and drops nothing.
    unsafe {
        close_all();
        let awaited = awaited();
        let mut told = false;
        loop {
            let mut status = 0;
            if libc::waitpid(first, &raw mut status, libc::WNOHANG) == first {
                libc::_exit(if told { 128 + libc::SIGTERM } else { exit_code(status) });
            }
            if libc::sigwaitinfo(&raw const awaited, std::ptr::null_mut()) == libc::SIGTERM {
                told = true;
                libc::kill(first, libc::SIGKILL);
            }
        }
    }
}

/// Process 1: takes in the dead until the command is among them, and exits as it did. The command sees it: what was
/// zuwai's in it is wiped.
unsafe fn be_first(command: libc::pid_t, words: Option<(usize, usize)>) -> ! {
    // SAFETY: as above; the words are memory of this process that nothing reads any more.
    unsafe {
        close_all();
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::prctl(libc::PR_SET_NAME, c"init".as_ptr());
        if let Some((begin, end)) = words {
            std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(begin), 0, end - begin);
        }
        loop {
            let mut status = 0;
            let ended = libc::waitpid(-1, &raw mut status, 0);
            if ended == command {
                libc::_exit(exit_code(status));
            }
            if ended < 0 && *libc::__errno_location() == libc::ECHILD {
                libc::_exit(127);
            }
        }
    }
}

/// From the first argument of this process to the end of its environment: fields 48 to 51 of /proc/self/stat, proc(5).
fn place_of_words() -> Option<(usize, usize)> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    // The first field behind the bracket is the third.
    let mut fields = fields.split_whitespace().skip(45).map(|field| field.parse::<usize>().ok());
    let (begin, _, _, end) = (fields.next()??, fields.next()??, fields.next()??, fields.next()??);
    (begin != 0 && begin < end).then_some((begin, end))
}

unsafe fn limit_capabilities() {
    // SAFETY: system calls on numbers, and on two structures of this stack as capset(2) describes them.
    unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        for capability in 0..64 {
            if !CAPABILITIES.contains(&capability) && libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                break;
            }
        }
        // Version 3 of the header, this process; effective, permitted and inheritable, twice 32 of each.
        let header: [u32; 2] = [0x2008_0522, 0];
        let mut sets = [0_u32; 6];
        if libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) == 0 {
            (sets[2], sets[5]) = (0, 0);
            libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr());
        }
    }
}

unsafe fn perform(step: &Step) -> io::Result<()> {
    let mut done = Ok(());
    for deed in &step.attempts {
        // SAFETY: the caller is between fork and exec.
        done = unsafe { perform_deed(deed) };
        if done.is_ok() {
            break;
        }
    }
    if step.optional { Ok(()) } else { done }
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

unsafe fn perform_deed(deed: &Deed) -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: system calls on NUL-terminated text that was allocated before the fork, and on structures of this stack.
    let result = unsafe {
        match deed {
            Deed::Private => libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()),
            Deed::Mount { kind, target, flags, data } => {
                libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), *flags, data.as_ptr().cast())
            }
            Deed::Bind { source, target, recursive } => {
                let flags = if *recursive { libc::MS_BIND | libc::MS_REC } else { libc::MS_BIND };
                libc::mount(source.as_ptr(), target.as_ptr(), none, flags, none.cast())
            }
            Deed::Restrict { target, attributes, recursive } => {
                let wanted = MountAttributes { set: *attributes, clear: 0, propagation: 0, user_namespace: 0 };
                let flags = if *recursive { libc::AT_RECURSIVE } else { 0 };
                let size = size_of::<MountAttributes>();
                let path = target.as_ptr();
                let done = libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path, flags, &raw const wanted, size);
                if done < 0 { -1 } else { 0 }
            }
            Deed::Remount { target, flags } => {
                let flags = libc::MS_REMOUNT | libc::MS_BIND | *flags;
                libc::mount(none, target.as_ptr(), none, flags, none.cast())
            }
            Deed::Folder { path, mode } => libc::mkdir(path.as_ptr(), *mode),
            Deed::File { path } => {
                let file = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o666);
                if file < 0 { file } else { libc::close(file) }
            }
            Deed::Write { path, content, card } => write_file(path, content, *card)?,
            Deed::Unmount { path } => {
                check(libc::umount2(path.as_ptr(), libc::MNT_DETACH))?;
                libc::rmdir(path.as_ptr())
            }
            Deed::Link { path, target } => libc::symlink(target.as_ptr(), path.as_ptr()),
            Deed::HostName(name) => libc::sethostname(name.as_ptr(), name.as_bytes().len()),
            Deed::LoopbackUp => loopback_up(),
            Deed::Root(path) => {
                check(libc::chdir(path.as_ptr()))?;
                // The new root lands on top of the old one, which is then taken away from below it: pivot_root(2).
                if libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) < 0 {
                    return Err(io::Error::last_os_error());
                }
                check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
                libc::chdir(c"/".as_ptr())
            }
        }
    };
    check(result).map(drop)
}

unsafe fn write_file(path: &CStr, content: &[u8], (uid, gid, mode): (u32, u32, u32)) -> io::Result<libc::c_int> {
    // SAFETY: system calls on bytes that were allocated before the fork.
    unsafe {
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC;
        let file = check(libc::open(path.as_ptr(), flags, 0o600))?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = libc::write(file, rest.as_ptr().cast(), rest.len());
            let Ok(written) = usize::try_from(written) else { return Err(io::Error::last_os_error()) };
            rest = &rest[written..];
        }
        check(libc::fchown(file, uid, gid))?;
        check(libc::fchmod(file, mode))?;
        Ok(libc::close(file))
    }
}

unsafe fn loopback_up() -> libc::c_int {
    // SAFETY: the request is a structure of this stack, all of it initialised.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return socket;
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = 0x1; // IFF_UP
        let done = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        libc::close(socket);
        done
    }
}

/// Tries out, in processes that end at once, whether the kernel lets this user have what [`Sandbox`] is made of: with
/// `user_namespace` inside a new user namespace, whose capabilities some systems take away again.
///
/// # Errors
/// What was refused, and the kernel's answer.
pub(super) fn try_out(user_namespace: bool) -> Result<(), (&'static str, io::Error)> {
    let failed = |error: io::Error| ("start a process", error);
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let own_id = |id: u32| format!("0 {id} 1").into_bytes();
    let (uid_map, gid_map) = (own_id(uid), own_id(gid));
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    // SAFETY: the child makes system calls on what was allocated before, and ends.
    unsafe {
        let child = check(libc::fork()).map_err(failed)?;
        if child == 0 {
            if let Err((number, error)) = attempt(user_namespace, &uid_map, &gid_map) {
                let text = [number, u8::try_from(error).unwrap_or(u8::MAX)];
                libc::write(write.as_raw_fd(), text.as_ptr().cast(), 2);
            }
            // The grandchild ends here as well; its parent has nothing more to say.
            while libc::waitpid(-1, std::ptr::null_mut(), 0) > 0 {}
            libc::_exit(0);
        }
        drop(write);
        let mut said = [0; 2];
        let told = std::fs::File::from(read).read(&mut said);
        let mut status = 0;
        while libc::waitpid(child, &raw mut status, 0) < 0 && *libc::__errno_location() == libc::EINTR {}
        match told {
            Ok(0) => Ok(()),
            Ok(_) => {
                let what = ATTEMPTS.get(usize::from(said[0])).copied().unwrap_or("start a process");
                Err((what, io::Error::from_raw_os_error(said[1].into())))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// What [`attempt`] tries, by number.
const ATTEMPTS: [&str; 7] = [
    "make a user namespace",
    "map its own user in a user namespace",
    "make mount, process and other namespaces",
    "make mounts private",
    "mount a tmpfs in a namespace",
    "mount a new /proc in a namespace",
    "move into a new root folder",
];

type Tried = Result<(), (u8, libc::c_int)>;

unsafe fn attempt(user_namespace: bool, uid_map: &[u8], gid_map: &[u8]) -> Tried {
    // SAFETY: system calls on text that was allocated before the fork.
    unsafe {
        let step = |number: u8, result: libc::c_int| {
            if result < 0 { Err((number, *libc::__errno_location())) } else { Ok(result) }
        };
        if user_namespace {
            step(0, libc::unshare(libc::CLONE_NEWUSER))?;
            let put = |path: &CStr, text: &[u8]| {
                let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                if file < 0 {
                    return file;
                }
                let written = libc::write(file, text.as_ptr().cast(), text.len());
                libc::close(file);
                if written < 0 { -1 } else { 0 }
            };
            step(1, put(c"/proc/self/setgroups", b"deny"))?;
            step(1, put(c"/proc/self/gid_map", gid_map))?;
            step(1, put(c"/proc/self/uid_map", uid_map))?;
        }
        let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        step(2, libc::unshare(namespaces))?;
        // The first child is in the new process namespace, to which a new /proc belongs.
        if step(2, libc::fork())? > 0 {
            return Ok(());
        }
        let none = std::ptr::null();
        step(3, libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        for (number, kind) in [(4, c"tmpfs"), (5, c"proc")] {
            step(number, libc::mount(kind.as_ptr(), c"/proc".as_ptr(), kind.as_ptr(), flags, none.cast()))?;
        }
        step(6, libc::chdir(c"/proc".as_ptr()))?;
        let moved = libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr());
        step(6, if moved < 0 { -1 } else { 0 }).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_the_kernel_is_the_same_each_time_and_names_what_was_refused() {
        let first = try_out(true).map_err(|(what, error)| (what, error.raw_os_error()));
        let second = try_out(true).map_err(|(what, error)| (what, error.raw_os_error()));
        assert_eq!(first, second);
        if let Err((what, _)) = first {
            assert!(ATTEMPTS.contains(&what), "{what}");
        }
    }
}
