//! The two forms of a command: `["program", "argument"]`, run as it is, and anything else, handed to the shell as one
//! string. What looks like JSON and is not well-formed is a shell form, as with Docker.

use super::InstructionError;
use crate::syntax::words::{self, Json};

/// What runs shell forms when there is no SHELL.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A command as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// One string for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

impl Command {
    pub(super) fn parse(text: &str) -> Result<Self, InstructionError> {
        match words::json(text) {
            Json::Strings(arguments) => Ok(Command::Exec(arguments)),
            Json::Mixed => Err(InstructionError::MixedJson),
            Json::No => Ok(Command::Shell(text.to_owned())),
        }
    }

    /// The program and its arguments, the shell in front of a shell form. `shell` is SHELL of the image.
    pub(super) fn arguments(&self, shell: Option<&[String]>) -> Vec<String> {
        match self {
            Command::Exec(arguments) => arguments.clone(),
            Command::Shell(text) => {
                let mut arguments = match shell {
                    Some(shell) if !shell.is_empty() => shell.to_vec(),
                    _ => DEFAULT_SHELL.map(str::to_owned).to_vec(),
                };
                arguments.push(text.clone());
                arguments
            }
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        match self {
            Command::Exec(arguments) => arguments.join(" "),
            Command::Shell(text) => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_form_has_the_shell_in_front() {
        let shell = ["/bin/bash".to_owned(), "-xc".to_owned()];
        let command = Command::parse("echo hi").unwrap();
        assert_eq!(command.arguments(None), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(command.arguments(Some(&[])), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(command.arguments(Some(&shell)), ["/bin/bash", "-xc", "echo hi"]);
        assert_eq!(Command::parse("").unwrap().arguments(None), ["/bin/sh", "-c", ""]);
    }

    #[test]
    fn the_exec_form_is_run_as_it_is() {
        let command = Command::parse(r#"["echo", "a b"]"#).unwrap();
        assert_eq!(command.arguments(Some(&["sh".to_owned()])), ["echo", "a b"]);
    }

    #[test]
    fn a_json_form_that_is_not_well_formed_is_a_shell_form() {
        for text in ["['a']", r#"["a"] "#.trim_end(), r#"["a", ]"#, "[a]", "[ -f x ] && y"] {
            let command = Command::parse(text).unwrap();
            assert_eq!(matches!(command, Command::Exec(_)), text == r#"["a"]"#, "{text}");
        }
        assert!(matches!(Command::parse(r#"["a", 1]"#), Err(InstructionError::MixedJson)));
    }
}
