//! What the targets share: a root beside something precious, and archives put right or made.

use std::fs;
use std::path::{Path, PathBuf};

use zuwai_snapshot::{Applied, ApplyOptions, Ignore, RootFs, SnapshotError, apply_tar};

const PRECIOUS: &str = "precious";

/// A root beside a folder that nothing may touch, both in memory.
pub struct Scratch {
    tmp: tempfile::TempDir,
    /// The root.
    pub root: RootFs,
}

impl Scratch {
    /// An empty root.
    pub fn new() -> Self {
        let tmp = tempfile::Builder::new().prefix("zuwai-fuzz-").tempdir_in("/dev/shm").unwrap();
        for folder in ["root", "root/kept", "outside"] {
            fs::create_dir(tmp.path().join(folder)).unwrap();
        }
        for file in ["outside/file", "root/kept/file"] {
            fs::write(tmp.path().join(file), PRECIOUS).unwrap();
        }
        let root = RootFs::open(&tmp.path().join("root"), Ignore::new([PathBuf::from("/kept")])).unwrap();
        Self { tmp, root }
    }

    /// Applies an archive and looks whether something changed that must not.
    pub fn apply(&self, tar: &[u8]) -> Result<Applied, SnapshotError> {
        let options = ApplyOptions { max_bytes: 1 << 20, max_entries: 2000, ..ApplyOptions::default() };
        let applied = apply_tar(&mut &tar[..], &self.root, &options);
        let names = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!(names(self.tmp.path()), 2, "something was made beside the root");
        for folder in ["outside", "root/kept"] {
            let folder = self.tmp.path().join(folder);
            assert_eq!(names(&folder), 1, "something was made or removed in {}", folder.display());
            assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), PRECIOUS);
            let facts = fs::metadata(folder.join("file")).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::nlink(&facts), 1, "a link was made to {}", folder.display());
        }
        applied
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts the checksum of every block right that says it is a header; without that, hardly an input would be read at all.
pub fn put_right(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
}

/// An archive of entries that the bytes choose, six for each.
pub fn chosen(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for piece in bytes.chunks_exact(6) {
        let &[kind, first, second, link, extra, mode] = piece else { unreachable!("pieces have six bytes") };
        let kind = b"0000511225346"[usize::from(kind) % 13];
        let name = format!("{}{}", path(first, second), if extra & 1 == 1 { "/" } else { "" });
        let target = if matches!(kind, b'1' | b'2') { path(link, extra) } else { String::new() };
        if extra & 6 == 6 {
            let record = [&b"30 SCHILY.xattr.user.a=1234567\n"[..], b"29 mtime=-12345678.123456789\n", b"15 path=a/../b\n"]
                [usize::from(link) % 3];
            header(&mut tar, "x", b'x', "", 0, record.len());
            body(&mut tar, record);
        }
        let content = &b"content of a file"[..if kind == b'0' { usize::from(link) % 18 } else { 0 }];
        header(&mut tar, &name, kind, &target, u32::from(mode) << 4 | 7, content.len());
        body(&mut tar, content);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// One to three components.
fn path(first: u8, second: u8) -> String {
    let parts = ["a", "b", "c", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", "kept", "outside", "file", "root", ".wh.."];
    let part = |number: u8| parts[usize::from(number) % parts.len()];
    match first % 5 {
        0 => part(second).to_owned(),
        1 => format!("{}/{}", part(first / 5), part(second)),
        2 => format!("/{}/{}", part(first / 5), part(second)),
        3 => format!("../{}/{}", part(first / 5), part(second)),
        _ => format!("{}/{}/{}", part(first / 5), part(first / 7), part(second)),
    }
}

fn header(tar: &mut Vec<u8>, name: &str, kind: u8, link: &str, mode: u32, size: usize) {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    for (field, value) in [(100, mode & 0o7777), (108, 0), (116, 0), (329, 1), (337, 3)] {
        block[field..field + 8].copy_from_slice(format!("{value:07o}\0").as_bytes());
    }
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"13727410000\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    let start = tar.len();
    tar.extend(block);
    put_right(&mut tar[start..]);
}

fn body(tar: &mut Vec<u8>, content: &[u8]) {
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
