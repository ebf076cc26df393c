//! The header of one entry of a layer, byte for byte as Go's archive/tar writes it for `BuildKit`: ustar where everything
//! fits, and a PAX header before it with exactly the records that do not.

use crate::error::SnapshotError;

/// A block of a tar archive.
pub(crate) const BLOCK: usize = 512;
/// The most that Go's reader takes for an extended header.
const MOST_RECORDS: usize = 1 << 20;

/// An entry before it is bytes.
#[derive(Debug, Clone)]
pub(crate) struct Header<'a> {
    /// Relative, with a slash behind a folder's.
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    /// `0` a file, `1` a hard link, `2` a link, `3` and `4` devices, `5` a folder, `6` a pipe.
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Whole seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) device: (u32, u32),
    pub(crate) attributes: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Header<'a> {
    /// An empty file of mode 0, of root, of 1970: what a whiteout is.
    pub(crate) fn empty(name: &'a [u8]) -> Self {
        Self {
            name,
            link: b"",
            kind: b'0',
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            device: (0, 0),
            attributes: &[],
        }
    }
}

impl Header<'_> {
    /// Appends the header's blocks.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
        let split = split(self.name);
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let number = |key: &str, value: i128, digits: u32, records: &mut Vec<(Vec<u8>, Vec<u8>)>| {
            if !fits(value, digits) {
                records.push((key.into(), value.to_string().into_bytes()));
            }
        };
        if self.link.len() > 100 || !is_ascii(self.link) {
            records.push((b"linkpath".to_vec(), self.link.to_vec()));
        }
        number("uid", self.uid.into(), 7, &mut records);
        number("gid", self.gid.into(), 7, &mut records);
        number("size", self.size.into(), 11, &mut records);
        number("mtime", self.mtime.into(), 11, &mut records);
        for (name, value) in self.attributes {
            records.push(([b"SCHILY.xattr.", &name[..]].concat(), value.clone()));
        }
        let fits = self.name.len() <= 100 && is_ascii(self.name);
        if records.is_empty() && (fits || split.is_some()) {
            let (prefix, name) = split.unwrap_or((b"", self.name));
            out.extend_from_slice(&self.block(name, self.link, prefix));
            return Ok(());
        }
        if !fits {
            // A name that could be split is not, once there is a PAX header.
            records.push((b"path".to_vec(), self.name.to_vec()));
        }
        self.extended(records, out)?;
        // As a PAX archive has it: what does not fit is cut, and the name is not split.
        out.extend_from_slice(&self.block(&ascii(self.name), &ascii(self.link), b""));
        Ok(())
    }

    /// The PAX header with its records, ordered by key.
    fn extended(&self, mut records: Vec<(Vec<u8>, Vec<u8>)>, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
        records.sort();
        let mut data = Vec::new();
        for (key, value) in &records {
            record(key, value, &mut data);
        }
        if data.len() > MOST_RECORDS {
            let path = std::path::PathBuf::from(String::from_utf8_lossy(self.name).into_owned());
            return Err(SnapshotError::AttributesTooLarge { path, limit: MOST_RECORDS });
        }
        let folder = self.name.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let name = [&self.name[..folder], b"PaxHeaders.0/", &self.name[folder..]].concat();
        let mut name = ascii(name.strip_suffix(b"/").unwrap_or(&name));
        name.truncate(100);
        let mut block = [0; BLOCK];
        text(&mut block[..100], name.strip_suffix(b"/").unwrap_or(&name));
        for field in [100..108, 108..116, 116..124] {
            octal(&mut block[field], 0);
        }
        octal(&mut block[124..136], data.len() as i128);
        octal(&mut block[136..148], 0);
        block[156] = b'x';
        out.extend_from_slice(&sealed(block));
        out.extend_from_slice(&data);
        out.resize(out.len() + padding(data.len() as u64), 0);
        Ok(())
    }

    fn block(&self, name: &[u8], link: &[u8], prefix: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        text(&mut block[..100], name);
        octal(&mut block[100..108], self.mode.into());
        octal(&mut block[108..116], self.uid.into());
        octal(&mut block[116..124], self.gid.into());
        octal(&mut block[124..136], self.size.into());
        octal(&mut block[136..148], self.mtime.into());
        block[156] = self.kind;
        text(&mut block[157..257], link);
        octal(&mut block[329..337], self.device.0.into());
        octal(&mut block[337..345], self.device.1.into());
        text(&mut block[345..500], prefix);
        sealed(block)
    }
}

/// How many zero bytes follow content of that size.
pub(crate) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).expect("less than a block");
    (BLOCK - over) % BLOCK
}

fn sealed(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    octal(&mut block[148..155], sum.into());
    block
}

