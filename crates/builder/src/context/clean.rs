//! Paths as Docker's own tools write them: Go's `path.Clean`, on bytes.

/// The shortest path that means the same by its text alone: no `//`, no `.`, no `..` but at the beginning of a relative
/// path. The empty path is `.`. Links are not looked at.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.last().is_some_and(|last| *last != b"..") => {
                names.pop();
            }
            b".." if rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_cleaned_as_go_does() {
        for (path, expected) in [
            ("", "."),
            ("abc", "abc"),
            ("abc/", "abc"),
            ("/", "/"),
            ("a//b", "a/b"),
            ("./a", "a"),
            ("a/./b", "a/b"),
            ("a/b/..", "a"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a", "../../a"),
            ("a/../../b", "../b"),
            ("/../a", "/a"),
            ("/a/../..", "/"),
            ("**/../a", "a"),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once(path in "[a./]{0,16}") {
            let once = clean(path.as_bytes());
            prop_assert_eq!(clean(&once), once);
        }
    }
}
