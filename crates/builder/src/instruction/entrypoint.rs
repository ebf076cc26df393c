//! ENTRYPOINT: the program of the container. Its text is not expanded. A CMD that the base left is cleared, unless this
//! stage has set one.
//!
//! ```text
//! ENTRYPOINT command for the shell
//! ENTRYPOINT ["program", "argument"]
//! ```

use super::command::Command;
use super::error::Fault;
use super::flags::Flags;
use super::{Instruction, InstructionError, Step, go_text};
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "ENTRYPOINT";

#[derive(Debug)]
struct Entrypoint {
    command: Command,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Flags::none(line, KEYWORD)?;
    let command = Command::parse(&line.rest).map_err(|error| Fault::at(line.place_of_rest(), error))?;
    Ok(Box::new(Entrypoint { command }))
}

impl Instruction for Entrypoint {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let arguments = self.command.arguments(settings.shell());
        let created_by = format!("{KEYWORD} {}", go_text::quoted_list(&arguments));
        settings.set_entrypoint(arguments);
        Ok(Step::metadata(created_by))
    }
}

#[cfg(test)]
mod tests {
    use zuwai_registry::ImageConfig;

    use crate::instruction::testing::Stage;

    fn base() -> ImageConfig {
        let mut config = ImageConfig::default();
        config.config.cmd = Some(vec!["base".into()]);
        config.config.entrypoint = Some(vec!["old".into()]);
        config
    }

    #[test]
    fn both_forms_are_set_and_worded() {
        let mut stage = Stage::on_image(&base());
        assert_eq!(stage.run("ENTRYPOINT [\"/e\", \"x\"]").created_by.as_deref(), Some(r#"ENTRYPOINT ["/e" "x"]"#));
        assert_eq!(stage.settings.config().config.entrypoint, Some(vec!["/e".to_owned(), "x".to_owned()]));
        assert_eq!(
            stage.run("ENTRYPOINT run it").created_by.as_deref(),
            Some(r#"ENTRYPOINT ["/bin/sh" "-c" "run it"]"#)
        );
        assert_eq!(stage.run("ENTRYPOINT []").created_by.as_deref(), Some("ENTRYPOINT []"));
        assert_eq!(stage.settings.config().config.entrypoint, None);
    }

    #[test]
    fn the_command_of_the_base_goes() {
        for text in ["ENTRYPOINT [\"/e\"]", "ENTRYPOINT /e", "ENTRYPOINT []"] {
            let mut stage = Stage::on_image(&base());
            stage.run(text);
            assert_eq!(stage.settings.config().config.cmd, None, "{text}");
        }
    }

    #[test]
    fn the_command_of_the_stage_stays_wherever_it_stands() {
        for lines in [["CMD [\"c\"]", "ENTRYPOINT [\"/e\"]"], ["ENTRYPOINT [\"/e\"]", "CMD [\"c\"]"]] {
            let mut stage = Stage::on_image(&base());
            for line in lines {
                stage.run(line);
            }
            assert_eq!(stage.settings.config().config.cmd, Some(vec!["c".to_owned()]), "{lines:?}");
        }
    }

    #[test]
    fn the_command_of_a_parent_stage_is_that_of_a_base() {
        let mut parent = Stage::scratch();
        parent.run("CMD [\"c\"]");
        let mut child = parent.child();
        child.run("ENTRYPOINT [\"/e\"]");
        assert_eq!(child.settings.config().config.cmd, None);
    }
}
