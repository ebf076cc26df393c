//! Which times the image bears: those of this moment, or those that `SOURCE_DATE_EPOCH` and `--reproducible` ask for.

use std::time::{Duration, SystemTime};

use crate::args::{UsageError, Values};
use crate::environment::Environment;
use crate::values::pair;

/// The times of an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// `created` of the config and its history.
    pub(crate) created: SystemTime,
    /// No file of a new layer is younger.
    pub(crate) latest: Option<SystemTime>,
}

/// The variable, as reproducible-builds.org specifies it: seconds since 1970.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// A build argument of that name beats the variable of the environment, and either is what `created` says. Files get other
/// times only where `--reproducible` asks for it; without the variable, it means 1970.
pub(crate) fn times(values: &Values, environment: &Environment, now: SystemTime) -> Result<Times, UsageError> {
    let argument = values.list("build-arg").iter().rev().filter_map(|text| pair(text)).find(|(name, _)| *name == EPOCH);
    let given = match (argument, environment.text(EPOCH)) {
        (Some((_, text)), _) => Some(parsed(text, &format!("--build-arg {EPOCH}"))?),
        (None, Some(text)) => Some(parsed(text, EPOCH)?),
        (None, None) => None,
    };
    let reproducible = values.switch("reproducible").then_some(SystemTime::UNIX_EPOCH);
    Ok(Times {
        created: given.or(reproducible).unwrap_or(now),
        latest: reproducible.map(|epoch| given.unwrap_or(epoch)),
    })
}

fn parsed(text: &str, name: &str) -> Result<SystemTime, UsageError> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(seconds)).ok_or_else(|| {
        UsageError::new(format!("{name}: {text:?} is no number of seconds since 1970"))
            .hint("`date +%s`, or `git log -1 --format=%ct` for the time of the last commit")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::values;

    #[test]
    fn an_image_bears_the_time_it_is_told_to() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let of = |words: &[&str], variables: &[(&str, &str)]| {
            let times = times(&values(words), &Environment::of(variables), now).unwrap();
            (times.created, times.latest)
        };
        assert_eq!(of(&[], &[]), (now, None));
        assert_eq!(of(&["--reproducible"], &[]), (at(0), Some(at(0))));
        assert_eq!(of(&[], &[(EPOCH, "5")]), (at(5), None));
        assert_eq!(of(&["--reproducible"], &[(EPOCH, "5")]), (at(5), Some(at(5))));
        assert_eq!(of(&["--build-arg=SOURCE_DATE_EPOCH=7"], &[(EPOCH, "5")]), (at(7), None));
    }

    #[test]
    fn what_is_no_time_is_named() {
        for text in ["yesterday", "-1", "1.5", "99999999999999999999"] {
            let error = times(&values(&[]), &Environment::of(&[(EPOCH, text)]), SystemTime::now()).unwrap_err();
            assert!(error.to_string().starts_with("SOURCE_DATE_EPOCH: "), "{error}");
        }
    }
}
