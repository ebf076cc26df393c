//! What flags were given, and with which values.

use std::collections::BTreeMap;

use super::UsageError;
use crate::environment::Environment;
use crate::flags::{FLAGS, Flag, Group, Kind, State};
use crate::values;

/// The values of flags, checked for their kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    given: BTreeMap<&'static str, Vec<String>>,
    /// What the user should be told about the flags, one sentence each.
    pub(crate) warnings: Vec<String>,
}

impl Values {
    /// The last value that was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name)?.last().map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Every value that was given, in order.
    pub(crate) fn list(&self, name: &str) -> &[String] {
        self.given.get(name).map_or(&[], Vec::as_slice)
    }

    /// A switch, or what it is when it was not given.
    pub(crate) fn switch(&self, name: &str) -> bool {
        let Kind::Switch(default) = Flag::named(name).kind else { unreachable!("--{name} is no switch") };
        self.given_switch(name).unwrap_or(default)
    }

    /// A switch, if it was given.
    pub(crate) fn given_switch(&self, name: &str) -> Option<bool> {
        self.text(name).and_then(values::boolean)
    }

    /// A number from 0, or 0.
    pub(crate) fn count(&self, name: &str) -> u32 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn take(&mut self, flag: &'static Flag, given: Vec<String>) -> Result<(), UsageError> {
        for value in &given {
            check(flag, value)?;
        }
        if given.is_empty() {
            return Ok(());
        }
        let name = match flag.state {
            State::Alias(name) if flag.group != Group::Old => name,
            State::Alias(name) => {
                self.warnings.push(format!("--{} is an old spelling: write --{name}", flag.name));
                name
            }
            _ => flag.name,
        };
        self.given.entry(name).or_default().extend(given);
        Ok(())
    }

    /// Variables that stand for flags. `KANIKO_NO_PUSH` wins over its flag, as in Kaniko; the others are defaults.
    pub(crate) fn take_environment(&mut self, environment: &Environment) -> Result<(), UsageError> {
        for (variable, name, wins) in [
            ("KANIKO_NO_PUSH", "no-push", true),
            ("KANIKO_CLEANUP", "cleanup", false),
            ("KANIKO_PRE_CLEANUP", "pre-cleanup", false),
            ("KANIKO_PRESERVE_CONTEXT", "preserve-context", false),
        ] {
            let Some(value) = environment.text(variable) else { continue };
            if values::boolean(value).is_none() {
                return Err(UsageError::new(format!("{variable}: {value:?} is neither true nor false")));
            }
            if wins || !self.given.contains_key(name) {
                self.given.insert(name, vec![value.to_owned()]);
            }
        }
        for (variable, name) in [("KANIKO_REGISTRY_MIRROR", "registry-mirror"), ("KANIKO_REGISTRY_MAP", "registry-map")]
        {
            if let Some(value) = environment.text(variable) {
                self.given.entry(name).or_default().push(value.to_owned());
            }
        }
        Ok(())
    }

    /// That only these flags were given.
    pub(super) fn check_belong(&self, command: &str, flags: &[&str]) -> Result<(), UsageError> {
        let stranger = self.given.keys().find(|name| !flags.contains(name));
        stranger.map_or(Ok(()), |name| {
            Err(UsageError::new(format!("--{name} is no flag of {command}")).hint("it belongs to a build"))
        })
    }

    pub(super) fn check_refused(&self) -> Result<(), UsageError> {
        for flag in FLAGS {
            let State::Refused(instead) = flag.state else { continue };
            let asked = match flag.kind {
                Kind::Switch(_) => self.switch(flag.name),
                _ => self.list(flag.name).iter().any(|value| !value.is_empty()),
            };
            if asked {
                return Err(UsageError::new(format!("--{} is not supported yet: {instead}", flag.name)));
            }
        }
        Ok(())
    }
}

/// Checks that a value is of the flag's kind. An empty text is what was not given.
fn check(flag: &Flag, value: &str) -> Result<(), UsageError> {
    let wrong = |expected: &str| Err(UsageError::new(format!("--{}: {value:?} is not {expected}", flag.name)));
    match flag.kind {
        Kind::Switch(_) if values::boolean(value).is_none() => wrong("true or false"),
        Kind::Count if value.parse::<u32>().is_err() => wrong("a number"),
        Kind::Integer if value.parse::<i32>().is_err() => wrong("a number"),
        Kind::Duration if values::duration(value).is_none() => wrong("a duration such as 336h or 1h30m"),
        Kind::Word(_) if flag.name == "log-format" && !value.is_empty() && !flag.takes(value) => Err(UsageError::new(
            format!("not a valid log format: {value:?}, please specify one of (text, color, json)"),
        )),
        Kind::Word(words) if !value.is_empty() && !flag.takes(value) => {
            let (last, first) = words.split_last().expect("every row has words");
            wrong(&format!("{} or {last}", first.join(", ")))
        }
        _ => Ok(()),
    }
}

impl Flag {
    fn takes(&self, word: &str) -> bool {
        matches!(self.kind, Kind::Word(words) if words.contains(&word))
    }
}
