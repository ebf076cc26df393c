//! A folder of this machine as the build context: `PATH` or `dir://PATH`. It is used in place and never written.

use std::fs;
use std::io;
use std::path::Path;

use super::{Context, ContextError, ContextSource, Fetching};
use crate::request::ContextRequest;

pub(super) struct Dir;

impl ContextSource for Dir {
    fn shown(&self, rest: &str) -> String {
        without_login(rest).to_owned()
    }

    fn check(&self, _: &str, _: &ContextRequest) -> Result<(), ContextError> {
        Ok(())
    }

    fn fetch(&self, rest: &str, fetching: &Fetching<'_>) -> Result<Context, ContextError> {
        let path = fetching.current_directory.join(rest);
        let real = fs::canonicalize(&path);
        // For messages.
        let path = fetching.current_directory.join(without_login(rest));
        match real {
            Ok(real) if real.is_dir() => Ok(Context { root: real, time: None }),
            Ok(_) => Err(ContextError::NotAFolder { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ContextError::Missing { path, hint: looks_like_a_repository(rest) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(ContextError::NotAFolder { path }),
            Err(source) => Err(ContextError::Io { action: "open the build context", path, source }),
        }
    }
}

/// The location without what looks like the user name, password or token of a repository whose `git://` was forgotten:
/// everything before the last `@`. A path that begins with `.` or one `/` is a folder of this machine and is shown whole.
fn without_login(location: &str) -> &str {
    let folder = location.starts_with('.') || (location.starts_with('/') && !location.starts_with("//"));
    location.rfind('@').filter(|_| !folder).map_or(location, |at| &location[at + 1..])
}

/// `git@host:path` and `host/path.git` are often written where `git://host/path` is meant.
fn looks_like_a_repository(location: &str) -> Option<&'static str> {
    let named_git = Path::new(location).extension().is_some_and(|extension| extension == "git");
    let remote = location.starts_with("git@") || named_git;
    remote
        .then_some("a git repository is written git://host/path#branch and is fetched over https; ssh is not supported")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use super::super::{Context, ContextError, ContextSource, fetch, ignore_file};
    use super::Dir;
    use crate::event::Silent;
    use crate::request::{ContextRequest, GitOptions};
    use zuwai_registry::TransportOptions;

    fn get(location: &str, sub_path: Option<&str>, current: &Path) -> Result<Context, ContextError> {
        let request = ContextRequest {
            location: location.to_owned(),
            sub_path: sub_path.map(Into::into),
            git: GitOptions::default(),
            transport: TransportOptions::default(),
            standard_input: None,
        };
        fetch(&request, current, &current.join("work"), &Silent, &AtomicBool::new(false))
    }

    #[test]
    fn a_folder_is_used_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", root.join("link")).unwrap();
        let absolute = root.join("a").display().to_string();
        for (location, sub_path, expected) in [
            ("a", None, "a"),
            ("dir://a", None, "a"),
            ("./a/", Some("b"), "a/b"),
            ("dir://a", Some("/b"), "a/b"),
            (&absolute, None, "a"),
            (&format!("dir://{absolute}"), Some("../b"), "a/b"),
            (".", Some("link/b"), "a/b"),
            ("link", None, "a"),
        ] {
            assert_eq!(get(location, sub_path, &root).unwrap().root, root.join(expected), "{location}");
        }
    }

    #[test]
    fn what_is_no_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("file"), "").unwrap();
        let text = |location: &str, sub_path| get(location, sub_path, root).unwrap_err().to_string();
        assert_eq!(text("nope", None), format!("the build context {} does not exist", root.join("nope").display()));
        assert_eq!(
            text("dir://file", None),
            format!("the build context {} is not a folder", root.join("file").display())
        );
        assert_eq!(text(".", Some("nope")), "--context-sub-path: the build context has no folder nope");
        assert_eq!(text(".", Some("file")), "--context-sub-path: the build context has no folder file");
        let hint = get("git@example.com:a/b.git", None, root).unwrap_err().hint().unwrap();
        assert!(hint.starts_with("a git repository is written git://host/path"), "{hint}");
    }

    #[test]
    fn the_token_of_a_repository_whose_prefix_was_forgotten_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        for location in [
            "auth:s3cret@host/x.git",
            "s3cret@host/x.git",
            "dir://auth:s3cret@host/x",
            "auth:s3@cret@host/x#main",
            "auth:s3/cret@host/x.git",
            "//auth:s3cret@host/x.git",
        ] {
            let (_, rest) = super::super::source(location).unwrap();
            let shown = Dir.shown(rest);
            let error = get(location, None, folder.path()).unwrap_err();
            for text in [shown, error.to_string(), format!("{error:?}"), error.hint().unwrap_or_default()] {
                assert!(!text.contains("s3") && !text.contains("cret"), "{location}: {text}");
            }
            assert!(error.to_string().contains("host/x"), "{error}");
        }
        for path in ["a/b", "/a/b", "./a@b", "/srv/@scope/x", "/srv/user@1000/x", "../a@b/c"] {
            assert_eq!(Dir.shown(path), path);
        }
        std::fs::create_dir(folder.path().join("a@b")).unwrap();
        let root = get("a@b", None, folder.path()).unwrap().root;
        assert_eq!(root, folder.path().canonicalize().unwrap().join("a@b"));
    }

    #[test]
    fn other_prefixes_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let text = |location: &str| get(location, None, folder.path()).unwrap_err().to_string();
        for prefix in ["gs://", "s3://", "https://"] {
            assert_eq!(text(&format!("{prefix}x")), format!("a build context from {prefix} is not supported yet"));
        }
        assert_eq!(
            text("ftp://user:secret@host/x"),
            "unknown build context prefix \"ftp://\", please use one of the following: dir://, git://, tar://, gs://, \
             s3://, https://"
        );
    }

    #[test]
    fn the_ignore_file_beside_the_dockerfile_wins() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("context");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        let hides = |dockerfile: &Path, path: &str| {
            ignore_file(&root, dockerfile).unwrap().hidden_by(Path::new(path)).is_some()
        };
        let (inside, outside) = (root.join("sub/Dockerfile"), folder.path().join("Other"));
        assert!(!hides(&inside, "a"));
        std::fs::write(root.join(".dockerignore"), "a").unwrap();
        assert!(hides(&inside, "a") && hides(&outside, "a"));
        std::fs::write(root.join("sub/Dockerfile.dockerignore"), "b").unwrap();
        assert!(!hides(&inside, "a") && hides(&inside, "b") && hides(&outside, "a"));
        std::fs::write(folder.path().join("Other.dockerignore"), "").unwrap();
        assert!(!hides(&outside, "a"));
    }
}
