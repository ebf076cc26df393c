//! The mount points of this process: what the runtime or the user laid into the container, and no image's.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::IsolationError;

/// Every mount point but "/", from `mountinfo` (`/proc/self/mountinfo`, proc(5)), sorted.
pub fn mount_points(mountinfo: &Path) -> Result<Vec<PathBuf>, IsolationError> {
    let text = fs::read(mountinfo).map_err(|source| IsolationError::Mounts { path: mountinfo.to_owned(), source })?;
    Ok(parse(&text))
}

/// The fifth field of each line is the mount point; blanks, tabs, newlines and backslashes in it are octal escapes.
fn parse(text: &[u8]) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = text
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter(|path| path != Path::new("/"))
        .collect();
    points.sort();
    points.dedup();
    points
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'\\'
            && tail.len() >= 3
            && let Some(byte) = octal(&tail[..3])
        {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    let mut value = 0u32;
    for &digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        value = value * 8 + u32::from(digit - b'0');
    }
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped_and_the_root_is_not_one() {
        let text = b"22 1 0:21 / / rw - overlay overlay rw\n\
            23 22 0:22 / /proc rw - proc proc rw\n\
            24 22 0:5 /x /srv/with\\040blank\\134 rw shared:1 - ext4 /dev/sda rw\n\
            25 22 0:5 /y /etc/hosts rw - ext4 /dev/sda rw\n\
            26 22 0:5 /y /etc/hosts rw - ext4 /dev/sda rw\n";
        let expected: Vec<PathBuf> = ["/etc/hosts", "/proc", "/srv/with blank\\"].iter().map(PathBuf::from).collect();
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn a_mount_list_that_is_not_there_is_an_error_that_names_it() {
        let error = mount_points(Path::new("/nonexistent/mountinfo")).unwrap_err();
        assert_eq!(error.to_string(), "read /nonexistent/mountinfo");
    }
}
