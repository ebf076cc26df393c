//! The kernel's table of mounts, as text: which places are mount points.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The mount points of a table such as `/proc/self/mountinfo` (proc(5)), "/" among them, sorted, each once. The fifth field
/// of a line is the place; blanks, tabs, newlines and backslashes in it are octal escapes.
pub fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    let fields = table.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    let mut points: Vec<PathBuf> = fields
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter(|path| path.is_absolute())
        .collect();
    points.sort();
    points.dedup();
    points
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, behind)) = rest.split_first() {
        let code = (byte == b'\\')
            .then(|| behind.get(..3))
            .flatten()
            .filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mount_points_are_unescaped_sorted_and_told_once() {
        let text = b"22 1 0:21 / / rw - overlay overlay rw\n\
            23 22 0:22 / /proc rw - proc proc rw\n\
            24 22 0:5 /x /srv/with\\040blank\\134 rw shared:1 - ext4 /dev/sda rw\n\
            25 22 0:5 /y /etc/hosts rw - ext4 /dev/sda rw\n\
            26 22 0:5 /y /etc/hosts rw - ext4 /dev/sda rw\n\
            27 22 0:5 /y /odd\\999\\+12\\ rw - ext4 /dev/sda rw\n\nhalf a line\n";
        let expected = ["/", "/etc/hosts", "/odd\\999\\+12\\", "/proc", "/srv/with blank\\"];
        assert_eq!(mount_points(text), expected.map(Path::new));
    }
}
