//! Archives as a hostile or an old program would write them: every field as it is given.

/// One entry's fields.
#[derive(Clone)]
pub(crate) struct Raw<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: u8,
    pub(crate) link: &'a str,
    pub(crate) mode: u32,
    pub(crate) content: &'a [u8],
    pub(crate) mtime: u64,
    /// Records of a PAX header before it.
    pub(crate) pax: &'a [(&'a str, &'a [u8])],
    /// The size that is written, if it is not the content's.
    pub(crate) size: Option<u64>,
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Raw { name: "", kind: b'0', link: "", mode: 0o644, content: b"", mtime: 1_600_000_000, pax: &[], size: None }
    }
}

pub(crate) fn file<'a>(name: &'a str, content: &'a str) -> Raw<'a> {
    Raw { name, content: content.as_bytes(), ..Raw::default() }
}

pub(crate) fn dir(name: &str) -> Raw<'_> {
    Raw { name, kind: b'5', mode: 0o755, ..Raw::default() }
}

pub(crate) fn symlink<'a>(name: &'a str, link: &'a str) -> Raw<'a> {
    Raw { name, kind: b'2', link, mode: 0o777, ..Raw::default() }
}

pub(crate) fn hard_link<'a>(name: &'a str, link: &'a str) -> Raw<'a> {
    Raw { name, kind: b'1', link, ..Raw::default() }
}

/// The entries and the end of the archive.
pub(crate) fn archive(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut tar = unfinished(entries);
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// The entries alone.
pub(crate) fn unfinished(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        if !entry.pax.is_empty() {
            let mut records = Vec::new();
            for (key, value) in entry.pax {
                let rest = key.len() + value.len() + 3;
                let length =
                    (1..10).map(|digits| rest + digits).find(|length| length.to_string().len() == length - rest);
                records.extend(format!("{} {key}=", length.unwrap()).into_bytes());
                records.extend(*value);
                records.push(b'\n');
            }
            block(&mut tar, &Raw { name: "x", kind: b'x', ..Raw::default() }, records.len() as u64);
            body(&mut tar, &records);
        }
        block(&mut tar, entry, entry.size.unwrap_or(entry.content.len() as u64));
        body(&mut tar, entry.content);
    }
    tar
}

fn block(tar: &mut Vec<u8>, entry: &Raw<'_>, size: u64) {
    let mut block = [0_u8; 512];
    let name = &entry.name.as_bytes()[..entry.name.len().min(100)];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(format!("{:07o}\0", entry.mode).as_bytes());
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    if size < 1 << 33 {
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..148].copy_from_slice(format!("{:011o}\0", entry.mtime).as_bytes());
    block[156] = entry.kind;
    block[157..157 + entry.link.len()].copy_from_slice(entry.link.as_bytes());
    block[257..265].copy_from_slice(if entry.kind == b'S' { b"ustar  \0" } else { b"ustar\x0000" });
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar.extend(block);
}

fn body(tar: &mut Vec<u8>, content: &[u8]) {
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
