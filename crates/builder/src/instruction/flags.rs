//! Flags of instructions: `--name=value` and `--name` between the keyword and the arguments. One table says which
//! instruction has which.

use super::InstructionError;
use super::error::Fault;
use crate::syntax::{Line, suggest};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One value.
    Value,
    /// One value each time it is given.
    Values,
    /// Nothing, or `true` or `false`.
    Switch,
}

/// Every flag there is: the instruction, the flag, what it takes.
const FLAGS: [(&str, &str, Kind); 23] = [
    ("FROM", "platform", Kind::Value),
    ("RUN", "mount", Kind::Values),
    ("RUN", "network", Kind::Value),
    ("RUN", "security", Kind::Value),
    ("RUN", "device", Kind::Values),
    ("COPY", "from", Kind::Value),
    ("COPY", "chown", Kind::Value),
    ("COPY", "chmod", Kind::Value),
    ("COPY", "link", Kind::Switch),
    ("COPY", "parents", Kind::Switch),
    ("COPY", "exclude", Kind::Values),
    ("ADD", "chown", Kind::Value),
    ("ADD", "chmod", Kind::Value),
    ("ADD", "link", Kind::Switch),
    ("ADD", "exclude", Kind::Values),
    ("ADD", "checksum", Kind::Value),
    ("ADD", "keep-git-dir", Kind::Switch),
    ("ADD", "unpack", Kind::Switch),
    ("HEALTHCHECK", "interval", Kind::Value),
    ("HEALTHCHECK", "timeout", Kind::Value),
    ("HEALTHCHECK", "start-period", Kind::Value),
    ("HEALTHCHECK", "start-interval", Kind::Value),
    ("HEALTHCHECK", "retries", Kind::Value),
];

/// The flags an instruction has.
pub(super) fn names(instruction: &str) -> impl Iterator<Item = &'static str> {
    FLAGS.into_iter().filter(move |(keyword, ..)| *keyword == instruction).map(|(_, name, _)| name)
}

/// The flags of one instruction, checked.
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<(&'static str, String)>);

impl Flags {
    /// Reads the flags of a line: each is known, works, has a value when it needs one, and is not given too often.
    pub(super) fn read(line: &Line, instruction: &'static str) -> Result<Self, Fault> {
        let mut flags = Flags::default();
        for flag in &line.flags {
            let (name, value) =
                check(&flag.word, instruction, &flags).map_err(|error| Fault::at(line.place(flag.offset), error))?;
            flags.0.push((name, value));
        }
        Ok(flags)
    }

    /// For instructions without flags.
    pub(super) fn none(line: &Line, instruction: &'static str) -> Result<(), Fault> {
        Flags::read(line, instruction).map(|_| ())
    }

    /// The value of a flag that was given.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    /// Every value of a flag that can be given more than once.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.switch(name) == Some(true)
    }

    /// A switch, if it was given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value == "true")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn check(word: &str, instruction: &'static str, before: &Flags) -> Result<(&'static str, String), InstructionError> {
    let text = word.strip_prefix("--").unwrap_or(word);
    let (flag, value) = text.split_once('=').map_or((text, None), |(flag, value)| (flag, Some(value)));
    let Some((_, name, kind)) = FLAGS.into_iter().find(|(keyword, name, _)| *keyword == instruction && *name == flag)
    else {
        let suggestion = suggest::nearest(flag, names(instruction)).map(|name| format!("--{name}"));
        return Err(InstructionError::UnknownFlag { instruction, flag: flag.to_owned(), suggestion });
    };
    if kind != Kind::Values && before.value(name).is_some() {
        return Err(InstructionError::RepeatedFlag { flag: name.to_owned() });
    }
    match (kind, value) {
        (Kind::Switch, None) => Ok((name, "true".to_owned())),
        (Kind::Switch, Some(value)) => match value.to_ascii_lowercase().as_str() {
            lower @ ("true" | "false") => Ok((name, lower.to_owned())),
            _ => Err(InstructionError::FlagNotSwitch { flag: name.to_owned(), value: value.to_owned() }),
        },
        (_, None | Some("")) => Err(InstructionError::FlagWithoutValue { flag: name.to_owned() }),
        (_, Some(value)) => Ok((name, value.to_owned())),
    }
}
