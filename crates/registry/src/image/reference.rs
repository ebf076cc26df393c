//! The name of an image: registry, repository, and a tag, a digest or both.

use std::fmt;
use std::str::FromStr;

use super::{Digest, DigestError};

/// A name by the grammar of distribution/reference, with Docker Hub's short forms written out: `debian` is
/// `index.docker.io/library/debian`. A reference that exists is well-formed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Docker Hub as zuwai and Kaniko write it.
pub(crate) const DOCKER_HUB: &str = "index.docker.io";

/// What a name without tag and digest means.
const DEFAULT_TAG: &str = "latest";

/// The longest name before tag and digest (distribution/reference, `NameTotalLengthMax`).
const LONGEST_NAME: usize = 255;

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("image name is empty")]
    Empty,
    /// An upper-case letter in the repository.
    #[error("repository name of `{text}` must be lower case: it would be `{corrected}`")]
    UpperCase {
        /// As given.
        text: String,
        /// The same in lower case, the tag as it was.
        corrected: String,
    },
    /// A URL was given.
    #[error("image name `{text}` must not begin with `{scheme}`: it would be `{corrected}`")]
    Scheme {
        /// As given.
        text: String,
        /// `https://` or another.
        scheme: String,
        /// The rest.
        corrected: String,
    },
    /// The part before the first slash looks like a registry and is none.
    #[error("image name `{text}` has a malformed registry `{registry}`: {reason}")]
    Registry {
        /// As given.
        text: String,
        /// The malformed part.
        registry: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A part of the repository does not fit the grammar.
    #[error("image name `{text}` is malformed at `{component}`: {reason}")]
    Repository {
        /// As given.
        text: String,
        /// The malformed part.
        component: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The tag does not fit the grammar.
    #[error(
        "image name `{text}` has a malformed tag `{tag}`: up to 128 letters, digits, `_`, `.` and `-`, \
         not beginning with `.` or `-`"
    )]
    Tag {
        /// As given.
        text: String,
        /// The malformed part.
        tag: String,
    },
    /// The digest does not fit the grammar.
    #[error("image name `{text}` has a malformed digest")]
    Digest {
        /// As given.
        text: String,
        /// What is wrong.
        source: DigestError,
    },
    /// Longer than registries accept.
    #[error("image name `{text}` is too long: registry and repository have at most 255 characters")]
    TooLong {
        /// As given.
        text: String,
    },
}

