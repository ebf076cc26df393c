//! MAINTAINER: who made the image. Deprecated; it sets `author` of the configuration. Not expanded.

use super::error::Fault;
use super::{Instruction, InstructionError, Step, one_argument};
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "MAINTAINER";

#[derive(Debug)]
struct Maintainer {
    name: String,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Ok(Box::new(Maintainer { name: one_argument(line, KEYWORD)? }))
}

impl Instruction for Maintainer {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        settings.config_mut().author = Some(self.name.clone());
        Ok(Step::metadata(format!("{KEYWORD} {}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn the_author_is_set() {
        let mut stage = Stage::scratch();
        let step = stage.run("MAINTAINER $Some \"One\" <one@example.com>");
        assert_eq!(step.created_by.as_deref(), Some("MAINTAINER $Some \"One\" <one@example.com>"));
        assert_eq!(stage.settings.config().author.as_deref(), Some("$Some \"One\" <one@example.com>"));
        assert_eq!(refused("MAINTAINER"), "MAINTAINER needs an argument");
    }
}
