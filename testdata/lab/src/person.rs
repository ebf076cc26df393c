//! zuwai started by hand on this machine, in no container: by root, or by a user who exists for the test alone.
//!
//! The user is in copies of the machine's account files, which are mounted over them in a mount namespace of the test's own:
//! the machine's files are not touched, and nobody else sees the user.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::Scratch;
use crate::command::must;

/// Who starts zuwai.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Root.
    Root,
    /// A user with subordinate ids.
    User,
    /// A user without any.
    UserAlone,
}

/// Their number, and the first of the 65536 numbers that are subordinate to them.
const ID: u32 = 54_711;
const SUBORDINATE: u32 = 1_900_000_000;

/// Somebody, with a home and a copy of zuwai that they can execute.
#[derive(Debug)]
pub struct Person {
    who: Who,
    scratch: Scratch,
}

impl Person {
    /// Makes one for a binary.
    pub fn new(binary: &Path, who: Who) -> Result<Self> {
        let scratch = Scratch::new()?;
        let copy = scratch.folder("bin")?.join("zuwai");
        must(Command::new("strip").arg("-o").arg(&copy).arg(binary)).context("strip the binary")?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).context("make the binary executable")?;
        let accounts = scratch.folder("accounts")?;
        let row = |file: &str| match file {
            "passwd" => format!("builder:x:{ID}:{ID}::{}:/bin/sh\n", scratch.path().join("home").display()),
            "group" => format!("builder:x:{ID}:\n"),
            _ if who == Who::User => format!("builder:{SUBORDINATE}:65536\n"),
            _ => String::new(),
        };
        for file in ["passwd", "group", "subuid", "subgid"] {
            let machines = fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
            let text = if file.starts_with("sub") { row(file) } else { machines + &row(file) };
            fs::write(accounts.join(file), text).with_context(|| format!("write {file}"))?;
        }
        let person = Self { who, scratch };
        let home = person.scratch.folder("home")?;
        person.own(&home)?;
        Ok(person)
    }

    /// Their home folder.
    pub fn home(&self) -> PathBuf {
        self.scratch.path().join("home")
    }

    /// A folder in their home, theirs.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.folder(&format!("home/{name}"))?;
        self.own(&folder)?;
        Ok(folder)
    }

    /// Gives a tree to them: root's files become theirs, those of others the subordinate user's of that number. Modes stay.
    pub fn own(&self, tree: &Path) -> Result<()> {
        if self.who == Who::Root {
            return Ok(());
        }
        let theirs = |id: u32| match id {
            0 => ID,
            ID | SUBORDINATE.. => id,
            id => SUBORDINATE + id - 1,
        };
        let mut todo = vec![tree.to_owned()];
        while let Some(path) = todo.pop() {
            let facts = path.symlink_metadata().with_context(|| format!("look at {}", path.display()))?;
            lchown(&path, Some(theirs(facts.uid())), Some(theirs(facts.gid())))
                .with_context(|| format!("own {}", path.display()))?;
            if !facts.is_symlink() {
                fs::set_permissions(&path, facts.permissions()).with_context(|| format!("own {}", path.display()))?;
            }
            if facts.is_dir() {
                let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
                todo.extend(entries.flatten().map(|entry| entry.path()));
            }
        }
        Ok(())
    }

    /// zuwai, started by them with nothing in the environment but PATH and HOME, in a folder.
    pub fn zuwai(&self, folder: &Path) -> Command {
        self.start(&self.program(), folder)
    }

    /// Their copy of zuwai.
    pub fn program(&self) -> PathBuf {
        self.scratch.path().join("bin/zuwai")
    }

    /// Any program, started so.
    pub fn start(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-euc", SCRIPT, "sh"]);
        command.arg(self.scratch.path().join("accounts")).arg(if self.who == Who::Root { "0" } else { "54711" });
        command.arg(program).current_dir(folder);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.home()).env("NO_COLOR", "1");
        command
    }
}

/// Lays the account files over the machine's, becomes the user and starts the program.
const SCRIPT: &str = "accounts=$1 id=$2; shift 2
for file in passwd group subuid subgid; do
    test ! -e /etc/$file || mount --bind $accounts/$file /etc/$file
done
exec setpriv --reuid=$id --regid=$id --clear-groups \"$@\"";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_user_is_there_for_what_they_start_and_for_nobody_else() {
        let person = Person::new(Path::new("/bin/busybox"), Who::User).unwrap();
        let home = person.home();
        let mut id = person.start(Path::new("/usr/bin/id"), &home);
        let output = crate::command::run(&mut id, Duration::from_secs(10)).unwrap();
        assert!(output.out().contains("uid=54711(builder) gid=54711(builder)"), "{output}");
        assert!(!fs::read_to_string("/etc/passwd").unwrap().contains("builder:x:54711"));
        assert_eq!(fs::metadata(&home).unwrap().uid(), ID);
    }
}