impl Reference {
    /// `host`, `host:port`, `[::1]:port`; Docker Hub is always `index.docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The tag, or `latest` where none was written.
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or(DEFAULT_TAG)
    }

    /// The digest, if one was written. It wins over the tag when both are there.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What names the manifest inside the repository: the digest, else the tag, else `latest`.
    pub fn identifier(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag_or_latest().to_owned(),
        }
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository under this tag, and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        check_tag(tag)
            .then_some(())
            .ok_or_else(|| ReferenceError::Tag { text: self.to_string(), tag: tag.to_owned() })?;
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository, this digest, and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Another repository of another registry, the tag and digest the same: what a mirror makes of a name.
    pub(crate) fn relocated(&self, registry: &str, repository: &str) -> Reference {
        Reference { registry: registry.to_owned(), repository: repository.to_owned(), ..self.clone() }
    }

    /// As Docker writes it in archives: Docker Hub is `docker.io`, and the tag is always there.
    pub(crate) fn familiar(&self) -> String {
        let registry = if self.registry == DOCKER_HUB { "docker.io" } else { &self.registry };
        format!("{registry}/{}:{}", self.repository, self.tag_or_latest())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let (text, scheme, corrected) = (text.to_owned(), format!("{scheme}://"), rest.to_owned());
            return Err(ReferenceError::Scheme { text, scheme, corrected });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest =
                    digest.parse().map_err(|source| ReferenceError::Digest { text: text.to_owned(), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (registry, remainder) = split_registry(rest);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        if let Some(registry) = registry {
            check_registry(registry).map_err(|reason| ReferenceError::Registry {
                text: text.to_owned(),
                registry: registry.to_owned(),
                reason,
            })?;
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let head = registry.map(|registry| format!("{registry}/")).unwrap_or_default();
            let tail = &text[head.len() + path.len()..];
            let corrected = format!("{head}{}{tail}", path.to_ascii_lowercase());
            return Err(ReferenceError::UpperCase { text: text.to_owned(), corrected });
        }
        for component in path.split('/') {
            check_component(component).map_err(|reason| ReferenceError::Repository {
                text: text.to_owned(),
                component: component.to_owned(),
                reason,
            })?;
        }
        if registry.is_none() && path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let reason = "64 hexadecimal digits are an image id, not a name";
            return Err(ReferenceError::Repository { text: text.to_owned(), component: path.to_owned(), reason });
        }
        if let Some(tag) = tag.filter(|tag| !check_tag(tag)) {
            return Err(ReferenceError::Tag { text: text.to_owned(), tag: tag.to_owned() });
        }
        let registry = match registry {
            None => DOCKER_HUB.to_owned(),
            Some(registry) => canonical_registry(registry),
        };
        let repository = match path {
            single if registry == DOCKER_HUB && !single.contains('/') => format!("library/{single}"),
            path => path.to_owned(),
        };
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return Err(ReferenceError::TooLong { text: text.to_owned() });
        }
        Ok(Reference { registry, repository, tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

/// One name for each registry: Docker Hub has several, and host names do not care about case.
pub(crate) fn canonical_registry(registry: &str) -> String {
    match registry.to_ascii_lowercase().as_str() {
        "docker.io" | "registry-1.docker.io" | DOCKER_HUB => DOCKER_HUB.to_owned(),
        lower if lower.contains(['.', ':']) || lower == "localhost" => lower.to_owned(),
        // Its capital letters are all that tells it from a repository's first part.
        _ => registry.to_owned(),
    }
}

/// distribution/reference, `splitDockerDomain`: the part before the first slash is a registry when it has a dot or a
/// colon, is `localhost`, or has a capital letter (which no repository has).
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || (first.bytes().any(|byte| byte.is_ascii_uppercase()) && !first.contains('_')) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

/// Host by the grammar `domain-name | IPv4 | "[" IPv6 "]"`, and an optional port.
pub(crate) fn check_registry(registry: &str) -> Result<(), &'static str> {
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or("the bracket is never closed")?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| "an IPv6 address stands between the brackets")?;
        match port.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if port.is_empty() => (None, None),
            None => return Err("only a port may follow the bracket"),
        }
    } else {
        match registry.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address stands in brackets, as in [::1]:5000");
            }
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        }
    };
    if let Some(port) = port {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || port.parse::<u16>().is_err() {
            return Err("the port is a number up to 65535");
        }
    }
    let Some(host) = host else { return Ok(()) };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.split('.').all(label) { Ok(()) } else { Err("a host is letters, digits and `-`, separated by dots") }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
