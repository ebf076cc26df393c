//! What a name means in a repository: the order in which Kaniko, and the library it uses, look for it.

use gix::bstr::ByteSlice;
use gix::protocol::handshake::Ref;

use super::GitError;

/// What is to be checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What the server's HEAD is.
    Default,
    /// `--git=branch=…`: a branch, else a tag.
    Branch(String),
    /// The first part after `#`: a full name (`refs/…`), else the first that exists of `refs/X`, a tag, a branch.
    Name(String),
    /// All digits of a commit's id.
    Commit(String),
}

/// A name on the server, and the object it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The full name, `refs/…`; `None` when HEAD is no branch.
    pub(super) name: Option<String>,
    /// The object: a commit, or an annotated tag of one.
    pub(super) id: gix::ObjectId,
    /// The commit, as far as the server says; of an annotated tag it does.
    pub(super) commit: gix::ObjectId,
}

impl Wanted {
    /// What a location and `--git=branch=…` ask for together: the option wins.
    pub(super) fn of(reference: Option<&str>, branch: Option<&str>) -> Self {
        match (branch, reference) {
            (Some(branch), _) => Self::Branch(branch.to_owned()),
            (None, None) => Self::Default,
            (None, Some(commit)) if is_whole_id(commit) => Self::Commit(commit.to_ascii_lowercase()),
            (None, Some(name)) => Self::Name(name.to_owned()),
        }
    }

    /// Full names, the first that the server has is meant.
    pub(super) fn candidates(&self) -> Vec<String> {
        match self {
            Self::Default => vec!["HEAD".to_owned()],
            Self::Commit(_) => Vec::new(),
            Self::Branch(name) | Self::Name(name) if name == "HEAD" || name.starts_with("refs/") => vec![name.clone()],
            Self::Branch(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
            Self::Name(name) => {
                vec![format!("refs/{name}"), format!("refs/tags/{name}"), format!("refs/heads/{name}")]
            }
        }
    }

    /// Finds it among the server's references.
    pub(super) fn find(&self, advertised: &[Ref]) -> Result<Found, GitError> {
        for candidate in self.candidates() {
            let Some(reference) = advertised.iter().find(|reference| reference.unpack().0 == candidate.as_str()) else {
                continue;
            };
            let (name, id, _) = reference.unpack();
            let Some(id) = id else { return Err(GitError::Empty) };
            let name = match reference {
                Ref::Symbolic { target, .. } => Some(target.to_str_lossy().into_owned()),
                _ if name == "HEAD" => None,
                _ => Some(candidate),
            };
            let commit = if let Ref::Peeled { object, .. } = reference { *object } else { id.to_owned() };
            return Ok(Found { name, id: id.to_owned(), commit });
        }
        Err(match self {
            Self::Default | Self::Commit(_) => GitError::Empty,
            Self::Branch(name) => GitError::Branch { name: name.clone() },
            Self::Name(name) => GitError::NoReference { name: name.clone() },
        })
    }
}

/// Whether the text is all forty digits of a SHA-1 id.
pub(super) fn is_whole_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Whether the text may be the beginning of an id. Git wants four digits, people write seven or more.
pub(super) fn may_be_id(text: &str) -> bool {
    (4..=40).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: u8) -> gix::ObjectId {
        gix::ObjectId::from_bytes_or_panic(&[digit; 20])
    }

    fn server() -> Vec<Ref> {
        let direct = |name: &str, digit| Ref::Direct { full_ref_name: name.into(), object: id(digit) };
        vec![
            Ref::Symbolic { full_ref_name: "HEAD".into(), target: "refs/heads/main".into(), tag: None, object: id(1) },
            direct("refs/heads/main", 1),
            direct("refs/heads/both", 2),
            Ref::Peeled { full_ref_name: "refs/tags/both".into(), tag: id(3), object: id(4) },
            direct("refs/heads/feature/x", 5),
            direct("refs/pull/7/head", 6),
        ]
    }

    fn found(reference: Option<&str>, branch: Option<&str>) -> Result<(Option<String>, gix::ObjectId), String> {
        let found = Wanted::of(reference, branch).find(&server());
        found.map(|found| (found.name, found.id)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_looked_for_in_the_order_users_know() {
        for (reference, branch, name, digit) in [
            (None, None, "refs/heads/main", 1),
            (Some("HEAD"), None, "refs/heads/main", 1),
            (Some("main"), None, "refs/heads/main", 1),
            (Some("both"), None, "refs/tags/both", 3),
            (Some("heads/both"), None, "refs/heads/both", 2),
            (Some("refs/heads/both"), None, "refs/heads/both", 2),
            (None, Some("both"), "refs/heads/both", 2),
            (Some("main"), Some("both"), "refs/heads/both", 2),
            (Some("feature/x"), None, "refs/heads/feature/x", 5),
            (Some("refs/pull/7/head"), None, "refs/pull/7/head", 6),
            (Some("pull/7/head"), None, "refs/pull/7/head", 6),
        ] {
            assert_eq!(found(reference, branch), Ok((Some(name.to_owned()), id(digit))), "{reference:?} {branch:?}");
        }
    }

    #[test]
    fn a_name_that_the_server_has_not_is_named() {
        assert_eq!(found(Some("nope"), None).unwrap_err(), "the repository has no branch or tag nope");
        assert_eq!(found(None, Some("nope")).unwrap_err(), "invalid branch: nope");
        assert_eq!(
            found(Some("refs/heads/nope"), None).unwrap_err(),
            "the repository has no branch or tag refs/heads/nope"
        );
        assert_eq!(Wanted::Default.find(&[]).unwrap_err().to_string(), "the repository has no commits");
    }

    #[test]
    fn forty_digits_are_a_commit() {
        let digits = "0123456789ABCDEF0123456789abcdef01234567";
        assert_eq!(Wanted::of(Some(digits), None), Wanted::Commit(digits.to_ascii_lowercase()));
        assert_eq!(Wanted::of(Some(&digits[1..]), None), Wanted::Name(digits[1..].to_owned()));
        assert!(may_be_id("0123abc") && !may_be_id("xyz") && !may_be_id("012"));
    }
}
