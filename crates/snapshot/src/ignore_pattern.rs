//! A path with wildcards, component by component as Go's `path.Match` has them: `*`, `?`, `[a-z]`, `[^a]`, and `\\` before a
//! character that is meant as it is. They match bytes.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// See the module. Everything below what it matches counts, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IgnorePattern {
    text: String,
    components: Vec<Vec<u8>>,
}

/// A path with wildcards that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern}: {reason}")]
pub struct IgnorePatternError {
    /// As written.
    pub pattern: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl IgnorePattern {
    pub(crate) fn parse(text: &str) -> Result<Self, IgnorePatternError> {
        let wrong = |reason| IgnorePatternError { pattern: text.to_owned(), reason };
        let components: Vec<Vec<u8>> =
            text.split('/').filter(|part| !matches!(*part, "" | ".")).map(|part| part.as_bytes().to_vec()).collect();
        if components.is_empty() || components.iter().any(|part| part == b"..") {
            return Err(wrong("it names no path below /"));
        }
        for component in &components {
            let mut at = 0;
            while at < component.len() {
                at = end_of_one(component, at).map_err(wrong)?;
            }
        }
        Ok(Self { text: text.to_owned(), components })
    }

    /// As written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches the path or a folder above it.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        let names = names(path);
        names.len() >= self.components.len() && self.begins(&names[..self.components.len()])
    }

    /// Whether it may match something below the path.
    pub(crate) fn leads_to(&self, path: &Path) -> bool {
        let names = names(path);
        names.len() < self.components.len() && self.begins(&names)
    }

    fn begins(&self, names: &[&[u8]]) -> bool {
        names.iter().zip(&self.components).all(|(name, component)| matches(component, name))
    }
}

fn names(path: &Path) -> Vec<&[u8]> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// Where the part of a component that matches one byte, or is a `*`, ends.
fn end_of_one(component: &[u8], at: usize) -> Result<usize, &'static str> {
    match component[at] {
        b'\\' if at + 1 < component.len() => Ok(at + 2),
        b'\\' => Err("a backslash stands at an end, before nothing"),
        b'[' => {
            let mut next = at + 1 + usize::from(component.get(at + 1) == Some(&b'^'));
            let first = next;
            loop {
                match component.get(next) {
                    Some(b']') if next > first => return Ok(next + 1),
                    Some(b'\\') => next += 2,
                    Some(_) => next += 1,
                    None => return Err("a bracket is not closed"),
                }
            }
        }
        _ => Ok(at + 1),
    }
}

fn matches(component: &[u8], name: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Where the last star stands, and how much it has taken so far.
    let mut star = None;
    while place < name.len() {
        match component.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, place));
                continue;
            }
            Some(_) => {
                let end = end_of_one(component, at).unwrap_or(component.len());
                if takes(&component[at..end], name[place]) {
                    (at, place) = (end, place + 1);
                    continue;
                }
            }
            None => {}
        }
        let Some((after, taken)) = star else { return false };
        (at, place) = (after, taken + 1);
        star = Some((after, place));
    }
    component[at..].iter().all(|byte| *byte == b'*')
}

/// Whether the part that [`end_of_one`] found matches a byte.
fn takes(part: &[u8], byte: u8) -> bool {
    match part {
        [b'?'] => true,
        [b'[', b'^', class @ .., b']'] => !in_class(class, byte),
        [b'[', class @ .., b']'] => in_class(class, byte),
        [b'\\', literal] | [literal] => *literal == byte,
        _ => false,
    }
}

fn in_class(mut class: &[u8], byte: u8) -> bool {
    fn one(class: &[u8]) -> Option<(u8, &[u8])> {
        match class {
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
            [] => None,
        }
    }
    while let Some((low, rest)) = one(class) {
        let (high, rest) = match rest.strip_prefix(b"-").and_then(one) {
            Some(range) => range,
            None => (low, rest),
        };
        if (low..=high).contains(&byte) {
            return true;
        }
        class = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_component_matches_one() {
        let covers = |pattern: &str, path: &str| IgnorePattern::parse(pattern).unwrap().covers(Path::new(path));
        for (pattern, path) in [
            ("/var/cache/*", "/var/cache/apt"),
            ("/var/cache/*", "/var/cache/apt/archives/x.deb"),
            ("/*/cache", "/var/cache"),
            ("/tmp/a?c", "/tmp/abc"),
            ("/tmp/[a-c]*.[^o]", "/tmp/bxx.c"),
            ("/tmp/\\*", "/tmp/*"),
            ("/tmp/*a*b*", "/tmp/xxaxxbxx"),
            ("/tmp/[\\]]", "/tmp/]"),
            ("/a//./b*", "/a/b"),
        ] {
            assert!(covers(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/var/cache/*", "/var/cache"),
            ("/var/*", "/usr/x"),
            ("/tmp/a?c", "/tmp/ac"),
            ("/tmp/[a-c]", "/tmp/d"),
            ("/tmp/[^a]", "/tmp/a"),
            ("/tmp/\\*", "/tmp/x"),
            ("/tmp/*a", "/tmp/ab"),
            ("/t*/x", "/tmp/y/x"),
        ] {
            assert!(!covers(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn it_leads_from_every_folder_that_may_hold_a_match() {
        let pattern = IgnorePattern::parse("/var/*/x").unwrap();
        for path in ["/", "/var", "/var/lib"] {
            assert!(pattern.leads_to(Path::new(path)), "{path}");
        }
        for path in ["/usr", "/var/lib/x", "/var/lib/y"] {
            assert!(!pattern.leads_to(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for pattern in ["/a/[b", "/a/b\\", "/", "/a/../*", "/[^]"] {
            assert!(IgnorePattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
