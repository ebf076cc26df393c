//! `.dockerignore`: which files of the build context COPY and ADD may not see.
//!
//! The dialect is that of github.com/moby/patternmatcher, which docker build uses, told in docs.docker.com's "Build
//! context" under ".dockerignore files". In short: one pattern a line, `#` at its very beginning makes it a comment, blanks
//! around it do not count, a leading `/` means nothing; `!` takes back what earlier lines hid; the last line that
//! matches a file *or one of its folders* decides. `*` and `?` do not match `/`, `**` does.
//!
//! This file reads the text and answers for one path. It is the caller who asks before a file is touched, and who
//! need not enter a hidden folder unless [`Dockerignore::may_show_below`] says so.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::clean::clean;
use super::pattern::{BadPattern, Class, Pattern, character};

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
    form: Form,
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

/// How a pattern is compared. The first three are shortcuts of moby's that differ from the last in odd cases (`**foo`
/// matches `barfoo`, `**foo*` does not match `barfoo`); people's files were written against them, so they are kept.
#[derive(Debug, Clone)]
enum Form {
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
enum Part {
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
                return Err(DockerignoreError::Alone { file: file.to_owned(), line });
            }
            let text = String::from_utf8_lossy(written).into_owned();
            let form = Form::parse(&pattern).map_err(|source| DockerignoreError::Pattern {
                file: file.to_owned(),
                line,
                text: text.clone(),
                source,
            })?;
            rules.push(Rule { line, text, shows, form });
        }
        Ok(Self { file: file.to_owned(), rules })
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
        self.rules[later..].iter().any(|rule| rule.shows && rule.form.reaches_below(&folder))
    }

    /// The place of the last rule that matches the path or one of its folders.
    fn deciding(&self, path: &Path) -> Option<usize> {
        let path = relative(path);
        if path.is_empty() || path == b"." {
            return None;
        }
        self.rules.iter().rposition(|rule| rule.form.matches(path))
    }
}

