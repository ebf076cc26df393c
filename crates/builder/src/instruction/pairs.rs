//! `name=value` arguments, which ENV and LABEL share: several pairs on a line, or the old form with one name and the rest
//! of the line as its value. Names and values are expanded, each with what was known before the line.

use super::InstructionError;
use super::error::Fault;
use super::flags::Flags;
use crate::settings::Settings;
use crate::syntax::Line;
use crate::syntax::words::{self, Pair, PairProblem};

/// Reads the pairs of a line; at least one.
pub(super) fn read(line: &Line, instruction: &'static str) -> Result<Vec<Pair>, Fault> {
    Flags::none(line, instruction)?;
    let at = |error| Fault::at(line.place_of_rest(), error);
    let pairs = words::pairs(&line.rest, line.escape).map_err(|problem| {
        at(match problem {
            PairProblem::NoValue { name } => InstructionError::NoValue { instruction, name },
            PairProblem::NoEquals { word } => InstructionError::NotPair { instruction, word },
        })
    })?;
    if pairs.is_empty() {
        return Err(at(InstructionError::NoArgument { instruction }));
    }
    if pairs.iter().any(|pair| pair.name.is_empty()) {
        return Err(at(InstructionError::BlankName { instruction }));
    }
    Ok(pairs)
}

/// The pairs with their variables replaced.
pub(super) fn expand(
    pairs: &[Pair],
    settings: &Settings,
    instruction: &'static str,
) -> Result<Vec<(String, String)>, InstructionError> {
    pairs
        .iter()
        .map(|pair| {
            let name = settings.expand(&pair.name)?;
            if name.is_empty() {
                return Err(InstructionError::BlankName { instruction });
            }
            Ok((name, settings.expand(&pair.value)?))
        })
        .collect()
}

/// `KEYWORD a=b c=d`: how the history words it, without quotes.
pub(super) fn created_by(instruction: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(instruction.to_owned(), |text, (name, value)| format!("{text} {name}={value}"))
}
