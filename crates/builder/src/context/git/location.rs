//! The location of a git repository as Kaniko's users write it: `git://[user[:password]@]host[:port]/path[#ref[#commit]]`.
//!
//! `git://` stands for https (`GIT_PULL_METHOD=http` asks for plain HTTP): the protocol of git's own daemon is not spoken.
//! This file only takes the text apart. What a ref means is found out in [`reference`](super::reference).

use url::Url;

use super::GitError;
use crate::web::percent_decoded;

/// A location, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// Scheme, host and path: what may be shown and is written into `.git/config`.
    pub(super) url: Url,
    /// User name and password that the location held; a token alone is a user name with an empty password.
    pub(super) credentials: Option<(String, String)>,
    /// What follows the first `#`.
    pub(super) reference: Option<String>,
    /// What follows the second `#`: a commit that is checked out instead of the newest of `reference`.
    pub(super) commit: Option<String>,
}

impl Location {
    /// Reads what follows `git://`.
    pub(super) fn parse(rest: &str, plain_http: bool) -> Result<Self, GitError> {
        let mut parts = rest.split('#');
        let address = parts.next().unwrap_or_default();
        let [reference, commit] = [parts.next(), parts.next()].map(|part| part.filter(|part| !part.is_empty()));
        // The address may hold a token: it is never repeated in a message.
        let bad = |reason: &str| GitError::Location { reason: reason.to_owned() };
        if parts.next().is_some() {
            return Err(bad("there are more than two `#`"));
        }
        let scheme = if plain_http { "http" } else { "https" };
        let mut url = Url::parse(&format!("{scheme}://{address}")).map_err(|error| bad(&error.to_string()))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(bad("it names no host"));
        }
        if url.path().trim_matches('/').is_empty() {
            return Err(bad("it names a host and no repository"));
        }
        let credentials = match (percent_decoded(url.username()), url.password().map(percent_decoded)) {
            (user, None) if user.is_empty() => None,
            (user, password) => Some((user, password.unwrap_or_default())),
        };
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(bad("it names no host"));
        }
        for part in [reference, commit].into_iter().flatten() {
            if part.starts_with('-')
                || part.contains(|character: char| character.is_control() || " ~^:?*[\\".contains(character))
            {
                return Err(GitError::Reference { name: part.to_owned() });
            }
        }
        Ok(Self { url, credentials, reference: reference.map(str::to_owned), commit: commit.map(str::to_owned) })
    }

    /// The location again, credentials left out.
    pub(super) fn shown(&self) -> String {
        let address = self.url.as_str().split_once("://").map_or("", |(_, rest)| rest);
        let mut shown = format!("git://{address}");
        if self.reference.is_some() || self.commit.is_some() {
            shown = format!("{shown}#{}", self.reference.as_deref().unwrap_or_default());
        }
        if let Some(commit) = &self.commit {
            shown = format!("{shown}#{commit}");
        }
        shown
    }
}

/// Host and port of an address.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(rest: &str) -> Location {
        Location::parse(rest, false).unwrap()
    }

    #[test]
    fn the_forms_that_users_write_are_read() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (rest, url, credentials, reference, commit) in [
            ("host/a/b", "https://host/a/b", None, None, None),
            ("host/a/b.git", "https://host/a/b.git", None, None, None),
            ("host:8443/a", "https://host:8443/a", None, None, None),
            ("[::1]:8443/a", "https://[::1]:8443/a", None, None, None),
            ("TOKEN@host/a", "https://host/a", pair("TOKEN", ""), None, None),
            ("auth:to-ken@host/a", "https://host/a", pair("auth", "to-ken"), None, None),
            ("oauth2:x@host/a", "https://host/a", pair("oauth2", "x"), None, None),
            (":x@host/a", "https://host/a", pair("", "x"), None, None),
            ("u%40corp:p%2Fw%23@host/a", "https://host/a", pair("u@corp", "p/w#"), None, None),
            ("host/a#main", "https://host/a", None, Some("main"), None),
            ("host/a#feature/x", "https://host/a", None, Some("feature/x"), None),
            ("host/a#refs/heads/a/b", "https://host/a", None, Some("refs/heads/a/b"), None),
            ("host/a#refs/pull/7/head", "https://host/a", None, Some("refs/pull/7/head"), None),
            ("host/a#main#0123abc", "https://host/a", None, Some("main"), Some("0123abc")),
            ("host/a##0123abc", "https://host/a", None, None, Some("0123abc")),
            ("host/a#", "https://host/a", None, None, None),
        ] {
            let location = parse(rest);
            assert_eq!(location.url.as_str(), url, "{rest}");
            assert_eq!(location.credentials, credentials, "{rest}");
            assert_eq!(location.reference.as_deref(), reference, "{rest}");
            assert_eq!(location.commit.as_deref(), commit, "{rest}");
        }
        assert_eq!(Location::parse("host/a", true).unwrap().url.as_str(), "http://host/a");
    }

    #[test]
    fn what_is_shown_holds_no_credentials() {
        for (rest, shown) in [
            ("auth:s3cret@host:444/a#main#0123abc", "git://host:444/a#main#0123abc"),
            ("s3cret@host/a", "git://host/a"),
            ("s3cret@host/a##0123abc", "git://host/a##0123abc"),
        ] {
            assert_eq!(parse(rest).shown(), shown);
        }
        assert_eq!(host(&parse("s3cret@host:444/a").url), "host:444");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_repeats_nothing_secret() {
        for rest in
            ["", "/a", "host", "host/", "auth:s3cret/x@host/a", "s3cret@host/a#b#c#d", "s3cret@/a", "s3 cret@ho st/a"]
        {
            let error = Location::parse(rest, false).err().unwrap_or_else(|| panic!("{rest} was read")).to_string();
            assert!(!error.contains("s3"), "{error}");
        }
        for reference in ["a b", "-x", "a..b:c", "a^1"] {
            let error = Location::parse(&format!("s3cret@host/a#{reference}"), false).err().unwrap().to_string();
            assert_eq!(error, format!("{reference:?} cannot be the name of a branch, a tag or a commit"));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_shows_the_password(rest in ".{0,40}", password in "[a-z]{9}") {
            if let Ok(location) = Location::parse(&format!("user:{password}@{rest}"), false) {
                prop_assert!(rest.contains(&password) || !location.shown().contains(&password));
            }
        }

        #[test]
        fn what_is_shown_is_read_as_the_same_place(host in "[a-z]{1,8}", path in "[a-z]{1,8}(/[a-z]{1,8})?", reference in "[a-z/]{0,8}") {
            let location = parse(&format!("token@{host}/{path}#{reference}"));
            let again = parse(location.shown().strip_prefix("git://").unwrap());
            prop_assert_eq!(Location { credentials: None, ..location }.shown(), again.shown());
        }
    }
}
