//! `.dockerignore`: which files of the build context COPY and ADD may not see.
//!
//! The dialect is that of github.com/moby/patternmatcher, which docker build uses, told in docs.docker.com's "Build
//! context" under ".dockerignore files". In short: one pattern a line, `#` at its very beginning makes it a comment, blanks
//! around it do not count, a leading `/` means nothing; `!` takes back what earlier lines hid; the last line that
//! matches a file *or one of its folders* decides. `*` and `?` do not match `/`, `**` does.
//!
//! This file reads the text and answers for one path. It is the caller who asks before a file is touched, and who
//! need not enter a hidden folder unless [`Dockerignore::may_show_below`] says so. How one pattern matches is in
//! [`ignore_pattern`](super::ignore_pattern).

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::clean::clean;
use super::ignore_pattern::IgnorePattern;
use super::pattern::BadPattern;

/// The rules of one `.dockerignore`, in the order of its lines. The default has none and hides nothing.
#[derive(Debug, Clone, Default)]
pub struct Dockerignore {
    file: PathBuf,
    rules: Vec<Rule>,
}

/// One line of a `.dockerignore`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The line it stands on, from 1.
    pub line: usize,
    /// The pattern as written, without the blanks around it.
    pub text: String,
    shows: bool,
    pattern: IgnorePattern,
}

/// A `.dockerignore` that cannot be understood. A wrong guess here would put a secret into an image.
#[derive(Debug, Error)]
pub enum DockerignoreError {
    /// The file could not be read.
    #[error("read {}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no pattern.
    #[error("{}:{line}: `{text}` is not a pattern", file.display())]
    Pattern {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The line.
        text: String,
        /// What is wrong with it.
        source: BadPattern,
    },
    /// A line holds nothing but `!`.
    #[error("{}:{line}: `!` stands alone: there is no pattern behind it", file.display())]
    Alone {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
}

impl Dockerignore {
    /// Reads the text of the file; its name is for messages.
    pub fn parse(text: &[u8], file: &Path) -> Result<Self, DockerignoreError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if line.first() == Some(&b'#') {
                continue;
            }
            let written = trim(line);
            if written.is_empty() {
                continue;
            }
            let line = number + 1;
            let rule = Rule::read(line, written).map_err(|source| DockerignoreError::Pattern {
                file: file.to_owned(),
                line,
                text: String::from_utf8_lossy(written).into_owned(),
                source,
            })?;
            rules.push(rule.ok_or_else(|| DockerignoreError::Alone { file: file.to_owned(), line })?);
        }
        Ok(Self { file: file.to_owned(), rules })
    }

    /// What `--exclude` hides: patterns in the same dialect, in which `#` means nothing. An error names the pattern that is
    /// none.
    pub(crate) fn excluding(patterns: &[String]) -> Result<Self, (String, Option<BadPattern>)> {
        let mut rules = Vec::new();
        for (pattern, line) in patterns.iter().zip(1..) {
            let written = trim(pattern.as_bytes());
            if written.is_empty() {
                continue;
            }
            let rule = Rule::read(line, written).map_err(|source| (pattern.clone(), Some(source)))?;
            rules.push(rule.ok_or_else(|| (pattern.clone(), None))?);
        }
        Ok(Self { file: PathBuf::new(), rules })
    }

    /// Hides everything but what matches a pattern, which is a path or has wildcards, and what lies below that.
    pub(crate) fn showing_only(pattern: &str) -> Result<Self, BadPattern> {
        let everything = Rule { line: 1, text: "*".to_owned(), shows: false, pattern: IgnorePattern::parse(b"*")? };
        let written = clean(pattern.as_bytes());
        let shown = IgnorePattern::parse(written.strip_prefix(b"/").unwrap_or(&written))?;
        let shown = Rule { line: 2, text: pattern.to_owned(), shows: true, pattern: shown };
        Ok(Self { file: PathBuf::new(), rules: vec![everything, shown] })
    }

    /// The file the rules were read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule that hides this path, relative to the context; `None` when it may be seen. The context itself is never
    /// hidden.
    pub fn hidden_by(&self, path: &Path) -> Option<&Rule> {
        self.deciding(path).map(|place| &self.rules[place]).filter(|rule| !rule.shows)
    }

    /// Whether a file below this hidden folder may be seen all the same, because a later line takes it back. Says yes only
    /// if such a path can be made up; there may be none on the disk.
    pub fn may_show_below(&self, folder: &Path) -> bool {
        let later = self.deciding(folder).map_or(0, |place| place + 1);
        let folder = [relative(folder), b"/"].concat();
        self.rules[later..].iter().any(|rule| rule.shows && rule.pattern.reaches_below(&folder))
    }

    /// The place of the last rule that matches the path or one of its folders.
    fn deciding(&self, path: &Path) -> Option<usize> {
        let path = relative(path);
        if path.is_empty() || path == b"." {
            return None;
        }
        self.rules.iter().rposition(|rule| rule.pattern.matches(path))
    }
}

impl Rule {
    /// Reads a line that is not empty; `None` where nothing stands behind a `!`.
    fn read(line: usize, written: &[u8]) -> Result<Option<Self>, BadPattern> {
        let (shows, pattern) = match written {
            [b'!', pattern @ ..] => (true, trim(pattern)),
            pattern => (false, pattern),
        };
        let pattern = match clean(pattern) {
            _ if pattern.is_empty() => pattern.to_vec(),
            cleaned if cleaned.len() > 1 && cleaned[0] == b'/' => cleaned[1..].to_vec(),
            cleaned => cleaned,
        };
        // `!/` is left with nothing too.
        if shows && (pattern.is_empty() || pattern == b"/") {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(written).into_owned();
        Ok(Some(Self { line, text, shows, pattern: IgnorePattern::parse(&pattern)? }))
    }
}

/// The path as patterns are written against: from the context, without a `/` at either end.
fn relative(path: &Path) -> &[u8] {
    let mut bytes = path.as_os_str().as_bytes();
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Without the blanks around it, as Go's `strings.TrimSpace` understands blank.
fn trim(line: &[u8]) -> &[u8] {
    std::str::from_utf8(line).map_or_else(|_| line.trim_ascii(), |line| line.trim().as_bytes())
}

#[cfg(test)]
#[path = "dockerignore_tests.rs"]
mod tests;
