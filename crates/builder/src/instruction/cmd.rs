//! CMD: the default command, or the default arguments of the entrypoint. Its text is not expanded.
//!
//! ```text
//! CMD command for the shell
//! CMD ["program", "argument"]
//! ```

use super::command::Command;
use super::error::Fault;
use super::flags::Flags;
use super::{Instruction, InstructionError, Step, go_text};
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "CMD";

#[derive(Debug)]
struct Cmd {
    command: Command,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Flags::none(line, KEYWORD)?;
    let command = Command::parse(&line.rest).map_err(|error| Fault::at(line.place_of_rest(), error))?;
    Ok(Box::new(Cmd { command }))
}

impl Instruction for Cmd {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let arguments = self.command.arguments(settings.shell());
        let created_by = format!("{KEYWORD} {}", go_text::quoted_list(&arguments));
        settings.set_command(arguments);
        Ok(Step::metadata(created_by))
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn both_forms_are_set_and_worded() {
        let mut stage = Stage::scratch();
        stage.run("ENV a=1");
        for (text, created_by, command) in [
            ("CMD [\"a\", \"b c\"]", r#"CMD ["a" "b c"]"#, Some(&["a", "b c"][..])),
            ("CMD echo $a", r#"CMD ["/bin/sh" "-c" "echo $a"]"#, Some(&["/bin/sh", "-c", "echo $a"])),
            ("CMD echo \"x\"", r#"CMD ["/bin/sh" "-c" "echo \"x\""]"#, Some(&["/bin/sh", "-c", "echo \"x\""])),
            ("CMD ['a']", r#"CMD ["/bin/sh" "-c" "['a']"]"#, Some(&["/bin/sh", "-c", "['a']"])),
            ("CMD []", "CMD []", None),
        ] {
            assert_eq!(stage.run(text).created_by.as_deref(), Some(created_by), "{text}");
            let run = &stage.settings.config().config;
            let set: Option<Vec<&str>> = run.cmd.as_ref().map(|command| command.iter().map(String::as_str).collect());
            assert_eq!(set.as_deref(), command, "{text}");
            assert!(run.args_escaped);
        }
    }

    #[test]
    fn the_shell_of_the_image_is_used() {
        let mut stage = Stage::scratch();
        stage.run("SHELL [\"/bin/ash\", \"-ec\"]");
        assert_eq!(stage.run("CMD a").created_by.as_deref(), Some(r#"CMD ["/bin/ash" "-ec" "a"]"#));
    }

    #[test]
    fn json_with_something_else_than_strings_is_refused() {
        assert_eq!(refused("CMD [\"a\", 1]"), "in the JSON form every element is a string in double quotes");
        assert_eq!(refused("CMD --x a"), "CMD has no flag --x");
    }
}
