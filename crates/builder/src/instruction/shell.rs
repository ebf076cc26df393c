//! SHELL: what runs the shell forms after it. JSON only; not expanded.

use super::error::Fault;
use super::flags::Flags;
use super::{Instruction, InstructionError, Step, go_text};
use crate::settings::Settings;
use crate::syntax::Line;
use crate::syntax::words::Json;

pub(super) const KEYWORD: &str = "SHELL";

#[derive(Debug)]
struct Shell {
    arguments: Vec<String>,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Flags::none(line, KEYWORD)?;
    let error = match line.json() {
        Json::Strings(arguments) if !arguments.is_empty() => return Ok(Box::new(Shell { arguments })),
        Json::Strings(_) => InstructionError::NoArgument { instruction: KEYWORD },
        Json::Mixed => InstructionError::MixedJson,
        Json::No if line.rest.is_empty() => InstructionError::NoArgument { instruction: KEYWORD },
        Json::No => InstructionError::NotJson { instruction: KEYWORD },
    };
    Err(Fault::at(line.place_of_rest(), error))
}

impl Instruction for Shell {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        settings.config_mut().config.shell = Some(self.arguments.clone());
        Ok(Step::metadata(format!("{KEYWORD} {}", go_text::list(&self.arguments))))
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn the_shell_is_set_and_inherited() {
        let mut stage = Stage::scratch();
        assert_eq!(stage.run("SHELL [\"/bin/sh\", \"-xc\"]").created_by.as_deref(), Some("SHELL [/bin/sh -xc]"));
        assert_eq!(stage.settings.config().config.shell, Some(vec!["/bin/sh".to_owned(), "-xc".to_owned()]));
        let mut child = stage.child();
        assert_eq!(child.run("RUN a").created_by.as_deref(), Some("RUN /bin/sh -xc a # buildkit"));
    }

    #[test]
    fn anything_but_json_is_refused() {
        assert_eq!(refused("SHELL /bin/sh -c"), "SHELL needs its arguments as JSON: SHELL [\"…\", \"…\"]");
        assert_eq!(refused("SHELL []"), "SHELL needs an argument");
        assert_eq!(refused("SHELL"), "SHELL needs an argument");
        assert_eq!(refused("SHELL [1]"), "in the JSON form every element is a string in double quotes");
    }
}
