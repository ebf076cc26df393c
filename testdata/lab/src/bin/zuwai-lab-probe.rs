//! Tries, inside a container, what a builder could be tempted to use, and prints for each what the kernel answered: one line
//! `call answer`. The lab's test of its strict container reads them.

#![allow(unsafe_code)] // System calls that no library wraps, on arguments that are null or constant.

use std::io::{Error, Write};

fn main() {
    let mut out = std::io::stdout().lock();
    for (name, answer) in answers() {
        writeln!(out, "{name} {answer}").expect("standard output is read");
    }
}

fn answers() -> Vec<(&'static str, String)> {
    const AT_FDCWD: libc::c_long = libc::AT_FDCWD as libc::c_long;
    let root = c"/".as_ptr();
    let tmpfs = c"tmpfs".as_ptr();
    let call = |number: libc::c_long, a: libc::c_long, b: libc::c_long, c: libc::c_long| {
        // SAFETY: none of the calls below writes to memory of this process: their pointers are null or to constants.
        let result = unsafe { libc::syscall(number, a, b, c, 0_i64, 0_i64) };
        if result < 0 { said(&Error::last_os_error()) } else { "allowed".to_owned() }
    };
    let clone_with = |flags: libc::c_int| {
        // SAFETY: without CLONE_VM the child is a copy of this single-threaded process, and it ends at once.
        let child =
            unsafe { libc::syscall(libc::SYS_clone, i64::from(flags | libc::SIGCHLD), 0_i64, 0_i64, 0_i64, 0_i64) };
        if child == 0 {
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(0) };
        }
        if child < 0 { said(&Error::last_os_error()) } else { "allowed".to_owned() }
    };
    vec![
        ("clone-plain", clone_with(0)),
        ("clone-newns", clone_with(libc::CLONE_NEWNS)),
        ("clone-newuser", clone_with(libc::CLONE_NEWUSER)),
        ("clone-newpid", clone_with(libc::CLONE_NEWPID)),
        ("clone-newnet", clone_with(libc::CLONE_NEWNET)),
        ("clone-newipc", clone_with(libc::CLONE_NEWIPC)),
        ("clone-newuts", clone_with(libc::CLONE_NEWUTS)),
        ("clone-newcgroup", clone_with(libc::CLONE_NEWCGROUP)),
        ("unshare-user", call(libc::SYS_unshare, i64::from(libc::CLONE_NEWUSER), 0, 0)),
        ("unshare-mount", call(libc::SYS_unshare, i64::from(libc::CLONE_NEWNS), 0, 0)),
        ("setns", call(libc::SYS_setns, 0, 0, 0)),
        ("mount", call(libc::SYS_mount, tmpfs as i64, root as i64, tmpfs as i64)),
        ("umount2", call(libc::SYS_umount2, c"/proc".as_ptr() as i64, 0, 0)),
        ("pivot_root", call(libc::SYS_pivot_root, root as i64, root as i64, 0)),
        ("fsopen", call(libc::SYS_fsopen, tmpfs as i64, 0, 0)),
        ("fsmount", call(libc::SYS_fsmount, -1, 0, 0)),
        ("move_mount", call(libc::SYS_move_mount, -1, root as i64, AT_FDCWD)),
        ("open_tree", call(libc::SYS_open_tree, AT_FDCWD, root as i64, 1)),
        ("mount_setattr", call(libc::SYS_mount_setattr, AT_FDCWD, root as i64, 0)),
        ("clone3", call(libc::SYS_clone3, 0, 0, 0)),
        ("fanotify_init", call(libc::SYS_fanotify_init, 0, 0, 0)),
        ("bpf", call(libc::SYS_bpf, 0, 0, 0)),
        ("userfaultfd", call(libc::SYS_userfaultfd, 0, 0, 0)),
        ("chroot", call(libc::SYS_chroot, root as i64, 0, 0)),
    ]
}

fn said(error: &Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::ENOSYS) => "ENOSYS".to_owned(),
        _ => error.to_string(),
    }
}
