//! A tar reader for looking at what was built: ustar, PAX and GNU long names, in memory, strict. Small on purpose, and
//! no part of the program that it checks.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The type byte of its header; `0` for a file in every form.
    pub kind: u8,
    /// Its name as written.
    pub name: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time, whole seconds.
    pub mtime: i64,
    /// Where a link points.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u64, u64),
    /// Names of owner and group; empty in layers that depend on no machine.
    pub owner_names: (Vec<u8>, Vec<u8>),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The PAX records it came with, as names.
    pub pax: Vec<String>,
    /// Its content.
    pub data: Vec<u8>,
}

const BLOCK: usize = 512;

/// Reads a whole archive. It must end with two blocks of zeros.
pub fn read(archive: &[u8]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut rest = archive;
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let (mut long_name, mut long_link) = (None, None);
    loop {
        let header = take(&mut rest, BLOCK).context("the archive ends without two blocks of zeros")?;
        if header.iter().all(|byte| *byte == 0) {
            let second = take(&mut rest, BLOCK).context("the archive ends with one block of zeros")?;
            ensure!(second.iter().all(|byte| *byte == 0), "there is more after a block of zeros");
            ensure!(rest.iter().all(|byte| *byte == 0), "there is more after the archive's end");
            return Ok(entries);
        }
        let entry = header_of(header).with_context(|| format!("entry {}", entries.len()))?;
        let size = match records.get(b"size".as_slice()) {
            Some(size) => decimal(size)?,
            None => number(&header[124..136])?,
        };
        let size = usize::try_from(size).context("a size past what memory holds")?;
        let data = take(&mut rest, size).with_context(|| format!("entry {}: cut short", entries.len()))?;
        take(&mut rest, size.next_multiple_of(BLOCK) - size).context("cut short")?;
        match header[156] {
            b'x' => records = pax_records(data)?,
            b'g' => bail!("a global header: no layer needs one"),
            b'L' => long_name = Some(until_nul(data).to_vec()),
            b'K' => long_link = Some(until_nul(data).to_vec()),
            _ => entries.push(amended(
                Entry { data: data.to_vec(), ..entry },
                std::mem::take(&mut records),
                long_name.take(),
                long_link.take(),
            )?),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count).context("too short")?;
    *rest = tail;
    Ok(head)
}

fn header_of(header: &[u8]) -> Result<Entry> {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(index, byte)| u64::from(if (148..156).contains(&index) { b' ' } else { *byte }))
        .sum();
    ensure!(number(&header[148..156])? == sum, "the checksum of the header is wrong");
    let mut name = until_nul(&header[..100]).to_vec();
    let ustar = &header[257..265] == b"ustar\x0000";
    let prefix = until_nul(&header[345..500]);
    if ustar && !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    let kind = if header[156] == 0 { b'0' } else { header[156] };
    Ok(Entry {
        kind,
        name,
        mode: u32::try_from(number(&header[100..108])?).context("mode")?,
        uid: number(&header[108..116])?,
        gid: number(&header[116..124])?,
        mtime: i64::try_from(number(&header[136..148])?).context("time")?,
        link: until_nul(&header[157..257]).to_vec(),
        device: (number(&header[329..337])?, number(&header[337..345])?),
        owner_names: (until_nul(&header[265..297]).to_vec(), until_nul(&header[297..329]).to_vec()),
        xattrs: BTreeMap::new(),
        pax: Vec::new(),
        data: Vec::new(),
    })
}

fn amended(
    mut entry: Entry,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
) -> Result<Entry> {
    entry.name = long_name.unwrap_or(entry.name);
    entry.link = long_link.unwrap_or(entry.link);
    for (key, value) in records {
        entry.pax.push(String::from_utf8_lossy(&key).into_owned());
        match key.as_slice() {
            b"path" => entry.name = value,
            b"linkpath" => entry.link = value,
            b"uid" => entry.uid = decimal(&value)?,
            b"gid" => entry.gid = decimal(&value)?,
            b"mtime" => {
                let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                entry.mtime = std::str::from_utf8(whole)?.parse().context("a PAX time")?;
            }
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    entry.xattrs.insert(name.to_vec(), value);
                }
            }
        }
    }
    Ok(entry)
}