/// The name in the two fields of a ustar header, if it is long and can be cut in two at a slash.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 || !is_ascii(name) {
        return None;
    }
    let end = if name.len() > 156 {
        156
    } else if name.ends_with(b"/") {
        name.len() - 1
    } else {
        name.len()
    };
    let at = name[..end].iter().rposition(|&byte| byte == b'/')?;
    let rest = name.len() - at - 1;
    (at > 0 && rest > 0 && rest <= 100 && at <= 155).then(|| (&name[..at], &name[at + 1..]))
}

/// One record: its own length, key and value.
fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn fits(value: i128, digits: u32) -> bool {
    value >= 0 && value < 1 << (digits * 3)
}

/// Octal digits with leading zeros and a NUL behind them; zero where the value does not fit.
fn octal(field: &mut [u8], value: i128) {
    let digits = u32::try_from(field.len() - 1).expect("a field of a header is short");
    let value = if fits(value, digits) { value } else { 0 };
    let text = format!("{value:0width$o}\0", width = field.len() - 1);
    field.copy_from_slice(text.as_bytes());
}

/// The text as far as it fits. A cut must not leave a slash at the end: some readers take such an entry for a folder.
fn text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    if text.len() > field.len() && field.ends_with(b"/") {
        let kept = field.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
        field[kept] = 0;
    }
}

fn is_ascii(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte != 0 && byte < 0x80)
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|&byte| byte != 0 && byte < 0x80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &[u8]) -> Header<'_> {
        Header { mode: 0o644, ..Header::empty(name) }
    }

    fn blocks(header: &Header<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        header.write(&mut out).unwrap();
        out
    }

    #[test]
    fn what_fits_is_one_ustar_block() {
        let out = blocks(&Header { mtime: 1_600_000_000, uid: 0o7_777_777, ..header(b"etc/passwd") });
        assert_eq!(out.len(), BLOCK);
        assert_eq!(&out[..11], b"etc/passwd\0");
        assert_eq!(&out[100..108], b"0000644\0");
        assert_eq!(&out[108..116], b"7777777\0");
        assert_eq!(&out[136..148], b"13727410000\0");
        assert_eq!(&out[257..265], b"ustar\x0000");
        assert_eq!(&out[329..345], b"0000000\x000000000\0");
    }

    #[test]
    fn a_long_name_is_split_at_a_slash_where_it_can_be() {
        let name = [b"d".repeat(120), b"/".to_vec(), b"f".repeat(90)].concat();
        let out = blocks(&header(&name));
        assert_eq!(out.len(), BLOCK);
        assert_eq!(&out[..90], &b"f".repeat(90)[..]);
        assert_eq!(&out[345..465], &b"d".repeat(120)[..]);
    }

    #[test]
    fn what_does_not_fit_is_in_records_ordered_by_key() {
        let name = [b"d/".to_vec(), b"f".repeat(120)].concat();
        let attributes = [(b"user.a".to_vec(), b"x\ny\0z".to_vec())];
        let out = blocks(&Header { uid: 1 << 21, mtime: -5, attributes: &attributes, ..header(&name) });
        let name = String::from_utf8(name).unwrap();
        let records =
            format!("29 SCHILY.xattr.user.a=x\ny\0z\n12 mtime=-5\n{} path={name}\n15 uid=2097152\n", name.len() + 10);
        assert_eq!(out.len(), 3 * BLOCK);
        assert_eq!(out[156], b'x');
        assert_eq!(&out[..21], format!("d/PaxHeaders.0/{}", "f".repeat(6)).as_bytes());
        assert_eq!(String::from_utf8_lossy(&out[BLOCK..BLOCK + records.len()]), records);
        assert_eq!(&out[2 * BLOCK..2 * BLOCK + 100], &name.as_bytes()[..100]);
        assert_eq!(&out[2 * BLOCK + 108..2 * BLOCK + 116], b"0000000\0");
    }

    #[test]
    fn a_name_that_could_be_split_is_whole_in_the_records_once_there_are_any() {
        let name = [b"n".repeat(98), b"/aa".to_vec()].concat();
        let attributes = [(b"user.a".to_vec(), b"x".to_vec())];
        let out = blocks(&Header { attributes: &attributes, ..header(&name) });
        let name = String::from_utf8(name).unwrap();
        let records = format!("25 SCHILY.xattr.user.a=x\n111 path={name}\n");
        assert_eq!(String::from_utf8_lossy(&out[BLOCK..BLOCK + records.len()]), records);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for length in 0..2000 {
            let mut out = Vec::new();
            record(b"path", &vec![b'x'; length], &mut out);
            let said: usize =
                std::str::from_utf8(&out[..out.iter().position(|&b| b == b' ').unwrap()]).unwrap().parse().unwrap();
            assert_eq!(said, out.len());
        }
    }

    #[test]
    fn a_folder_with_a_name_beyond_ascii_has_its_header_within_itself() {
        let out = blocks(&Header { kind: b'5', mode: 0o755, ..header("grün/é/".as_bytes()) });
        assert_eq!(&out[..22], b"grn//PaxHeaders.0\0\0\0\0\0");
    }
}
