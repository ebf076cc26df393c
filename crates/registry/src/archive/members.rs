//! What lies where in a tar file. The content is left there, and read from there when it is wanted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tar_core::EntryType;
use tar_core::parse::{Limits, ParseEvent, Parser};

use crate::blob::FilePart;

/// The members of an archive, by their names without a leading `./`.
pub(super) struct Members {
    file: Arc<File>,
    by_name: BTreeMap<String, Member>,
}

enum Member {
    /// Where it begins, and its size.
    Content(u64, u64),
    /// Another member, by its whole name.
    Link(String),
}

/// No image has more.
const MOST_MEMBERS: usize = 100_000;

/// How many links may lead to one another.
const MOST_LINKS: usize = 8;

const BLOCK: u64 = 512;
const MOST_HEADERS: usize = 1 << 20;

impl Members {
    /// Reads every header of the archive.
    pub(super) fn of(file: Arc<File>) -> io::Result<Members> {
        let broken = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let mut parser = Parser::new(Limits { max_path_len: Some(4096), ..Limits::default() });
        parser.set_ignore_pax_errors(true);
        let length = file.metadata()?.len();
        let mut by_name = BTreeMap::new();
        let (mut at, mut need) = (0, usize::try_from(BLOCK).expect("a block is small"));
        while at < length {
            let headers = read_at(&file, at, need)?;
            match parser.parse(&headers).map_err(|error| broken(format!("at byte {at}: {error}")))? {
                ParseEvent::NeedData { min_bytes } => {
                    if headers.len() < need {
                        return Err(broken("it ends within a header".to_owned()));
                    }
                    need = min_bytes.max(need + 512);
                    if need > MOST_HEADERS {
                        return Err(broken(format!("at byte {at}: the headers of a member are too large")));
                    }
                    continue;
                }
                ParseEvent::Entry { consumed, entry } => {
                    let begin = at + consumed as u64;
                    let name = normal(&entry.path_lossy());
                    let link = || entry.link_target_lossy().unwrap_or_default().into_owned();
                    let mut stored = 0;
                    let member = match entry.entry_type {
                        EntryType::Regular | EntryType::Continuous => {
                            stored = entry.size;
                            Some(Member::Content(begin, stored))
                        }
                        EntryType::Link => Some(Member::Link(normal(&link()))),
                        EntryType::Symlink => Some(Member::Link(beside(&name, &link()))),
                        _ => None,
                    };
                    if begin.checked_add(stored).is_none_or(|end| end > length) {
                        return Err(broken(format!("it ends within `{name}`")));
                    }
                    by_name.extend(member.map(|member| (name, member)));
                    if by_name.len() > MOST_MEMBERS {
                        return Err(broken(format!("it has more than {MOST_MEMBERS} members")));
                    }
                    at = begin + stored.next_multiple_of(BLOCK);
                }
                ParseEvent::SparseEntry { entry, .. } => {
                    return Err(broken(format!("`{}` is a sparse file", entry.path_lossy())));
                }
                ParseEvent::GlobalExtensions { consumed, .. } => at += consumed as u64,
                ParseEvent::End { .. } => break,
            }
            need = usize::try_from(BLOCK).expect("a block is small");
        }
        Ok(Members { file, by_name })
    }

    /// Whether there is such a member.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(&normal(name))
    }

    /// The content of a member, links followed.
    pub(super) fn open(&self, name: &str) -> io::Result<FilePart> {
        let mut at = normal(name);
        for _ in 0..MOST_LINKS {
            match self.by_name.get(&at) {
                Some(Member::Content(offset, size)) => {
                    return Ok(FilePart { file: Arc::clone(&self.file), offset: *offset, left: *size });
                }
                Some(Member::Link(target)) => at.clone_from(target),
                None => return Err(io::Error::new(io::ErrorKind::NotFound, format!("it has no member `{name}`"))),
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{name}` is a link that leads nowhere")))
    }
}

/// So many bytes from there, or as many as there are.
fn read_at(file: &File, at: u64, need: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; need];
    let mut have = 0;
    while have < need {
        match file.read_at(&mut bytes[have..], at + have as u64)? {
            0 => break,
            count => have += count,
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

/// `./a//b/../c` is `a/c`. Nothing is looked up on a disk by it: `..` at the top is nothing.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What a symbolic link of this name leads to.
fn beside(name: &str, target: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, _)) if !target.starts_with('/') => normal(&format!("{folder}/{target}")),
        _ => normal(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::Command;

    fn members(script: &str) -> io::Result<(tempfile::TempDir, Members)> {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("sh").args(["-ec", script]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file = File::open(folder.path().join("x.tar")).unwrap();
        Ok((folder, Members::of(Arc::new(file))?))
    }

    fn text(members: &Members, name: &str) -> io::Result<String> {
        let mut text = String::new();
        members.open(name)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn members_are_found_by_name_and_through_links() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        let script = format!(
            "mkdir -p a b $(dirname {long}); echo -n one > a/layer.tar; echo -n long > {long}; ln -s ../a/layer.tar b/layer.tar; \
             ln a/layer.tar hard; ln -s loop loop; tar -cf x.tar ./a b hard loop {long}"
        );
        for script in [script.clone(), script.replace("tar -cf", "tar --format=pax -cf")] {
            let (_folder, members) = members(&script).unwrap();
            for name in ["a/layer.tar", "./a/layer.tar", "b/layer.tar", "hard"] {
                assert_eq!(text(&members, name).unwrap(), "one", "{name}");
            }
            assert_eq!(text(&members, &long).unwrap(), "long");
            assert!(members.has("a/layer.tar") && !members.has("a"));
            assert!(text(&members, "loop").unwrap_err().to_string().contains("leads nowhere"));
            assert!(text(&members, "none").unwrap_err().to_string().contains("no member `none`"));
        }
    }

    #[test]
    fn an_archive_that_is_cut_or_is_none_is_an_error() {
        let cut = "head -c 5000 /dev/zero > a; tar -cf y.tar a; head -c 3000 y.tar > x.tar";
        assert!(members(cut).err().unwrap().to_string().contains("ends within `a`"));
        assert!(members("head -c 5000 /dev/urandom > x.tar").is_err());
        assert!(members("echo hello > x.tar").is_err());
    }
}
