//! A tree, or the entries of a layer, as text: what golden files hold and what a reviewer reads in a diff.
//!
//! One line an entry, ordered as a walk meets them: type, mode, owner, size, the beginning of the content's SHA-256, name.
//!
//! ```text
//! d 0755 0:0 - - etc
//! f 0644 0:0 5 2cf24dba5fb0 etc/passwd
//! h 0644 0:0 - - etc/passwd- => etc/passwd
//! l 0777 0:0 - - bin -> usr/bin
//! c 0666 0:0 1,3 - dev/null
//! f 0755 0:0 1234 0b9c2625dc21 bin/ping security.capability=0100000200200000
//! ```
//!
//! Bytes of a name that are not printable ASCII are written `\xNN`, a backslash `\\`. Times are left out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::archive::{Archive, Type, Whole};
use crate::attributes;
use crate::beneath::{open_folder, open_listing, stat_at};
use crate::error::During as _;
use crate::{Kind, Result, RootFs, content, place};

/// The whole tree below a root, without the root itself and without what it ignores.
pub fn render(root: &RootFs) -> Result<String> {
    let mut renderer = Renderer { root, out: String::new(), links: HashMap::new() };
    renderer.folder(root.beneath().root(), Path::new("/"))?;
    Ok(renderer.out)
}

/// The entries of a layer (not compressed) in the order in which they stand, whiteouts as the empty files that they are.
pub fn render_tar(tar: &mut dyn Read) -> Result<String> {
    let mut whole = Whole(tar);
    let mut archive = Archive::new(&mut whole);
    let mut out = String::new();
    while let Some(entry) = archive.next()? {
        let mut line = Line {
            name: entry.name.strip_suffix(b"/").unwrap_or(&entry.name),
            kind: match entry.kind {
                Type::File => 'f',
                Type::Dir => 'd',
                Type::Symlink => 'l',
                Type::HardLink => 'h',
                Type::CharDevice => 'c',
                Type::BlockDevice => 'b',
                Type::Fifo => 'p',
            },
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            link: &entry.link,
            attributes: &entry.attributes,
            ..Line::default()
        };
        match entry.kind {
            Type::File => {
                let mut hasher = Sha256::new();
                loop {
                    let piece = archive.content()?;
                    if piece.is_empty() {
                        break;
                    }
                    hasher.update(piece);
                }
                line.size = entry.size.to_string();
                line.hash = short(hasher);
            }
            Type::CharDevice | Type::BlockDevice => line.size = format!("{},{}", entry.device.0, entry.device.1),
            _ => {}
        }
        line.write(&mut out);
    }
    Ok(out)
}

struct Renderer<'a> {
    root: &'a RootFs,
    out: String,
    /// Files with several names: the first of them.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Renderer<'_> {
    fn folder(&mut self, at: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let listing = open_listing(at, b".").during("list", path)?;
        for name in place::list(listing.as_fd()).during("list", path)? {
            let path = path.join(OsStr::from_bytes(&name));
            if self.root.ignore().covers(&path) {
                continue;
            }
            self.entry(at, &name, &path)?;
        }
        Ok(())
    }

    fn entry(&mut self, at: BorrowedFd<'_>, name: &[u8], path: &Path) -> Result<()> {
        let stat = stat_at(at, name).during("look at", path)?;
        let kind = stat.kind();
        let attributes = attributes::read(at, name, kind).during("read the extended attributes of", path)?;
        let full = content::bytes(path)[1..].to_vec();
        let mut link = Vec::new();
        let mut line = Line {
            name: &full,
            mode: stat.permissions(),
            owner: (stat.uid, stat.gid),
            attributes: &attributes,
            ..Line::default()
        };
        line.kind = match kind {
            Kind::File => 'f',
            Kind::Dir => 'd',
            Kind::Symlink => 'l',
            Kind::CharDevice => 'c',
            Kind::BlockDevice => 'b',
            Kind::Fifo => 'p',
            Kind::Socket => 's',
        };
        if stat.nlink > 1 && kind != Kind::Dir {
            if let Some(first) = self.links.get(&(stat.dev, stat.ino)) {
                line.kind = 'h';
                link.clone_from(first);
            } else {
                self.links.insert((stat.dev, stat.ino), full.clone());
            }
        }
        match (line.kind, kind) {
            ('f', _) => {
                line.size = stat.size.to_string();
                line.hash = hash(at, name).during("read", path)?;
            }
            ('l', _) => link = rustix::fs::readlinkat(at, name, Vec::new()).during("read the link", path)?.into_bytes(),
            ('c' | 'b', _) => line.size = format!("{},{}", stat.rdev.0, stat.rdev.1),
            _ => {}
        }
        line.link = &link;
        line.write(&mut self.out);
        if kind == Kind::Dir {
            let fd = open_folder(at, OsStr::from_bytes(name)).during("open", path)?;
            self.folder(fd.as_fd(), path)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Line<'a> {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    size: String,
    hash: String,
    name: &'a [u8],
    link: &'a [u8],
    attributes: &'a [(Vec<u8>, Vec<u8>)],
}

impl Line<'_> {
    fn write(&self, out: &mut String) {
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let (size, hash) = (dash(&self.size), dash(&self.hash));
        let Line { kind, mode, owner: (uid, gid), .. } = self;
        let _ = write!(out, "{kind} {mode:04o} {uid}:{gid} {size} {hash} {}", escape(self.name));
        match kind {
            'l' => drop(write!(out, " -> {}", escape(self.link))),
            'h' => drop(write!(out, " => {}", escape(self.link))),
            _ => {}
        }
        for (name, value) in self.attributes {
            let _ = write!(out, " {}={}", escape(name), hex(value));
        }
        out.push('\n');
    }
}

/// Printable ASCII as it is, the rest as numbers.
fn escape(name: &[u8]) -> String {
    name.iter().fold(String::with_capacity(name.len()), |mut text, &byte| {
        match byte {
            b'\\' => text.push_str("\\\\"),
            0x21..=0x7e => text.push(char::from(byte)),
            _ => drop(write!(text, "\\x{byte:02x}")),
        }
        text
    })
}

fn hash(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, name, flags, Mode::empty())?;
    let mut buffer = vec![0; 64 * 1024];
    let mut hasher = Sha256::new();
    loop {
        match rustix::io::read(&file, &mut buffer[..])? {
            0 => return Ok(short(hasher)),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn short(hasher: Sha256) -> String {
    hex(&hasher.finalize()[..6])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
