//! Which files the sources of a COPY or ADD name.
//!
//! A source is a path from the root of the build context (or of the stage or image that `--from` names); `..` ends at
//! that root. With wildcards it names every path that matches, name by name (`pattern.rs`), in the order of
//! their bytes; matching nothing is no error then, as in `BuildKit`. Without, what it names must be there. A link that is named is followed,
//! inside the root; on the way of a wildcard links are not.
//!
//! What is done with the files is not decided here, nor which files below a named folder come along: for that
//! [`Dockerignore::include`] is asked while the folder is copied.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zuwai_snapshot::{Include, Kind, RootFs, SnapshotError};

use super::clean::clean;
use super::dockerignore::Dockerignore;
use super::pattern::{BadPattern, Pattern};

/// One file or folder that a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its path in the root as it was named; a link at its end gives the copy its name.
    pub path: PathBuf,
    /// Its path without links: what `.dockerignore` is asked about.
    pub real: PathBuf,
    /// What it is; never a link.
    pub kind: Kind,
}

/// A source that cannot be copied.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// Nothing is there.
    #[error("{source_text:?} not found in {place}")]
    NotFound {
        /// The source as written.
        source_text: String,
        /// Where it was looked for, in words.
        place: &'static str,
        /// A name that differs only in its letters' case.
        similar: Option<String>,
    },
    /// A link is there that leads to nothing.
    #[error("{source_text:?} not found in {place}: {link:?} is a link to {target:?}, where nothing is")]
    Dangling {
        /// The source as written.
        source_text: String,
        /// Where it was looked for, in words.
        place: &'static str,
        /// The link.
        link: String,
        /// What it says.
        target: String,
    },
    /// It is there, and `.dockerignore` hides it.
    #[error("{source_text:?} not found in {place}: {}:{line} hides it with {rule:?}", file.display())]
    IgnoredBy {
        /// The source as written.
        source_text: String,
        /// Where it was looked for, in words.
        place: &'static str,
        /// The `.dockerignore`.
        file: PathBuf,
        /// The line in it, from 1.
        line: usize,
        /// The line's pattern.
        rule: String,
        /// The path that is hidden, from the context.
        path: String,
    },
    /// The wildcards are not well-formed.
    #[error("{source_text:?} is not a pattern")]
    Pattern {
        /// The source as written.
        source_text: String,
        /// What is wrong with it.
        source: BadPattern,
    },
    /// The root could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl FilesError {
    /// The same of a named context, which is not the one that messages call the build context.
    pub(crate) fn in_named_context(self) -> Self {
        match self {
            Self::NotFound { source_text, similar, .. } => Self::NotFound { source_text, place: NAMED, similar },
            Self::Dangling { source_text, link, target, .. } => {
                Self::Dangling { source_text, place: NAMED, link, target }
            }
            Self::IgnoredBy { source_text, file, line, rule, path, .. } => {
                Self::IgnoredBy { source_text, place: NAMED, file, line, rule, path }
            }
            other => other,
        }
    }

    /// A way out, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { similar: Some(similar), .. } => {
                Some(format!("there is {similar:?}: capital and small letters are different letters"))
            }
            Self::NotFound { place, .. } if *place == CONTEXT => {
                Some("sources are relative to the build context (--context), not to the Dockerfile".to_owned())
            }
            Self::IgnoredBy { path, line, .. } => {
                Some(format!("take the line out, or write `!{path}` below line {line}"))
            }
            _ => None,
        }
    }
}

const CONTEXT: &str = "the build context";
const NAMED: &str = "the named context";
const ELSEWHERE: &str = "the stage or image that --from names";

/// All files that the sources name, in the order of the sources. `ignore` is given for the build context, and `None` for
/// what `--from` names: no ignore file holds there.
pub fn matching(root: &RootFs, sources: &[String], ignore: Option<&Dockerignore>) -> Result<Vec<Named>, FilesError> {
    let mut named = Vec::new();
    for source in sources {
        Search { root, ignore, source }.run(&mut named)?;
    }
    Ok(named)
}

/// Whether a source has wildcards.
pub(crate) fn has_wildcards(source: &str) -> bool {
    let mut characters = source.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => drop(characters.next()),
            _ => {}
        }
    }
    false
}

/// The file or folder of exactly this path, in which wildcards are characters: what a mount shows.
pub(crate) fn one(root: &RootFs, path: &str, ignore: Option<&Dockerignore>) -> Result<Named, FilesError> {
    let source = path.trim_start_matches('/');
    let cleaned = clean(format!("/{source}").as_bytes());
    let search = Search { root, ignore, source };
    search.exactly(Path::new(OsStr::from_bytes(&cleaned)))
}