impl Form {
    fn parse(pattern: &[u8]) -> Result<Self, BadPattern> {
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
    fn matches(&self, path: &[u8]) -> bool {
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
    fn reaches_below(&self, folder: &[u8]) -> bool {
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

/// The path as patterns are written against: from the context, without a `/` at either end.
fn relative(path: &Path) -> &[u8] {
    let mut bytes = path.as_os_str().as_bytes();
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = bytes {
        bytes = rest;
    }
    bytes
}

/// One character, bytes that are not UTF-8 told apart.
fn unit(text: &[u8]) -> Option<(u32, usize)> {
    match character(text)? {
        (char::REPLACEMENT_CHARACTER, 1) => Some((0x11_0000 + u32::from(text[0]), 1)),
        (found, width) => Some((u32::from(found), width)),
    }
}

/// Without the blanks around it, as Go's `strings.TrimSpace` understands blank.
fn trim(line: &[u8]) -> &[u8] {
    std::str::from_utf8(line).map_or_else(|_| line.trim_ascii(), |line| line.trim().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ignore(text: &str) -> Dockerignore {
        Dockerignore::parse(text.as_bytes(), Path::new(".dockerignore")).unwrap()
    }

    fn hides(text: &str, path: &str) -> bool {
        ignore(text).hidden_by(Path::new(path)).is_some()
    }

    #[test]
    fn a_pattern_matches_as_moby_says() {
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("dir/**", "dirs/file", false),
            ("dir**", "dirs/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "a/b/dir", true),
            ("**/dir", "a/b/dir/file", true),
            ("**/dir", "adir", false),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/dir2/file", true),
            ("**/dir2/**", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2", false),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**file", "xfile", true),
            ("**/file", "xfile", false),
            ("**/file*.txt", "dir/file1.txt", true),
            ("**/*.txt", "file.txt", true),
            ("**/*.txt", "dir/file.txt", true),
            ("**/*.txt", "dir/file.txtx", false),
            ("**/*.txt", "dir/.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a**/*.txt", "ab/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt**", "a/file.txt", true),
            ("a**b", "ab", true),
            ("a**b", "axb", false),
            ("a**b", "ax/b", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            ("a[^b-d]e", "a/e", true),
            ("a[!b]e", "a!e", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a?b", "a/b", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("abc*def+", "abcxdef+", true),
            ("(a)|b$*", "(a)|b$c", true),
            ("{a,b}", "a", false),
            ("foo", "foo/bar/baz", true),
            ("foo", "x/foo", false),
            ("foo/", "foo/bar", true),
            ("/foo", "foo", true),
            ("./foo", "foo", true),
            ("foo/../bar", "bar", true),
            ("*", "a/b", true),
            ("*/*/temp*", "a/b/temporary/x", true),
            ("*/temp*", "somedir/temporary.txt", true),
            ("temp?", "tempa", true),
            (".", "file", false),
            ("/", "file", false),
            ("..", "file", false),
            ("../file", "file", false),
            ("☺*", "☺x", true),
            ("☺?", "☺☺", true),
            ("\\!a", "!a", true),
            ("!!a", "!a", false),
            ("  spaced  ", "spaced", true),
            (" # no comment", "# no comment", true),
        ] {
            assert_eq!(hides(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_line_that_matches_decides() {
        assert!(!hides("*.md\n!README.md", "README.md"));
        assert!(hides("!README.md\n*.md", "README.md"));
        assert!(hides("*.md\n!README*.md\nREADME-secret.md", "README-secret.md"));
        assert!(!hides("dir\n!dir/keep", "dir/keep/file"));
        assert!(hides("dir\n!dir/keep\ndir/keep/file", "dir/keep/file"));
        assert!(hides("*\n!src", "Makefile"));
        assert!(!hides("*\n!src", "src/main.c"));
        assert!(!hides("*\n! src", "src/main.c"));
        assert!(!hides("*\n!/src", "src/main.c"));
        assert!(!hides("!a*\n*\n!*b*", "abc"));
    }

    #[test]
    fn the_context_itself_is_never_hidden() {
        for path in ["", ".", "/"] {
            assert!(!hides("**", path));
        }
    }

    #[test]
    fn comments_blank_lines_carriage_returns_and_a_byte_order_mark_are_no_patterns() {
        let ignore = ignore("\u{feff}# first\r\n\r\n  \r\n one \r\n#two\n\tthree\n");
        let rules: Vec<_> = ignore.rules.iter().map(|rule| (rule.line, rule.text.as_str())).collect();
        assert_eq!(rules, [(4, "one"), (6, "three")]);
        assert!(ignore.hidden_by(Path::new("one")).is_some());
    }

    #[test]
    fn the_rule_that_hides_is_named_with_its_line() {
        let ignore = ignore("# build\n\ntarget\n**/*.jar\n");
        let rule = ignore.hidden_by(Path::new("/target/app.jar")).unwrap();
        assert_eq!((rule.line, rule.text.as_str()), (4, "**/*.jar"));
        let rule = ignore.hidden_by(Path::new("target/classes")).unwrap();
        assert_eq!((rule.line, rule.text.as_str()), (3, "target"));
    }

    #[test]
    fn what_is_no_pattern_is_an_error_with_its_line() {
        for (text, expected) in [
            ("a\n[", "x/.dockerignore:2: `[` is not a pattern"),
            ("a[]b", "x/.dockerignore:1: `a[]b` is not a pattern"),
            ("[z-a]", "x/.dockerignore:1: `[z-a]` is not a pattern"),
            ("\n\n!\n", "x/.dockerignore:3: `!` stands alone: there is no pattern behind it"),
            ("! ", "x/.dockerignore:1: `!` stands alone: there is no pattern behind it"),
            ("!/", "x/.dockerignore:1: `!` stands alone: there is no pattern behind it"),
            ("a\\", "x/.dockerignore:1: `a\\` is not a pattern"),
        ] {
            let error = Dockerignore::parse(text.as_bytes(), Path::new("x/.dockerignore")).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_hidden_folder_is_entered_only_if_a_later_line_may_take_back_something_in_it() {
        for (text, folder, expected) in [
            ("node_modules", "node_modules", false),
            ("node_modules\n!node_modules/keep", "node_modules", true),
            ("node_modules\n!node_modules/a/b/keep", "node_modules/a", true),
            ("node_modules\n!node_modules/a/b/keep", "node_modules/b", false),
            ("!node_modules/keep\nnode_modules", "node_modules", false),
            ("*\n!src", "docs", false),
            ("*\n!src/main", "src", true),
            ("node_modules\n!*.md", "node_modules", false),
            ("node_modules\n!*/*.md", "node_modules", true),
            ("node_modules\n!*/*.md", "node_modules/x", false),
            ("node_modules\n!**/*.md", "node_modules/x", true),
            ("node_modules\n!**.md", "node_modules/x", true),
            ("node_modules/**\n!node_modules/x/**", "node_modules/x", true),
            ("node_modules\n!other/**", "node_modules/x", false),
            ("node_modules\n!node_modules/x/**", "node_modules", true),
        ] {
            assert_eq!(ignore(text).may_show_below(Path::new(folder)), expected, "{text:?} {folder}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_compared_by_their_bytes() {
        use std::ffi::OsStr;
        let ignore = Dockerignore::parse(b"a\xff\n*\xfe", Path::new(".dockerignore")).unwrap();
        let hidden = |name: &[u8]| ignore.hidden_by(Path::new(OsStr::from_bytes(name))).is_some();
        assert!(hidden(b"a\xff"));
        assert!(hidden(b"xx\xfe"));
        assert!(!hidden(b"xx\xfd"));
        assert!(!hidden(b"a\xfd"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_no_trap() {
        let ignore = ignore(&"**/a*".repeat(60));
        assert!(ignore.hidden_by(Path::new(&"a/".repeat(2_000))).is_some());
        assert!(ignore.hidden_by(Path::new(&format!("{}b", "aaaa".repeat(1_000)))).is_none());
    }

    fn lines() -> impl Strategy<Value = String> {
        prop::collection::vec("!?(\\*\\*/|\\*/|/)?[ab*?]{1,3}(/[ab*]{1,2}){0,2}", 0..5)
            .prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        /// Walking with `may_show_below` as the guard sees every file that asking for each file would show.
        #[test]
        fn a_folder_that_is_not_entered_holds_nothing_to_be_seen(lines in lines(), path in "[ab]{1,2}(/[ab]{1,2}){0,3}") {
            let Ok(ignore) = Dockerignore::parse(lines.as_bytes(), Path::new("i")) else { return Ok(()) };
            if ignore.hidden_by(Path::new(&path)).is_none() {
                for folder in Path::new(&path).ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
                    prop_assert!(
                        ignore.hidden_by(folder).is_none() || ignore.may_show_below(folder),
                        "{} is shown but {} is not entered", path, folder.display()
                    );
                }
            }
        }

        #[test]
        fn a_file_in_a_folder_that_matches_matches_too(pattern in "[ab*?/]{1,6}", path in "[ab]{1,2}(/[ab]{1,2}){0,2}") {
            let Ok(ignore) = Dockerignore::parse(pattern.as_bytes(), Path::new("i")) else { return Ok(()) };
            if ignore.hidden_by(Path::new(&path)).is_some() {
                prop_assert!(ignore.hidden_by(&Path::new(&path).join("below")).is_some());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..60), path in "[a-z/*.]{0,20}") {
            if let Ok(ignore) = Dockerignore::parse(&text, Path::new("i")) {
                ignore.hidden_by(Path::new(&path));
                ignore.may_show_below(Path::new(&path));
            }
        }
    }
}
