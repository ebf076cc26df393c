//! The wildcards of COPY and ADD: Go's `filepath.Match`, applied to one name of a path at a time.
//!
//! The grammar (<https://pkg.go.dev/path/filepath#Match>): `*` is any run of characters, `?` is one, `[a-z]` and `[^a-z]`
//! are classes, `\c` is `c` itself. A class may not be empty, and `]` or `-` in it must be escaped. Characters are those
//! of UTF-8; a byte that belongs to none counts as one character by itself.
//!
//! This file decides whether one name matches; which names are looked at is the job of [`files`](super::files).
//! `.dockerignore` has a dialect of its own, [`dockerignore`](super::dockerignore), that shares only the classes.

use thiserror::Error;

/// A pattern for one name, known to be well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadPattern {
    /// A `[` without its `]`.
    #[error("`[` is never closed by `]` (write `[[]` or `\\[` for the character itself)")]
    Unclosed,
    /// `[]`, `[^]`, or a class that begins with `]`.
    #[error("`[]` names no character (write `\\]` for the character itself)")]
    Empty,
    /// `-` where a character must stand.
    #[error("`-` in `[…]` stands between two characters (write `\\-` for the character itself)")]
    Dash,
    /// `[z-a]`.
    #[error("the range `{0}-{1}` in `[…]` is the wrong way round")]
    Reversed(char, char),
    /// `\` with nothing after it.
    #[error("`\\` stands at the end (write `\\\\` for the character itself)")]
    Escape,
    /// A class with bytes in it that are not UTF-8.
    #[error("`[…]` holds bytes that are not UTF-8")]
    Encoding,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `*`
    Any,
    /// `?`
    One,
    /// `[…]`
    Class(Class),
    /// This byte.
    Byte(u8),
}

/// The characters in `[…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Pattern {
    /// Reads the pattern of one name; it holds no `/`.
    pub(super) fn parse(text: &[u8]) -> Result<Self, BadPattern> {
        let mut parts = Vec::with_capacity(text.len());
        let mut rest = text;
        while let [first, after @ ..] = rest {
            rest = after;
            parts.push(match first {
                b'*' if parts.last() == Some(&Part::Any) => continue,
                b'*' => Part::Any,
                b'?' => Part::One,
                b'[' => {
                    let (class, after) = Class::parse(after)?;
                    rest = after;
                    Part::Class(class)
                }
                b'\\' => {
                    let (byte, after) = after.split_first().ok_or(BadPattern::Escape)?;
                    rest = after;
                    Part::Byte(*byte)
                }
                byte => Part::Byte(*byte),
            });
        }
        Ok(Self { parts })
    }

    /// The one name that matches, when there are no wildcards: escapes are resolved.
    pub(super) fn literal(&self) -> Option<Vec<u8>> {
        self.parts.iter().map(|part| if let Part::Byte(byte) = part { Some(*byte) } else { None }).collect()
    }

    /// Whether `name` matches, all of it. Takes no more than the product of both lengths.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // Where the newest `*` stands and what it has swallowed up to: on a mismatch it takes one character more. An
        // older `*` need not be asked again, whatever it could take the newer one can take too.
        let mut star: Option<(usize, usize)> = None;
        loop {
            let step = match self.parts.get(part) {
                None if at == name.len() => return true,
                None => None,
                Some(Part::Any) => {
                    star = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(Part::Byte(byte)) => (name.get(at) == Some(byte)).then_some(1),
                Some(Part::One) => character(&name[at..]).map(|(_, width)| width),
                Some(Part::Class(class)) => {
                    character(&name[at..]).filter(|(character, _)| class.holds(*character)).map(|(_, width)| width)
                }
            };
            if let Some(width) = step {
                part += 1;
                at += width;
                continue;
            }
            let Some((star_part, swallowed)) = star else { return false };
            let Some((_, width)) = character(&name[swallowed..]) else { return false };
            star = Some((star_part, swallowed + width));
            (part, at) = (star_part + 1, swallowed + width);
        }
    }
}

impl Class {
    /// Reads what follows the `[`; gives what follows the `]`.
    pub(super) fn parse(text: &[u8]) -> Result<(Self, &[u8]), BadPattern> {
        let negated = text.first() == Some(&b'^');
        let mut rest = &text[usize::from(negated)..];
        let mut ranges = Vec::new();
        loop {
            if let [b']', after @ ..] = rest
                && !ranges.is_empty()
            {
                return Ok((Self { negated, ranges }, after));
            }
            let (low, after) = Self::bound(rest)?;
            let (high, after) = match after {
                [b'-', after @ ..] => Self::bound(after)?,
                _ => (low, after),
            };
            if low > high {
                return Err(BadPattern::Reversed(low, high));
            }
            ranges.push((low, high));
            rest = after;
        }
    }

    /// One end of a range.
    fn bound(text: &[u8]) -> Result<(char, &[u8]), BadPattern> {
        let text = match text {
            [] => return Err(BadPattern::Unclosed),
            [b'-', ..] => return Err(BadPattern::Dash),
            [b']', ..] => return Err(BadPattern::Empty),
            [b'\\'] => return Err(BadPattern::Escape),
            [b'\\', after @ ..] => after,
            text => text,
        };
        match character(text) {
            Some((char::REPLACEMENT_CHARACTER, 1)) => Err(BadPattern::Encoding),
            Some((found, width)) => Ok((found, &text[width..])),
            None => Err(BadPattern::Unclosed),
        }
    }

