//! Contexts besides the main one: what `--build-context NAME=VALUE` says, and which names of a Dockerfile it takes the place
//! of. A name is compared as an image's name is, so that `alpine`, `alpine:latest` and `docker.io/library/alpine` are one;
//! the name of a stage counts, too, and such a stage is not built.

use std::path::{Path, PathBuf};

use thiserror::Error;
use zuwai_registry::image::ReferenceError;
use zuwai_registry::{Digest, Reference};

use super::git::{self, GitError};
use super::{Context, ContextError, Fetching, below, check, repository};
use crate::event::Event;
use crate::instruction::{SourceKind, kind_of};
use crate::request::{ContextRequest, GitOptions, NamedContext, NamedSource};

/// Names that mean something already: nothing, and the main context.
const TAKEN: [&str; 2] = ["scratch", "context"];

/// A `--build-context` that says nothing, or what cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NamedContextError {
    /// There is no name, or no value.
    #[error("{text:?} is not NAME=VALUE")]
    Form {
        /// As given.
        text: String,
    },
    /// Names are compared with those of images, and no image can be called so.
    #[error("{name:?} cannot be the name of a context: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: ReferenceError,
    },
    /// The name means something else, whatever is given.
    #[error("{name:?} cannot be the name of a context: FROM and --from know it as something else")]
    Taken {
        /// The name.
        name: String,
    },
    /// `docker-image://` before something that names no image.
    #[error("{name}: {text} cannot be an image: {reason}")]
    Image {
        /// The context's name.
        name: String,
        /// As given.
        text: String,
        /// Why not.
        reason: ReferenceError,
    },
    /// `oci-layout://` before something that names none.
    #[error("{name}: {text:?} is not FOLDER[:TAG][@DIGEST]")]
    Layout {
        /// The context's name.
        name: String,
        /// As given.
        text: String,
    },
    /// Files of a kind that are not fetched.
    #[error("{name}: a context from {kind} is not supported")]
    Kind {
        /// The context's name.
        name: String,
        /// What it is.
        kind: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// A place that no context can come from.
    #[error("{name}")]
    Place {
        /// The context's name.
        name: String,
        /// Why not.
        source: ContextError,
    },
}

impl NamedContextError {
    /// A way out, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Form { .. } => Some(
                "VALUE is a folder, docker-image://IMAGE, oci-layout://FOLDER[:TAG][@DIGEST], \
                 https://HOST/PATH.git[#REF[:FOLDER]], git://HOST/PATH[#REF] or tar://FILE"
                    .to_owned(),
            ),
            Self::Name { .. } | Self::Taken { .. } => {
                Some("a context is called as an image or a stage of the Dockerfile is".to_owned())
            }
            Self::Kind { instead, .. } => Some((*instead).to_owned()),
            Self::Place { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// What is no context perhaps was an address, with a login in it.
fn without_login(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match host.rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

impl NamedContext {
    /// Makes sense of `NAME=VALUE`. Files are fetched as those of `main` are, and never read from standard input, which is for
    /// that one.
    pub fn parse(text: &str, main: &ContextRequest) -> Result<NamedContext, NamedContextError> {
        let halves = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
        let (name, value) = halves.ok_or_else(|| NamedContextError::Form { text: without_login(text) })?;
        if TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
            return Err(NamedContextError::Taken { name: name.to_owned() });
        }
        let called = |reason| NamedContextError::Name { name: without_login(name), reason };
        let reference: Reference = name.parse().map_err(called)?;
        Ok(NamedContext { name: name.to_owned(), reference, source: source(name, value, main)? })
    }

    /// Whether a name in a Dockerfile, of an image or of a stage, means this context.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let taken = TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name));
        let is_it = |name: Reference| {
            (name.name(), name.tag_or_latest(), name.digest())
                == (self.reference.name(), self.reference.tag_or_latest(), self.reference.digest())
        };
        !taken && name.parse::<Reference>().is_ok_and(is_it)
    }

    /// Its value, for messages: credentials are taken out.
    pub(crate) fn shown(&self) -> String {
        match &self.source {
            NamedSource::Files(request) => super::shown(&request.location),
            NamedSource::Repository(request) => shown(&request.location),
            NamedSource::Image(reference) => format!("docker-image://{reference}"),
            NamedSource::Nothing => "docker-image://scratch".to_owned(),
            NamedSource::Layout { folder, .. } => format!("oci-layout://{}", folder.display()),
        }
    }

    /// Whether it is a folder of this machine, of which it can be said at once whether it is there.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(&self.source, NamedSource::Files(request) if super::is_folder(&request.location))
    }

    /// Fetches its files, if it is files.
    pub(crate) fn fetch(&self, fetching: &Place<'_>) -> Result<Option<Context>, ContextError> {
        let fetched = match &self.source {
            NamedSource::Files(request) => fetching.fetch(request),
            NamedSource::Repository(request) => fetching.check_out(request),
            NamedSource::Image(_) | NamedSource::Nothing | NamedSource::Layout { .. } => return Ok(None),
        };
        let named = |source| ContextError::Named { name: self.name.clone(), source: Box::new(source) };
        fetched.map(Some).map_err(named)
    }

    /// Whether an ignore file among its files holds. Of a repository's it is somebody else's, as in `BuildKit`.
    pub(crate) fn has_ignore_file(&self) -> bool {
        !matches!(self.source, NamedSource::Repository(_))
    }
}