/// `<length> <key>=<value>\n`, the length counting the whole record: a value may hold anything.
fn pax_records(mut data: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut records = BTreeMap::new();
    while !data.is_empty() {
        let blank = data.iter().position(|byte| *byte == b' ').context("a PAX record without a blank")?;
        let length = usize::try_from(decimal(&data[..blank])?)?;
        ensure!(length > blank + 1, "a PAX record of length {length}");
        let record = take(&mut data, length).context("a PAX record is cut short")?;
        let record = record[blank + 1..].strip_suffix(b"\n").context("a PAX record without its line end")?;
        let equals = record.iter().position(|byte| *byte == b'=').context("a PAX record without `=`")?;
        records.insert(record[..equals].to_vec(), record[equals + 1..].to_vec());
    }
    Ok(records)
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number field: octal digits, or base 256 where the first bit is set.
fn number(field: &[u8]) -> Result<u64> {
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        ensure!(first & 0x40 == 0, "a negative number");
        return rest.iter().try_fold(u64::from(first & 0x3f), |value, byte| {
            value.checked_mul(256).map(|value| value + u64::from(*byte)).context("a number past 64 bits")
        });
    }
    let digits = std::str::from_utf8(field)?.trim_matches(['\0', ' ']);
    if digits.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(digits, 8).with_context(|| format!("`{digits}` is no octal number"))
}

fn decimal(digits: &[u8]) -> Result<u64> {
    let digits = std::str::from_utf8(digits)?;
    digits.parse().with_context(|| format!("`{digits}` is no number"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// What GNU tar writes of a small odd tree, in a format.
    fn archive(format: &str, name: &str) -> Vec<Entry> {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(name), "content").unwrap();
        std::os::unix::fs::symlink("somewhere", tree.join("zlink")).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--owner=5:7", "--group=8:9", "--mtime=@1700000000", "--format", format, "-cf"]);
        tar.arg(folder.path().join("a.tar")).arg("-C").arg(folder.path()).arg("tree");
        crate::command::must(&mut tar).unwrap();
        read(&fs::read(folder.path().join("a.tar")).unwrap()).unwrap()
    }

    #[test]
    fn names_of_every_length_are_read_in_every_format() {
        for format in ["ustar", "pax", "gnu"] {
            for length in [1, 90, 99, 100] {
                let name = "n".repeat(length);
                let entries = archive(format, &name);
                let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
                let expected = [b"tree/".to_vec(), format!("tree/{name}").into_bytes(), b"tree/zlink".to_vec()];
                assert_eq!(names, expected, "{format} {length}");
                assert_eq!(entries[1].data, b"content");
                assert_eq!((entries[1].kind, entries[1].mtime), (b'0', 1_700_000_000));
                assert_eq!((entries[1].uid, entries[1].gid), (7, 9));
                assert_eq!((entries[2].kind, entries[2].link.as_slice()), (b'2', b"somewhere".as_slice()));
            }
        }
        let name = "l".repeat(250);
        for format in ["pax", "gnu"] {
            assert_eq!(archive(format, &name)[1].name, format!("tree/{name}").into_bytes(), "{format}");
        }
    }

    #[test]
    fn a_record_may_hold_line_ends_and_nothing_is_read_out_of_it() {
        // `32 SCHILY.xattr.user.x=` and a value that looks like a record of its own.
        let records = pax_records(b"33 SCHILY.xattr.user.x=\n9 path=b\n10 path=a\n").unwrap();
        assert_eq!(records[b"SCHILY.xattr.user.x".as_slice()], b"\n9 path=b");
        assert_eq!(records[b"path".as_slice()], b"a");
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        assert!(read(&[]).is_err());
        assert!(read(&[0; 512]).is_err());
        assert_eq!(read(&[0; 1024]).unwrap(), []);
        let mut broken = [0; 1536];
        broken[0] = b'x';
        assert!(format!("{:#}", read(&broken).unwrap_err()).contains("checksum"));
    }
}