    /// Whether the class has this character.
    pub(super) fn holds(&self, character: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != self.negated
    }
}

/// The first character of a name and how many bytes it has. A byte that is not UTF-8 is U+FFFD and one byte long, as Go
/// has it.
pub(super) fn character(text: &[u8]) -> Option<(char, usize)> {
    let first = *text.first()?;
    let width = match first {
        0..=0x7f => return Some((char::from(first), 1)),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Some((char::REPLACEMENT_CHARACTER, 1)),
    };
    let decoded =
        text.get(..width).and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|text| text.chars().next());
    Some(decoded.map_or((char::REPLACEMENT_CHARACTER, 1), |character| (character, width)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern.as_bytes()).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn a_name_matches_as_go_says() {
        // Those rows of Go's own table that hold for one name, and a few more.
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b*c*d*e*f", "axbxcxdxexxxf", true),
            ("a*b*c*d*e*f", "axbxcxdxexxx", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "a", false),
            ("*x", "xxx", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("[!a]", "!", true),
            ("[!a]", "b", false),
            ("arr[[]0].txt", "arr[0].txt", true),
            (".*", ".git", true),
            ("*", ".git", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_not_a_pattern_is_told_apart() {
        for (pattern, expected) in [
            ("[]a]", BadPattern::Empty),
            ("[-]", BadPattern::Dash),
            ("[x-]", BadPattern::Empty),
            ("[-x]", BadPattern::Dash),
            ("[a-b-c]", BadPattern::Dash),
            ("[", BadPattern::Unclosed),
            ("[^", BadPattern::Unclosed),
            ("[^bc", BadPattern::Unclosed),
            ("a[", BadPattern::Unclosed),
            ("[z-a]", BadPattern::Reversed('z', 'a')),
            ("a\\", BadPattern::Escape),
            ("[\\", BadPattern::Escape),
        ] {
            assert_eq!(Pattern::parse(pattern.as_bytes()), Err(expected), "{pattern}");
        }
        assert_eq!(Pattern::parse(b"[\xff]"), Err(BadPattern::Encoding));
    }

    #[test]
    fn a_byte_that_is_not_utf8_is_one_character() {
        let pattern = Pattern::parse(b"a?b").unwrap();
        assert!(pattern.matches(b"a\xffb"));
        assert!(!pattern.matches(b"a\xff\xfeb"));
        assert!(Pattern::parse(b"\xff*").unwrap().matches(b"\xff\xfe"));
    }

    #[test]
    fn only_a_pattern_without_wildcards_is_literal() {
        let literal = |text: &[u8]| Pattern::parse(text).unwrap().literal();
        assert_eq!(literal(b"a\\*b"), Some(b"a*b".to_vec()));
        assert_eq!(literal(b"a*b"), None);
        assert_eq!(literal(b"a?"), None);
        assert_eq!(literal(b"[a]"), None);
    }

    #[test]
    fn many_stars_take_no_more_than_the_product_of_the_lengths() {
        let pattern = Pattern::parse("*a".repeat(200).as_bytes()).unwrap();
        assert!(!pattern.matches("a".repeat(199).as_bytes()));
        assert!(!pattern.matches(format!("{}b", "a".repeat(5_000)).as_bytes()));
    }

    /// The definition, read aloud: slow and obvious.
    fn by_definition(parts: &[Part], name: &[u8]) -> bool {
        let Some((part, parts)) = parts.split_first() else { return name.is_empty() };
        let Some((found, width)) = character(name) else { return *part == Part::Any && by_definition(parts, name) };
        match part {
            Part::Any => by_definition(parts, name) || by_definition(&[&[Part::Any], parts].concat(), &name[width..]),
            Part::One => by_definition(parts, &name[width..]),
            Part::Class(class) => class.holds(found) && by_definition(parts, &name[width..]),
            Part::Byte(byte) => name[0] == *byte && by_definition(parts, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn the_quick_way_and_the_definition_agree(pattern in "[ab*?☺]{0,7}", name in "[ab☺]{0,7}") {
            let pattern = Pattern::parse(pattern.as_bytes()).unwrap();
            prop_assert_eq!(pattern.matches(name.as_bytes()), by_definition(&pattern.parts, name.as_bytes()));
        }

        #[test]
        fn an_escaped_name_matches_itself_and_nothing_else(name in "[^/\0]{1,12}", other in "[^/\0]{1,12}") {
            let mut escaped = Vec::new();
            for byte in name.bytes() {
                escaped.extend([b'\\', byte]);
            }
            let pattern = Pattern::parse(&escaped).unwrap();
            prop_assert!(pattern.matches(name.as_bytes()));
            prop_assert_eq!(pattern.matches(other.as_bytes()), other == name);
        }

        #[test]
        fn no_bytes_make_it_panic(pattern in prop::collection::vec(any::<u8>(), 0..40), name in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                pattern.matches(&name);
            }
        }
    }
}
