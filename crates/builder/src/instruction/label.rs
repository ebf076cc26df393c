//! LABEL: notes on the image. `--label` of the command line wins over them.
//!
//! ```text
//! LABEL name=value "a name"="a value"
//! LABEL name the rest of the line
//! ```

use super::error::Fault;
use super::{Instruction, InstructionError, Step, pairs};
use crate::settings::Settings;
use crate::syntax::Line;
use crate::syntax::words::Pair;

pub(super) const KEYWORD: &str = "LABEL";

#[derive(Debug)]
struct Label {
    pairs: Vec<Pair>,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Ok(Box::new(Label { pairs: pairs::read(line, KEYWORD)? }))
}

impl Instruction for Label {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let pairs = pairs::expand(&self.pairs, settings, KEYWORD)?;
        settings.add_labels(&pairs);
        Ok(Step::metadata(pairs::created_by(KEYWORD, &pairs)))
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn labels_are_set_in_both_forms_and_the_last_wins() {
        let mut stage = Stage::scratch();
        stage.run("ENV v=1.0");
        assert_eq!(
            stage.run("LABEL version=$v \"a b\"='c d' x=").created_by.as_deref(),
            Some("LABEL version=1.0 a b=c d x=")
        );
        stage.run("LABEL x the rest");
        let labels: Vec<_> = stage.settings.config().config.labels.clone().into_iter().collect();
        let expected = [("a b", "c d"), ("version", "1.0"), ("x", "the rest")];
        assert_eq!(labels, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        assert_eq!(refused("LABEL"), "LABEL needs an argument");
        assert_eq!(refused("LABEL a"), "LABEL a needs a value: LABEL a=…");
    }
}
