//! One pattern of a `.dockerignore`: which paths it matches, as github.com/moby/patternmatcher has it.
//!
//! No path takes longer than the product of the lengths of pattern and path.

use super::pattern::{BadPattern, Class, Pattern, character};

/// How a pattern is compared. The first three are shortcuts of moby's that differ from the last in odd cases (`**foo`
/// matches `barfoo`, `**foo*` does not match `barfoo`); people's files were written against them, so they are kept.
#[derive(Debug, Clone)]
pub(super) enum IgnorePattern {
    /// No wildcards: this path.
    Exact(Vec<u8>),
    /// Only `**` at the end: what begins so.
    Prefix(Vec<u8>),
    /// Only `**` at the beginning: what ends so.
    Suffix(Vec<u8>),
    /// Anything else.
    Glob(Vec<Part>),
}

/// Which of the forms a pattern has, as far as it was read.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Exact,
    Prefix,
    Suffix,
    Glob,
}

#[derive(Debug, Clone)]
pub(super) enum Part {
    /// This character, or 0x110000 plus a byte that is not UTF-8.
    One(u32),
    /// `?`
    AnyOne,
    /// `*`
    AnyInName,
    /// `[…]`
    Class(Class),
    /// `**/`, and `**` before anything else: nothing, or anything up to and with a `/`.
    Folders,
    /// `**` at the end.
    Rest,
}

impl IgnorePattern {
    pub(super) fn parse(pattern: &[u8]) -> Result<Self, BadPattern> {
        // moby asks Go's filepath.Match whether the whole is well-formed before it makes its own sense of it.
        Pattern::parse(pattern)?;
        let mut kind = Kind::Exact;
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some((found, width)) = unit(rest) {
            let first = parts.is_empty();
            rest = &rest[width..];
            if found == u32::from('*') && rest.first() == Some(&b'*') {
                rest = &rest[1..];
                rest = rest.strip_prefix(b"/").unwrap_or(rest);
                if !rest.is_empty() {
                    parts.push(Part::Folders);
                    kind = Kind::Glob;
                } else if kind == Kind::Exact {
                    parts.push(Part::Rest);
                    kind = Kind::Prefix;
                } else {
                    parts.push(Part::Rest);
                    kind = Kind::Glob;
                }
                if first {
                    kind = Kind::Suffix;
                }
                continue;
            }
            let part = match char::from_u32(found) {
                Some('*') => Part::AnyInName,
                Some('?') => Part::AnyOne,
                Some('[') => {
                    let (class, after) = Class::parse(rest)?;
                    rest = after;
                    Part::Class(class)
                }
                Some('\\') => {
                    let (escaped, width) = unit(rest).ok_or(BadPattern::Escape)?;
                    rest = &rest[width..];
                    kind = Kind::Glob;
                    Part::One(escaped)
                }
                _ => Part::One(found),
            };
            if !matches!(part, Part::One(_)) {
                kind = Kind::Glob;
            }
            parts.push(part);
        }
        Ok(match kind {
            Kind::Exact => Self::Exact(pattern.to_vec()),
            Kind::Prefix => Self::Prefix(pattern[..pattern.len() - 2].to_vec()),
            Kind::Suffix => Self::Suffix(pattern[2..].to_vec()),
            Kind::Glob => Self::Glob(parts),
        })
    }

    /// Whether the pattern matches the path or one of the folders it lies in.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let folders = || path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| &path[..end]);
        match self {
            Self::Exact(exact) => {
                path.strip_prefix(exact.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            }
            // A folder's path begins as the paths in it do.
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Suffix(suffix) => folders()
                .chain([path])
                .any(|path| path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|suffix| path == suffix)),
            Self::Glob(parts) => Walk::along(parts, path) == Ended::Matched,
        }
    }

    /// Whether some path below the folder could match; the folder is given with a `/` at its end.
    pub(super) fn reaches_below(&self, folder: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.starts_with(folder),
            Self::Prefix(prefix) => prefix.starts_with(folder) || folder.starts_with(prefix),
            Self::Suffix(_) => true,
            Self::Glob(parts) => Walk::along(parts, folder) != Ended::Lost,
        }
    }
}

/// All the places in a pattern that a path read so far may have led to: no path takes longer than the product of both
/// lengths.
struct Walk<'a> {
    parts: &'a [Part],
    at: Vec<bool>,
}

#[derive(Debug, PartialEq)]
enum Ended {
    /// The path, or a folder it lies in, matches.
    Matched,
    /// It does not, but a longer one may.
    Alive,
    /// Nothing that begins so matches.
    Lost,
}

impl<'a> Walk<'a> {
    fn along(parts: &'a [Part], path: &[u8]) -> Ended {
        let mut walk = Self { parts, at: vec![false; parts.len() + 1] };
        walk.enter(0);
        let mut rest = path;
        while let Some((found, width)) = unit(rest) {
            if found == u32::from('/') && walk.at[parts.len()] {
                return Ended::Matched;
            }
            if !walk.step(found) {
                return Ended::Lost;
            }
            rest = &rest[width..];
        }
        if walk.at[parts.len()] { Ended::Matched } else { Ended::Alive }
    }

    /// Arrives at a place, and at those behind it that need no character.
    fn enter(&mut self, place: usize) {
        for place in place..=self.parts.len() {
            self.at[place] = true;
            match self.parts.get(place) {
                Some(Part::AnyInName | Part::Folders | Part::Rest) => {}
                _ => return,
            }
        }
    }

    /// Reads one character; says whether any place is left.
    fn step(&mut self, found: u32) -> bool {
        let slash = found == u32::from('/');
        let before = std::mem::replace(&mut self.at, vec![false; self.parts.len() + 1]);
        for (place, part) in self.parts.iter().enumerate().filter(|(place, _)| before[*place]) {
            match part {
                Part::One(one) if *one == found => self.enter(place + 1),
                Part::AnyOne if !slash => self.enter(place + 1),
                Part::Class(class) if class.holds(char::from_u32(found).unwrap_or(char::REPLACEMENT_CHARACTER)) => {
                    self.enter(place + 1);
                }
                Part::AnyInName if !slash => self.enter(place),
                Part::Rest => self.enter(place),
                Part::Folders => {
                    // Still among the folders: what follows `**/` begins only behind a `/`.
                    self.at[place] = true;
                    if slash {
                        self.enter(place + 1);
                    }
                }
                _ => {}
            }
        }
        self.at.contains(&true)
    }
}

/// One character, bytes that are not UTF-8 told apart.
fn unit(text: &[u8]) -> Option<(u32, usize)> {
    match character(text)? {
        (char::REPLACEMENT_CHARACTER, 1) => Some((0x11_0000 + u32::from(text[0]), 1)),
        (found, width) => Some((u32::from(found), width)),
    }
}