impl Dockerignore {
    /// Whether a file or folder of the context, met while a folder is copied, comes along.
    pub fn include(&self, path: &Path) -> Include {
        if self.hidden_by(path).is_none() {
            Include::Yes
        } else if self.may_show_below(path) {
            Include::Below
        } else {
            Include::No
        }
    }
}

/// A source of `COPY --parents`: what matches below a folder comes along with the folders above it.
pub(crate) struct Pivot<'a> {
    /// What stands before `/./`, or the root.
    pub(crate) folder: String,
    /// What stands behind it.
    pub(crate) pattern: &'a str,
    /// Whether there are no wildcards in either: then it must be there.
    pub(crate) literal: bool,
    /// What of the folder comes along; `None` is all of it.
    pub(crate) shown: Option<Dockerignore>,
}

/// Takes a source of `COPY --parents` apart.
pub(crate) fn pivot(source: &str) -> Result<Pivot<'_>, FilesError> {
    let (folder, pattern) = source.split_once("/./").unwrap_or(("/", source));
    let folder = if folder.is_empty() { "/" } else { folder };
    let shown = Dockerignore::showing_only(pattern)
        .map_err(|error| FilesError::Pattern { source_text: source.to_owned(), source: error })?;
    let whole = matches!(pattern.trim_matches('/'), "" | ".");
    let literal = !has_wildcards(folder) && !has_wildcards(pattern);
    Ok(Pivot { folder: folder.to_owned(), pattern, literal, shown: (!whole).then_some(shown) })
}

/// What two filters let through.
pub(crate) fn both(one: Include, other: Include) -> Include {
    match (one, other) {
        (Include::No, _) | (_, Include::No) => Include::No,
        (Include::Below, _) | (_, Include::Below) => Include::Below,
        (Include::Yes, Include::Yes) => Include::Yes,
    }
}

struct Search<'a> {
    root: &'a RootFs,
    ignore: Option<&'a Dockerignore>,
    source: &'a str,
}

