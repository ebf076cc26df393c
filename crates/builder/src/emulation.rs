//! Whether programs of a platform run on this machine: because they are its own, because its processor knows them too, or
//! because an emulator is registered with the kernel (`binfmt_misc`). It is tried out, with a program that does nothing:
//! what the kernel answers to execve(2) is the truth, whoever registered what.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use zuwai_registry::Platform;

/// Architectures, the class of their programs (1 is 32 bits, 2 is 64), the order of bytes (1 is little-endian), and what
/// ELF calls the machine.
const MACHINES: [(&str, u8, u8, u16); 9] = [
    ("amd64", 2, 1, 62),
    ("386", 1, 1, 3),
    ("arm64", 2, 1, 183),
    ("arm", 1, 1, 40),
    ("riscv64", 2, 1, 243),
    ("ppc64le", 2, 1, 21),
    ("s390x", 2, 2, 22),
    ("mips64le", 2, 1, 8),
    ("loong64", 2, 1, 258),
];

/// Whether a command of this platform can be started here. `folder` is one of this machine in which a program can be put
/// down; where nothing can be tried out, the answer is yes, and the command itself will tell.
pub(crate) fn runs(platform: &Platform, host: &Platform, folder: &Path) -> bool {
    if platform.os != host.os {
        return false;
    }
    if platform.architecture == host.architecture {
        return true;
    }
    let Some(program) = program(&platform.architecture) else { return false };
    !matches!(start(&program, &folder.join("foreign")), Err(error) if error.raw_os_error() == Some(libc::ENOEXEC))
}

fn start(program: &[u8], path: &Path) -> io::Result<()> {
    fs::write(path, program)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    let null = Stdio::null;
    let started = Command::new(path).env_clear().stdin(null()).stdout(null()).stderr(null()).spawn();
    let ended = started.and_then(|mut child| child.wait()).map(drop);
    fs::remove_file(path)?;
    ended
}

/// A program with one loaded segment and no instruction in it: it can be started, and ends at once by a signal.
fn program(architecture: &str) -> Option<Vec<u8>> {
    const BASE: u64 = 0x10_0000;
    let (_, class, order, machine) = *MACHINES.iter().find(|(name, ..)| *name == architecture)?;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', class, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let wide = class == 2;
    let put = |bytes: &mut Vec<u8>, value: u64, width: usize| {
        let little = value.to_le_bytes();
        let number = &little[..width];
        if order == 1 { bytes.extend(number) } else { bytes.extend(number.iter().rev()) }
    };
    let word = if wide { 8 } else { 4 };
    let (header, entry) = if wide { (64, 56) } else { (52, 32) };
    let size = header + entry + 16;
    // Type EXEC, machine, version, entry, program headers, section headers, flags.
    put(&mut bytes, 2, 2);
    put(&mut bytes, machine.into(), 2);
    put(&mut bytes, 1, 4);
    put(&mut bytes, BASE + header + entry, word);
    put(&mut bytes, header, word);
    put(&mut bytes, 0, word);
    put(&mut bytes, 0, 4);
    for value in [header, entry, 1, 0, 0, 0] {
        put(&mut bytes, value, 2);
    }
    // LOAD, to be read and executed, the whole file.
    put(&mut bytes, 1, 4);
    if wide {
        put(&mut bytes, 5, 4);
    }
    for value in [0, BASE, BASE, size, size] {
        put(&mut bytes, value, word);
    }
    if !wide {
        put(&mut bytes, 5, 4);
    }
    put(&mut bytes, 0x1_0000, word);
    bytes.resize(usize::try_from(size).ok()?, 0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_machine_can_be_started_and_one_of_nobodys_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let own = program(&Platform::host().architecture).unwrap();
        start(&own, &path).unwrap();
        let mut nobodys = own;
        nobodys[18] = 0xee;
        assert_eq!(start(&nobodys, &path).unwrap_err().raw_os_error(), Some(libc::ENOEXEC));
        assert!(!path.exists());
    }

    #[test]
    fn another_system_and_an_unknown_architecture_do_not_run() {
        let (folder, host) = (tempfile::tempdir().unwrap(), Platform::host());
        let of = |os: &str, architecture: &str| Platform::new(os, architecture, None);
        assert!(runs(&host, &host, folder.path()));
        assert!(!runs(&of("windows", &host.architecture), &host, folder.path()));
        assert!(!runs(&of("linux", "pdp11"), &host, folder.path()));
    }
}
