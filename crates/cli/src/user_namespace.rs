//! This process as root of a user namespace of its own: what lets anybody write files of many owners and lay mounts, on a
//! machine that allows it. Entered before any thread is started, since it is the whole process that moves.
//!
//! The ids beyond the user's own come from `/etc/subuid` and `/etc/subgid`, through the programs `newuidmap` and `newgidmap`,
//! which must be started by somebody who stays outside: this program again, under another name, told over its standard
//! input when it is time.
#![allow(unsafe_code)] // unshare(2) is unsafe where it could take descriptors away, which is not asked for.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{UnshareFlags, set_thread_res_gid, set_thread_res_uid, unshare_unsafe};

use crate::environment::Environment;

/// What the program is called when it is to write the maps of another of its processes.
pub(crate) const MAPPER: &str = "zuwai-id-mapper";

/// Ranges of the ids of the machine that this user may give to a namespace: first and count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subordinate {
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
}

impl Subordinate {
    /// What `/etc/subuid` and `/etc/subgid` give to a user; an error says what is missing.
    pub(crate) fn of_user(uid: u32, environment: &Environment) -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let passwd = read("/etc/passwd");
        let names = names(uid, &passwd, environment);
        let users = ranges(&read("/etc/subuid"), &names);
        let groups = ranges(&read("/etc/subgid"), &names);
        for (found, file) in [(&users, "/etc/subuid"), (&groups, "/etc/subgid")] {
            if found.is_empty() {
                return Err(format!("{file} gives no subordinate ids to user {}", names[0]));
            }
        }
        for program in ["newuidmap", "newgidmap"] {
            if !is_installed(program, environment) {
                return Err(format!("{program} is not installed"));
            }
        }
        Ok(Self { users, groups })
    }
}

/// The user by name, if there is one, and by number.
fn names(uid: u32, passwd: &str, environment: &Environment) -> Vec<String> {
    let of_row = |row: &str| {
        let mut fields = row.split(':');
        let name = fields.next()?.to_owned();
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    };
    let mut names: Vec<String> = passwd.lines().filter_map(of_row).take(1).collect();
    if names.is_empty() {
        names.extend(environment.text("USER").map(str::to_owned));
    }
    names.push(uid.to_string());
    names
}

/// The rows `name:first:count` of these names: subuid(5).
fn ranges(text: &str, names: &[String]) -> Vec<(u32, u32)> {
    let of_row = |row: &str| {
        let mut fields = row.split(':');
        let name = fields.next()?;
        let range = (fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?);
        (names.iter().any(|known| known == name) && range.1 > 0).then_some(range)
    };
    text.lines().filter_map(of_row).collect()
}

fn is_installed(program: &str, environment: &Environment) -> bool {
    let named = environment.get("PATH").map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    named.iter().any(|folder| folder.join(program).is_file())
}

/// Moves this process into a new user namespace, as its root. Where the programs fail that give it more ids, it has but one,
/// and their words come back.
///
/// # Errors
/// The kernel refuses the namespace.
pub(crate) fn enter(subordinate: &Subordinate) -> io::Result<Result<(), String>> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut mapper = Command::new("/proc/self/exe")
        .arg0(MAPPER)
        .arg(std::process::id().to_string())
        .arg(map(uid, &subordinate.users).join(" "))
        .arg(map(gid, &subordinate.groups).join(" "))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // SAFETY: no descriptor table is taken apart, and there is no other thread yet.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }?;
    // Whoever may not be dumped has files in /proc that belong to somebody outside.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let told = mapper.stdin.take().expect("it was asked for").write_all(b"\n");
    let output = mapper.wait_with_output()?;
    let mapped = match told {
        Ok(()) if output.status.success() => Ok(()),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            map_own_id(uid, gid)?;
            Err(if said.is_empty() { "the ids could not be mapped".to_owned() } else { said })
        }
    };
    set_thread_res_gid(rustix::fs::Gid::ROOT, rustix::fs::Gid::ROOT, rustix::fs::Gid::ROOT)?;
    set_thread_res_uid(rustix::fs::Uid::ROOT, rustix::fs::Uid::ROOT, rustix::fs::Uid::ROOT)?;
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    Ok(mapped)
}

/// The arguments of `newuidmap` behind the process: the user is 0 inside, the subordinate ids follow from 1.
fn map(own: u32, ranges: &[(u32, u32)]) -> Vec<String> {
    let mut inside = 1_u32;
    let mut words = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    for (first, count) in ranges {
        words.extend([inside.to_string(), first.to_string(), count.to_string()]);
        inside = inside.saturating_add(*count);
    }
    words
}

/// What anybody may do without help: be root of a namespace in which nobody else is.
fn map_own_id(uid: u32, gid: u32) -> io::Result<()> {
    for (file, text) in
        [("setgroups", "deny".to_owned()), ("gid_map", format!("0 {gid} 1")), ("uid_map", format!("0 {uid} 1"))]
    {
        let path = format!("/proc/self/{file}");
        let done = fs::read_to_string(&path).is_ok_and(|text| file != "setgroups" && !text.trim().is_empty());
        if !done {
            fs::write(&path, text)?;
        }
    }
    Ok(())
}

/// The other process: waits for its turn, and gives ids to the process that is named.
pub(crate) fn map_ids(arguments: &[std::ffi::OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let [process, users, groups] = words.as_slice() else { return ExitCode::FAILURE };
    if io::stdin().read_exact(&mut [0]).is_err() {
        return ExitCode::FAILURE;
    }
    for (program, ids) in [("newuidmap", users), ("newgidmap", groups)] {
        match Command::new(program).arg(process).args(ids.split(' ')).stdin(Stdio::null()).status() {
            Ok(status) if status.success() => {}
            Ok(_) => return ExitCode::FAILURE,
            Err(error) => {
                let _ = writeln!(io::stderr(), "start {program}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// How many users and groups there are here, counted from 0 without a gap.
pub(crate) fn ids() -> u32 {
    let count = |file: &str| {
        let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let mut rows: Vec<(u32, u32)> = text.lines().filter_map(row).collect();
        rows.sort_unstable();
        rows.iter().fold(0_u32, |next, (first, count)| if *first == next { next.saturating_add(*count) } else { next })
    };
    count("uid_map").min(count("gid_map"))
}

/// The first id inside, and how many follow.
fn row(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.split_whitespace();
    Some((fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_are_those_of_the_user_by_name_or_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
        let names = names(1000, passwd, &Environment::default());
        assert_eq!(names, ["ada", "1000"]);
        let text = "root:1:2\nada:100000:65536\n1000:300000:10\nadam:1:1\nada:x:1\nada:1:0\n";
        assert_eq!(ranges(text, &names), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(super::names(7, passwd, &Environment::of(&[("USER", "eve")])), ["eve", "7"]);
    }

    #[test]
    fn the_user_is_root_inside_and_the_others_follow() {
        let words = map(1000, &[(100_000, 65_536), (300_000, 10)]);
        assert_eq!(words.join(" "), "0 1000 1 1 100000 65536 65537 300000 10");
        assert_eq!(row("         0       1000          1"), Some((0, 1)));
    }
}