pub(crate) fn check_component(component: &str) -> Result<(), &'static str> {
    if component.is_empty() {
        return Err("a part between slashes is empty");
    }
    let alphanumeric = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let mut separator = String::new();
    for (index, byte) in component.bytes().enumerate() {
        match byte {
            byte if alphanumeric(byte) => separator.clear(),
            b'.' | b'_' | b'-' => {
                if index == 0 {
                    return Err("it begins with a letter or a digit");
                }
                separator.push(char::from(byte));
                let known =
                    matches!(separator.as_str(), "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
                if !known {
                    return Err("between letters and digits stands one `.`, `_`, `__`, or any number of `-`");
                }
            }
            _ => return Err("only lower-case letters, digits, `.`, `_` and `-` are allowed"),
        }
    }
    if separator.is_empty() { Ok(()) } else { Err("it ends with a letter or a digit") }
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn check_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(text: &str) -> Reference {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn short_names_are_written_out_as_docker_does() {
        for (text, full) in [
            ("debian", "index.docker.io/library/debian"),
            ("debian:12", "index.docker.io/library/debian:12"),
            ("user/app", "index.docker.io/user/app"),
            ("docker.io/debian", "index.docker.io/library/debian"),
            ("index.docker.io/debian", "index.docker.io/library/debian"),
            ("docker.io/library/debian", "index.docker.io/library/debian"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000/a/b/c:x"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("[2001:db8::1]/app", "[2001:db8::1]/app"),
            ("registry.example.com/a__b/c--d/e.f:V1.0-x", "registry.example.com/a__b/c--d/e.f:V1.0-x"),
            ("Registry.Example.com/app", "registry.example.com/app"),
        ] {
            assert_eq!(reference(text).to_string(), full);
        }
    }

    #[test]
    fn parts_are_told_apart() {
        let digest = Digest::of(b"x");
        let full = reference(&format!("harbor.example.com:8443/team/app:1.0@{digest}"));
        assert_eq!(full.registry(), "harbor.example.com:8443");
        assert_eq!(full.repository(), "team/app");
        assert_eq!(full.tag(), Some("1.0"));
        assert_eq!(full.digest(), Some(&digest));
        assert_eq!(full.identifier(), digest.to_string());
        assert_eq!(full.name(), "harbor.example.com:8443/team/app");
        assert_eq!(full.with_tag("2").unwrap().to_string(), "harbor.example.com:8443/team/app:2");
        assert!(full.with_tag("-2").is_err());
        assert_eq!(reference("app").tag(), None);
        assert_eq!(reference("app").identifier(), "latest");
        assert_eq!(reference("app").familiar(), "docker.io/library/app:latest");
    }

    #[test]
    fn capitals_are_refused_with_the_name_it_would_be() {
        for (text, corrected) in [
            ("harbor.example.com/testApplication:1.0", "harbor.example.com/testapplication:1.0"),
            ("Debian", "debian"),
            ("user/App:Tag", "user/app:Tag"),
            ("My_Team/app", "my_team/app"),
            ("localhost:5000/A/B", "localhost:5000/a/b"),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(matches!(&error, ReferenceError::UpperCase { .. }), "{text}: {error}");
            let message = error.to_string();
            assert!(message.contains("must be lower case"), "{message}");
            assert!(message.ends_with(&format!("`{corrected}`")), "{message}");
            reference(corrected);
        }
    }

    #[test]
    fn malformed_names_are_refused_naming_the_part() {
        let long = format!("example.com/{}", "a".repeat(250));
        let id = "0123456789abcdef".repeat(4);
        for (text, part) in [
            ("", "empty"),
            ("https://registry.example.com/app", "`registry.example.com/app`"),
            ("a//b", "empty"),
            ("/a", "empty"),
            ("a/", "empty"),
            ("example.com/", "empty"),
            ("-app", "-app"),
            ("app_", "app_"),
            ("a...b", "a...b"),
            ("a_-b", "a_-b"),
            ("app:", "malformed tag ``"),
            ("app:.x", "malformed tag `.x`"),
            ("app:a b", "malformed tag"),
            ("app@sha256:abc", "malformed digest"),
            ("app@latest", "malformed digest"),
            ("example.com:port/app", "port"),
            ("example.com:99999/app", "65535"),
            ("exa_mple.com/app", "host"),
            ("::1/app", "brackets"),
            ("[::1/app", "closed"),
            ("[zz::1]/app", "IPv6"),
            (long.as_str(), "too long"),
            (id.as_str(), "image id"),
            ("app name", "only lower-case"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    fn component() -> impl Strategy<Value = String> {
        "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}"
    }

    proptest! {
        #[test]
        fn a_printed_reference_parses_to_itself(
            registry in prop_oneof![
                Just("index.docker.io".to_owned()),
                "[a-z0-9]{1,8}\\.[a-z]{2,4}(:[1-9][0-9]{1,3})?",
                Just("[::1]:5000".to_owned()),
                Just("localhost".to_owned()),
            ],
            path in prop::collection::vec(component(), 1..4),
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            digest in prop::option::of(any::<u64>()),
        ) {
            let mut text = format!("{registry}/{}", path.join("/"));
            if let Some(tag) = tag { text = format!("{text}:{tag}"); }
            if let Some(seed) = digest { text = format!("{text}@{}", Digest::of(&seed.to_le_bytes())); }
            let parsed = reference(&text);
            prop_assert_eq!(reference(&parsed.to_string()), parsed);
        }

        #[test]
        fn a_registry_that_only_its_capitals_tell_keeps_them(host in "[A-Z]{1,8}", name in "[a-z]{1,8}") {
            prop_assume!(!host.eq_ignore_ascii_case("localhost"));
            let parsed = reference(&format!("{host}/{name}"));
            prop_assert_eq!(parsed.registry(), host.as_str());
            prop_assert_eq!(reference(&parsed.to_string()), parsed);
        }

        #[test]
        fn no_text_makes_the_parser_panic_and_what_parses_prints_the_same_again(text in "[a-zA-Z0-9.:/@_\\[\\] -]{0,40}") {
            if let Ok(parsed) = text.parse::<Reference>() {
                prop_assert_eq!(reference(&parsed.to_string()), parsed);
            }
        }
    }
}