/// The last context of the name: a later one counts.
pub(crate) fn find(contexts: &[NamedContext], name: &str) -> Option<usize> {
    contexts.iter().rposition(|context| context.is_called(name))
}

/// What a value stands for.
fn source(name: &str, value: &str, main: &ContextRequest) -> Result<NamedSource, NamedContextError> {
    // Credentials and the branch are those of the main context, and what is asked for there may be on another host.
    let git = GitOptions { credentials: None, branch: None, ..main.git.clone() };
    let request = ContextRequest {
        location: value.to_owned(),
        sub_path: None,
        git,
        transport: main.transport.clone(),
        standard_input: None,
    };
    let kind = |kind, instead| Err(NamedContextError::Kind { name: name.to_owned(), kind, instead });
    let place = |source| NamedContextError::Place { name: name.to_owned(), source };
    if value == "docker-image://scratch" {
        return Ok(NamedSource::Nothing);
    }
    if let Some(text) = value.strip_prefix("docker-image://") {
        let image = |reason| NamedContextError::Image { name: name.to_owned(), text: text.to_owned(), reason };
        return text.parse().map(NamedSource::Image).map_err(image);
    }
    if let Some(text) = value.strip_prefix("oci-layout://") {
        let layout = || NamedContextError::Layout { name: name.to_owned(), text: text.to_owned() };
        return layout_of(text).ok_or_else(layout);
    }
    match kind_of(value) {
        SourceKind::Git if !value.starts_with("git://") => match repository(value) {
            Ok(_) => Ok(NamedSource::Repository(request)),
            Err(_) if !value.starts_with("http") => kind(
                "a repository over ssh",
                "write https://HOST/PATH.git#REF:FOLDER, or clone it first and name the folder",
            ),
            Err(error) => Err(place(error.into())),
        },
        SourceKind::Web => kind(
            "a web address",
            "fetch and unpack the archive first and name the folder; a repository's address ends with .git",
        ),
        SourceKind::Path | SourceKind::Git => {
            check(&request).map_err(place)?;
            Ok(NamedSource::Files(request))
        }
    }
}

/// `FOLDER[:TAG][@DIGEST]`, as `docker buildx` takes it apart: from the front.
fn layout_of(text: &str) -> Option<NamedSource> {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    let (folder, tag) = rest.split_once(':').map_or((rest, None), |(folder, tag)| (folder, Some(tag)));
    let digest = digest.map(str::parse::<Digest>).transpose().ok()?;
    if folder.is_empty() || tag.is_some_and(str::is_empty) {
        return None;
    }
    Some(NamedSource::Layout { folder: PathBuf::from(folder), tag: tag.map(str::to_owned), digest })
}

fn shown(address: &str) -> String {
    repository(address).map_or_else(|_| "a git repository".to_owned(), |repository| repository.shown())
}

/// Where files are fetched to, and with what.
pub(crate) struct Place<'a> {
    pub(crate) current_directory: &'a Path,
    /// A folder for what comes from elsewhere; it does not exist yet, or is empty.
    pub(crate) into: &'a Path,
    pub(crate) cancelled: &'a std::sync::atomic::AtomicBool,
    pub(crate) observer: &'a dyn crate::event::Observer,
}

impl Place<'_> {
    fn fetch(&self, request: &ContextRequest) -> Result<Context, ContextError> {
        super::fetch(request, self.current_directory, self.into, self.observer, self.cancelled)
    }

    /// The files of a repository, or of the folder in it that the address names.
    fn check_out(&self, request: &ContextRequest) -> Result<Context, ContextError> {
        let wanted = repository(&request.location)?;
        self.observer.event(&Event::ContextFetching { location: &wanted.shown() });
        let fetching = Fetching {
            request,
            current_directory: self.current_directory,
            into: self.into,
            cancelled: self.cancelled,
            observer: self.observer,
        };
        git::make_room(&fetching)?;
        let found = wanted.check_out(&request.git, &request.transport, self.into, self.cancelled)?;
        if let Some(checksum) = &wanted.checksum
            && !found.commit.starts_with(&checksum.to_ascii_lowercase())
        {
            return Err(GitError::NotThisCommit { wanted: checksum.clone(), found: found.commit }.into());
        }
        if wanted.keep_git_dir != Some(true) {
            let removed = git::remove_git(self.into);
            removed.map_err(|source| GitError::Write { path: self.into.join(".git"), source })?;
        }
        let root = match &wanted.folder {
            Some(folder) => below(self.into, Path::new(folder))
                .map_err(|_| ContextError::NoFolder { place: wanted.shown(), folder: folder.clone() })?,
            None => self.into.to_owned(),
        };
        Ok(Context { root, time: Some(found.time) })
    }
}

