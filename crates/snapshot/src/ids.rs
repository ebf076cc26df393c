//! Ids that a user namespace does not have: to whoever gives a file to one of them the kernel answers "invalid argument" and
//! no more (chown(2)). Here it is found out which one it was.

use std::fs;
use std::io;

use crate::SnapshotError;

/// A user or a group that does not exist in this user namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {id} here: those of this user namespace are {known}")]
pub struct UnmappedId {
    /// `user` or `group`.
    pub what: &'static str,
    /// Its number.
    pub id: u32,
    /// The numbers there are, as ranges.
    pub known: String,
}

impl UnmappedId {
    /// The id that an error comes from, if it comes from one.
    pub fn behind<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a UnmappedId> {
        let mut next = Some(error);
        while let Some(error) = next {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(found) = inner.and_then(|inner| inner.downcast_ref()) {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

/// The same error, with the id named where the lack of one is why.
pub(crate) fn explain(error: SnapshotError, uid: u32, gid: u32) -> SnapshotError {
    let (SnapshotError::Path { source, .. } | SnapshotError::Unpack { source, .. }) = &error else { return error };
    if source.raw_os_error() != Some(rustix::io::Errno::INVAL.raw_os_error()) {
        return error;
    }
    let unmapped = |file, what, id| {
        let known = ranges(&fs::read_to_string(file).ok()?);
        let is_known = known.iter().any(|(first, last)| (*first..=*last).contains(&id));
        (!is_known).then(|| UnmappedId { what, id, known: shown(&known) })
    };
    let Some(unmapped) =
        unmapped("/proc/self/uid_map", "user", uid).or_else(|| unmapped("/proc/self/gid_map", "group", gid))
    else {
        return error;
    };
    let source = io::Error::new(io::ErrorKind::InvalidInput, unmapped);
    match error {
        SnapshotError::Path { action, path, .. } => SnapshotError::Path { action, path, source },
        SnapshotError::Unpack { entry, .. } => SnapshotError::Unpack { entry, source },
        other => other,
    }
}

/// First and last id of each row of a map: `user_namespaces(7)`; rows that follow one another are one range.
fn ranges(map: &str) -> Vec<(u32, u32)> {
    let row = |line: &str| {
        let mut fields = line.split_whitespace();
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?);
        Some((first, first.saturating_add(count.saturating_sub(1))))
    };
    let mut rows: Vec<_> = map.lines().filter_map(row).collect();
    rows.sort_unstable();
    rows.dedup_by(|next, range| {
        let follows = range.1.checked_add(1) == Some(next.0);
        if follows {
            range.1 = next.1;
        }
        follows
    });
    rows
}

fn shown(ranges: &[(u32, u32)]) -> String {
    let range =
        |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first} to {last}") };
    ranges.iter().map(range).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_map_are_told_as_ranges() {
        let map =
            "         0      54711          1\n         1     700000      65536\n    100000     900000         10\n";
        assert_eq!(ranges(map), [(0, 65536), (100_000, 100_009)]);
        assert_eq!(shown(&ranges(map)), "0 to 65536, 100000 to 100009");
        assert_eq!(shown(&ranges("0 1000 1\n")), "0");
        assert_eq!(ranges("0 0 4294967295\n"), [(0, u32::MAX - 1)]);
    }

    #[test]
    fn an_error_of_another_kind_is_left_as_it_is() {
        let error = SnapshotError::path("set owner and mode of", "/x", rustix::io::Errno::NOSPC);
        assert_eq!(explain(error, u32::MAX, 0).io_kind(), Some(io::ErrorKind::StorageFull));
        let error = SnapshotError::path("set owner and mode of", "/x", rustix::io::Errno::INVAL);
        let error = explain(error, u32::MAX, 0);
        let unmapped = UnmappedId::behind(&error).expect("no namespace has the last id");
        assert_eq!((unmapped.what, unmapped.id), ("user", u32::MAX));
        assert!(std::error::Error::source(&error).unwrap().to_string().starts_with("there is no user 4294967295 here"));
    }
}