impl Search<'_> {
    fn run(&self, named: &mut Vec<Named>) -> Result<(), FilesError> {
        let path = clean(format!("/{}", self.source).as_bytes());
        let names = path[1..].split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let patterns = names
            .map(Pattern::parse)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| FilesError::Pattern { source_text: self.source.to_owned(), source })?;
        let literals: Vec<OsString> = patterns.iter().map_while(Pattern::literal).map(OsString::from_vec).collect();
        let wild = &patterns[literals.len()..];
        let fixed: PathBuf = [OsString::from("/")].into_iter().chain(literals).collect();
        if wild.is_empty() {
            named.push(self.exactly(&fixed)?);
            return Ok(());
        }
        match self.locate(&fixed)? {
            Some((real, Kind::Dir)) => self.below(&fixed, &real, wild, named),
            _ => Ok(()),
        }
    }

    /// The one file of this path, which must be there and may be seen.
    fn exactly(&self, path: &Path) -> Result<Named, FilesError> {
        let Some((real, kind)) = self.locate(path)? else { return Err(self.missing(path)) };
        self.check_seen(path, kind)?;
        self.check_seen(&real, kind)?;
        Ok(Named { path: path.to_owned(), real, kind })
    }

    /// What the path leads to, links followed; `None` when nothing is there.
    fn locate(&self, path: &Path) -> Result<Option<(PathBuf, Kind)>, FilesError> {
        match self.root.resolve(path) {
            Ok(located) => Ok(located.kind.map(|kind| (located.real, kind))),
            Err(error) if matches!(error.io_kind(), Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Everything below a folder that matches the rest of the pattern.
    fn below(
        &self,
        folder: &Path,
        real: &Path,
        patterns: &[Pattern],
        named: &mut Vec<Named>,
    ) -> Result<(), FilesError> {
        let [pattern, rest @ ..] = patterns else { return Ok(()) };
        if self.ignore.is_some_and(|ignore| ignore.include(real) == Include::No) {
            return Ok(());
        }
        for name in self.root.read_dir(real)? {
            if !pattern.matches(name.as_bytes()) {
                continue;
            }
            let (path, real) = (folder.join(&name), real.join(&name));
            let kind = self.root.metadata(&real)?.map(|metadata| metadata.kind);
            match kind {
                Some(Kind::Dir) if !rest.is_empty() => self.below(&path, &real, rest, named)?,
                Some(kind) if rest.is_empty() && self.hiding(&real, kind)?.is_none() => {
                    named.push(self.exactly(&path)?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_seen(&self, path: &Path, kind: Kind) -> Result<(), FilesError> {
        self.hiding(path, kind)?.map_or(Ok(()), Err)
    }

    /// Why the path may not be seen. A hidden folder may be seen when something in it is.
    fn hiding(&self, path: &Path, kind: Kind) -> Result<Option<FilesError>, FilesError> {
        let Some(ignore) = self.ignore else { return Ok(None) };
        let Some(rule) = ignore.hidden_by(path) else { return Ok(None) };
        if kind == Kind::Dir && self.shows_below(ignore, path)? {
            return Ok(None);
        }
        Ok(Some(FilesError::IgnoredBy {
            place: CONTEXT,
            source_text: self.source.to_owned(),
            file: ignore.file().to_owned(),
            line: rule.line,
            rule: rule.text.clone(),
            path: path.strip_prefix("/").unwrap_or(path).display().to_string(),
        }))
    }

    fn shows_below(&self, ignore: &Dockerignore, folder: &Path) -> Result<bool, FilesError> {
        if !ignore.may_show_below(folder) || self.root.metadata(folder)?.is_none_or(|found| found.kind != Kind::Dir) {
            return Ok(false);
        }
        for name in self.root.read_dir(folder)? {
            let path = folder.join(name);
            if ignore.hidden_by(&path).is_none() || self.shows_below(ignore, &path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says why nothing was found.
    fn missing(&self, path: &Path) -> FilesError {
        let place = if self.ignore.is_some() { CONTEXT } else { ELSEWHERE };
        let source_text = self.source.to_owned();
        // The first part of the path that is not there is the one to tell about.
        let mut so_far = PathBuf::from("/");
        for name in path.components().skip(1) {
            let next = so_far.join(name);
            if let Ok(Some(_)) = self.locate(&next) {
                so_far = next;
                continue;
            }
            if let Ok(target) = self.root.read_link(&next) {
                let link = next.strip_prefix("/").unwrap_or(&next).display().to_string();
                return FilesError::Dangling { source_text, place, link, target: target.display().to_string() };
            }
            let similar = self.similar(&so_far, name.as_os_str());
            return FilesError::NotFound { source_text, place, similar };
        }
        FilesError::NotFound { source_text, place, similar: None }
    }

    fn similar(&self, folder: &Path, name: &OsStr) -> Option<String> {
        let names = self.root.read_dir(folder).ok()?;
        let found = names.iter().find(|there| there.eq_ignore_ascii_case(name))?;
        let path = folder.join(found);
        Some(path.strip_prefix("/").unwrap_or(&path).display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;
    use zuwai_snapshot::Ignore;

    use super::*;

    fn tree(files: &[&str]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if file.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::write(path, file).unwrap();
            }
        }
        folder
    }

    fn names(folder: &TempDir, source: &str, ignore: Option<&str>) -> Result<Vec<String>, FilesError> {
        let root = RootFs::open(folder.path(), Ignore::default()).unwrap();
        let ignore = ignore.map(|text| Dockerignore::parse(text.as_bytes(), Path::new(".dockerignore")).unwrap());
        let named = matching(&root, &[source.to_owned()], ignore.as_ref())?;
        Ok(named.into_iter().map(|named| named.path.display().to_string()).collect())
    }

    fn message(folder: &TempDir, source: &str, ignore: Option<&str>) -> String {
        names(folder, source, ignore).unwrap_err().to_string()
    }

    #[test]
    fn a_path_names_what_is_there_and_cannot_leave_the_root() {
        let folder = tree(&["a/b/file", "top"]);
        for (source, expected) in [
            ("top", "/top"),
            ("/top", "/top"),
            ("./a/b/", "/a/b"),
            (".", "/"),
            ("", "/"),
            ("/", "/"),
            ("../../top", "/top"),
            ("a/../../top", "/top"),
            ("a//b/./file", "/a/b/file"),
        ] {
            assert_eq!(names(&folder, source, None).unwrap(), [expected], "{source}");
        }
    }

    #[test]
    fn wildcards_match_name_by_name_in_the_order_of_the_names() {
        let folder = tree(&["b.txt", "a.txt", ".hidden", "d1/x", "d2/x", "d2/sub/x", "arr[0].txt", "file*"]);
        for (source, expected) in [
            ("*.txt", &["/a.txt", "/arr[0].txt", "/b.txt"][..]),
            ("?.txt", &["/a.txt", "/b.txt"]),
            ("d*/x", &["/d1/x", "/d2/x"]),
            ("*/x", &["/d1/x", "/d2/x"]),
            ("d[2-9]", &["/d2"]),
            ("*", &["/.hidden", "/a.txt", "/arr[0].txt", "/b.txt", "/d1", "/d2", "/file*"]),
            ("arr[[]0].txt", &["/arr[0].txt"]),
            ("file\\*", &["/file*"]),
            ("*.nope", &[]),
            ("nope/*", &[]),
            ("a.txt/*", &[]),
            ("*/sub/x", &["/d2/sub/x"]),
            ("d2/*/../x", &["/d2/x"]),
        ] {
            assert_eq!(names(&folder, source, None).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_that_says_where_it_was_looked_for() {
        let folder = tree(&["Target/App.jar"]);
        assert_eq!(message(&folder, "x y", Some("")), "\"x y\" not found in the build context");
        assert_eq!(message(&folder, "x", None), "\"x\" not found in the stage or image that --from names");
        assert_eq!(
            message(&folder, "Target/App.jar/x", None),
            "\"Target/App.jar/x\" not found in the stage or image that --from names"
        );
        let error = names(&folder, "target/app.jar", Some("")).unwrap_err();
        assert_eq!(error.hint().unwrap(), "there is \"Target\": capital and small letters are different letters");
    }

    #[test]
    fn a_pattern_that_is_none_is_an_error() {
        let folder = tree(&[]);
        assert_eq!(message(&folder, "a[", None), "\"a[\" is not a pattern");
    }

    #[test]
    fn a_named_link_is_followed_inside_the_root() {
        let folder = tree(&["real/file"]);
        symlink("/real", folder.path().join("absolute")).unwrap();
        symlink("../../real/file", folder.path().join("up")).unwrap();
        symlink("/etc/hostname", folder.path().join("out")).unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        let root = RootFs::open(folder.path(), Ignore::default()).unwrap();
        let one = |source: &str| matching(&root, &[source.to_owned()], None).unwrap().remove(0);
        assert_eq!(one("absolute"), Named { path: "/absolute".into(), real: "/real".into(), kind: Kind::Dir });
        assert_eq!(one("absolute/file").real, Path::new("/real/file"));
        assert_eq!(one("up"), Named { path: "/up".into(), real: "/real/file".into(), kind: Kind::File });
        assert_eq!(
            message(&folder, "out", Some("")),
            "\"out\" not found in the build context: \"out\" is a link to \"/etc/hostname\", where nothing is"
        );
        assert!(names(&folder, "o*", Some("")).is_err());
        assert!(names(&folder, "loop", Some("")).is_err());
    }

    #[test]
    fn a_wildcard_does_not_walk_through_links() {
        let folder = tree(&["real/sub/file"]);
        symlink("real", folder.path().join("link")).unwrap();
        assert_eq!(names(&folder, "*/sub/file", None).unwrap(), ["/real/sub/file"]);
        assert_eq!(names(&folder, "link/*/file", None).unwrap(), ["/link/sub/file"]);
        assert_eq!(names(&folder, "l*", None).unwrap(), ["/link"]);
    }

    #[test]
    fn what_dockerignore_hides_is_not_found_and_the_line_is_named() {
        let folder = tree(&["target/app.jar", "a.md", "README.md"]);
        let error = names(&folder, "target/app.jar", Some("# build\ntarget\n")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"target/app.jar\" not found in the build context: .dockerignore:2 hides it with \"target\""
        );
        assert_eq!(error.hint().unwrap(), "take the line out, or write `!target/app.jar` below line 2");
        assert_eq!(names(&folder, "*.md", Some("*.md\n!README.md")).unwrap(), ["/README.md"]);
        assert!(names(&folder, "target", Some("target")).is_err());
        assert_eq!(names(&folder, "target/*", Some("target")).unwrap(), [] as [&str; 0]);
        assert_eq!(names(&folder, ".", Some("**")).unwrap(), ["/"]);
        assert_eq!(names(&folder, "target/app.jar", None).unwrap(), ["/target/app.jar"]);
    }

    #[test]
    fn a_hidden_folder_is_found_when_something_in_it_is_taken_back() {
        let folder = tree(&["dir/sub/keep", "dir/other"]);
        assert_eq!(names(&folder, "dir", Some("dir\n!dir/sub/keep")).unwrap(), ["/dir"]);
        assert_eq!(names(&folder, "*/sub", Some("dir\n!dir/sub/keep")).unwrap(), ["/dir/sub"]);
        assert!(names(&folder, "dir", Some("dir\n!dir/sub/nope")).is_err());
        assert!(names(&folder, "dir/other", Some("dir\n!dir/sub/keep")).is_err());
    }

    #[test]
    fn a_link_to_a_hidden_file_shows_nothing() {
        let folder = tree(&["secret"]);
        symlink("secret", folder.path().join("open")).unwrap();
        assert_eq!(
            message(&folder, "open", Some("secret")),
            "\"open\" not found in the build context: .dockerignore:1 hides it with \"secret\""
        );
        assert!(names(&folder, "open", Some("open")).is_err());
    }
}
