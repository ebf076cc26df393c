//! `--git` and the variables of a git context.

use zuwai_builder::GitOptions;

use crate::args::{UsageError, Values};
use crate::environment::Environment;
use crate::values::{boolean, pair};

/// `--git`: one `key=value` each, or several with commas between them.
pub(crate) fn git(values: &Values, environment: &Environment) -> Result<GitOptions, UsageError> {
    const KEYS: [&str; 5] = ["branch", "single-branch", "depth", "recurse-submodules", "insecure-skip-tls"];
    let mut options = GitOptions { credentials: git_credentials(environment), ..GitOptions::default() };
    options.plain_http = environment.text("GIT_PULL_METHOD") == Some("http");
    let mut settings: Vec<String> = Vec::new();
    for text in values.list("git") {
        for (place, part) in text.split(',').enumerate() {
            // A comma may belong to the name of a branch: only what begins as a setting is one.
            let begins = KEYS.iter().any(|key| part.strip_prefix(key).is_some_and(|rest| rest.starts_with('=')));
            match settings.last_mut() {
                Some(last) if place > 0 && !begins => *last = format!("{last},{part}"),
                _ => settings.push(part.to_owned()),
            }
        }
    }
    for setting in settings {
        let Some((key, value)) = pair(&setting) else {
            return Err(UsageError::new("invalid git flag, must be in the key=value format")
                .hint(format!("the keys are {}", KEYS.join(", "))));
        };
        let switch = || {
            boolean(value).ok_or_else(|| UsageError::new(format!("--git: {key}={value:?} is neither true nor false")))
        };
        match key {
            "branch" => options.branch = Some(value.to_owned()).filter(|branch| !branch.is_empty()),
            "single-branch" => options.single_branch = switch()?,
            "recurse-submodules" => options.recurse_submodules = switch()?,
            "insecure-skip-tls" => options.insecure_skip_tls = switch()?,
            "depth" => {
                let depth =
                    value.parse().map_err(|_| UsageError::new(format!("--git: depth={value:?} is not a number")))?;
                options.depth = Some(depth);
            }
            _ => {
                return Err(UsageError::new(format!("--git: there is no {key:?}"))
                    .hint(format!("the keys are {}", KEYS.join(", "))));
            }
        }
    }
    Ok(options)
}

/// A token is a user name without a password, as Kaniko shows it to servers.
fn git_credentials(environment: &Environment) -> Option<(String, String)> {
    if let Some(token) = environment.text("GIT_TOKEN") {
        return Some((token.to_owned(), String::new()));
    }
    let [user, password] = ["GIT_USERNAME", "GIT_PASSWORD"].map(|name| environment.text(name));
    (user.is_some() || password.is_some())
        .then(|| (user.unwrap_or_default().to_owned(), password.unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use crate::request::tests::{good, message};

    #[test]
    fn git_options_come_one_by_one_or_as_a_list() {
        for words in [
            &["--git=branch=v1,depth=3,single-branch=true"][..],
            &["--git", "branch=v1", "--git", "depth=3", "--git=single-branch=1"],
        ] {
            let git = good(words, &[]).build.context.git;
            assert_eq!((git.branch.as_deref(), git.depth, git.single_branch), (Some("v1"), Some(3), true), "{words:?}");
        }
        let git = good(&["--git=branch=a,b,recurse-submodules=true"], &[]).build.context.git;
        assert_eq!((git.branch.as_deref(), git.recurse_submodules), (Some("a,b"), true));
        assert_eq!(message(&["--no-push", "--git=branch"]), "invalid git flag, must be in the key=value format");
        assert_eq!(message(&["--no-push", "--git="]), "invalid git flag, must be in the key=value format");
        assert_eq!(message(&["--no-push", "--git=brunch=x"]), "--git: there is no \"brunch\"");
        assert_eq!(message(&["--no-push", "--git=depth=x"]), "--git: depth=\"x\" is not a number");
        assert_eq!(
            message(&["--no-push", "--git=single-branch=x"]),
            "--git: single-branch=\"x\" is neither true nor false"
        );
    }

    #[test]
    fn git_credentials_come_from_the_environment() {
        let credentials = |variables: &[(&str, &str)]| good(&[], variables).build.context.git.credentials;
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(credentials(&[]), None);
        assert_eq!(credentials(&[("GIT_TOKEN", "t"), ("GIT_USERNAME", "u")]), pair("t", ""));
        assert_eq!(credentials(&[("GIT_USERNAME", "u"), ("GIT_PASSWORD", "p")]), pair("u", "p"));
        assert_eq!(credentials(&[("GIT_PASSWORD", "p")]), pair("", "p"));
        assert!(good(&[], &[("GIT_PULL_METHOD", "http")]).build.context.git.plain_http);
        assert!(!good(&[], &[("GIT_PULL_METHOD", "ssh")]).build.context.git.plain_http);
    }
}