#[cfg(test)]
mod tests {
    use zuwai_registry::TransportOptions;

    use super::*;

    fn main() -> ContextRequest {
        ContextRequest {
            location: ".".to_owned(),
            sub_path: None,
            git: GitOptions { credentials: Some(("me".to_owned(), "secret".to_owned())), ..GitOptions::default() },
            transport: TransportOptions::default(),
            standard_input: None,
        }
    }

    fn parse(text: &str) -> Result<NamedContext, NamedContextError> {
        NamedContext::parse(text, &main())
    }

    #[test]
    fn a_context_takes_the_place_of_every_way_to_write_its_name() {
        for (name, meant, other) in [
            (
                "alpine",
                &["alpine", "alpine:latest", "docker.io/library/alpine"][..],
                &["alpine:3", "r.test/alpine"][..],
            ),
            ("alpine:3", &["alpine:3", "index.docker.io/library/alpine:3"], &["alpine", "alpine:3.1"]),
            ("docker.io/a/b:latest", &["a/b", "a/b:latest"], &["a/b:1"]),
            ("base", &["base"], &["scratch", "Scratch", "context", "", "a b"]),
        ] {
            let context = parse(&format!("{name}=folder")).unwrap();
            for name in meant {
                assert!(context.is_called(name), "{name}");
            }
            for name in other {
                assert!(!context.is_called(name), "{name}");
            }
        }
        let contexts = ["a=1", "b=2", "a=3"].map(|text| parse(text).unwrap());
        assert_eq!((find(&contexts, "a"), find(&contexts, "b"), find(&contexts, "c")), (Some(2), Some(1), None));
    }

    #[test]
    fn a_value_is_a_folder_an_image_a_layout_or_a_repository() {
        let source = |value: &str| parse(&format!("n={value}")).unwrap().source;
        for folder in ["folder", "/abs", "dir://x", "a=b", "target:x", "tar://x.tar", "git://host/path#main"] {
            assert!(matches!(source(folder), NamedSource::Files(request) if request.location == folder), "{folder}");
        }
        assert!(matches!(source("docker-image://scratch"), NamedSource::Nothing));
        assert!(matches!(source("docker-image://a:1"), NamedSource::Image(image) if image.tag() == Some("1")));
        assert!(matches!(source("https://host/a.git#main:sub"), NamedSource::Repository(_)));
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, expected) in [
            ("d".to_owned(), ("d", None, false)),
            ("d:1.0".to_owned(), ("d", Some("1.0"), false)),
            (format!("/d/e@{digest}"), ("/d/e", None, true)),
            (format!("d:1@{digest}"), ("d", Some("1"), true)),
        ] {
            let NamedSource::Layout { folder, tag, digest } = source(&format!("oci-layout://{text}")) else {
                panic!("{text}")
            };
            assert_eq!((folder.to_str().unwrap(), tag.as_deref(), digest.is_some()), expected, "{text}");
        }
    }

    #[test]
    fn the_token_of_the_main_context_is_not_for_others() {
        let NamedSource::Files(request) = parse("n=git://host/path").unwrap().source else { panic!("no files") };
        assert_eq!(request.git.credentials, None);
        assert_eq!(parse("n=https://me:secret@host/a.git").unwrap().shown(), "https://host/a.git");
    }

    #[test]
    fn what_cannot_be_a_context_is_refused_with_a_way_out() {
        for (text, message) in [
            ("folder", "\"folder\" is not NAME=VALUE"),
            ("=folder", "\"=folder\" is not NAME=VALUE"),
            ("name=", "\"name=\" is not NAME=VALUE"),
            ("https://me:secret@host/a.git", "\"https://host/a.git\" is not NAME=VALUE"),
            ("Scratch=x", "\"Scratch\" cannot be the name of a context: FROM and --from know it as something else"),
            ("n=https://host/a.tar.gz", "n: a context from a web address is not supported"),
            ("n=git@host:a/b.git", "n: a context from a repository over ssh is not supported"),
            ("n=ssh://git@host/a", "n: a context from a repository over ssh is not supported"),
            ("n=s3://bucket/x", "n"),
            ("n=oci-layout://", "n: \"\" is not FOLDER[:TAG][@DIGEST]"),
            ("n=oci-layout://d@sha256:1", "n: \"d@sha256:1\" is not FOLDER[:TAG][@DIGEST]"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
            assert!(error.hint().is_some() || matches!(error, NamedContextError::Layout { .. }), "{text}");
        }
        let error = parse("https://me:secret@host/a.git?ref=x").unwrap_err().to_string();
        assert!(error.starts_with("\"https://host/a.git?ref\" cannot be the name of a context: "), "{error}");
        assert!(parse("A=x").unwrap_err().to_string().starts_with("\"A\" cannot be the name of a context: "));
        assert!(parse("n::linux/arm64=x").is_err());
        assert!(parse("n=docker-image://A").unwrap_err().to_string().starts_with("n: A cannot be an image: "));
    }
}
