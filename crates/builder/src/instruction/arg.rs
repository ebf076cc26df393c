//! ARG: a variable of the build, with a default or without.
//!
//! ```text
//! ARG name
//! ARG name=default another
//! ```
//!
//! Before the first FROM it is a global variable for FROM. In a stage it takes, in this order, the build argument, the
//! default, the global variable of its name.

use super::error::Fault;
use super::flags::Flags;
use super::{Instruction, InstructionError, Step};
use crate::settings::Settings;
use crate::syntax::words;
use crate::syntax::{Line, Span, SyntaxError};

pub(super) const KEYWORD: &str = "ARG";

/// One variable of an ARG before the first FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declaration {
    /// The variable.
    pub(crate) name: String,
    /// The default, not expanded.
    pub(crate) default: Option<String>,
    /// Where the instruction stands.
    pub(crate) span: Span,
    /// The instruction as written.
    pub(crate) text: String,
}

/// Reads an ARG that stands before the first FROM.
pub(crate) fn declarations(line: &Line) -> Result<Vec<Declaration>, SyntaxError> {
    let variables = variables(line).map_err(|fault| super::place(line, fault))?;
    let place = |Variable { name, default }| {
        let (span, text) = (line.span.clone(), line.text.clone());
        Declaration { name, default, span, text }
    };
    Ok(variables.into_iter().map(place).collect())
}

#[derive(Debug)]
struct Arg {
    variables: Vec<Variable>,
}

#[derive(Debug)]
struct Variable {
    name: String,
    default: Option<String>,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Ok(Box::new(Arg { variables: variables(line)? }))
}

fn variables(line: &Line) -> Result<Vec<Variable>, Fault> {
    Flags::none(line, KEYWORD)?;
    let words = words::quoted(&line.rest, line.escape);
    if words.is_empty() {
        return Err(Fault::at(line.place_of_rest(), InstructionError::NoArgument { instruction: KEYWORD }));
    }
    let variable = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(Fault::at(line.place_of_rest(), InstructionError::BlankName { instruction: KEYWORD })),
        Some((name, default)) => Ok(Variable { name: name.to_owned(), default: Some(default.to_owned()) }),
        None => Ok(Variable { name: word, default: None }),
    };
    words.into_iter().map(variable).collect()
}

impl Instruction for Arg {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let mut created_by = KEYWORD.to_owned();
        // One after another: a default can use a variable that stands before it on the line.
        for Variable { name, default } in &self.variables {
            created_by.push(' ');
            created_by.push_str(name);
            if let Some(value) = settings.declare(name, default.as_deref())? {
                created_by.push('=');
                created_by.push_str(&value);
            }
        }
        Ok(Step::metadata(created_by))
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn the_build_argument_wins_over_the_default_and_the_default_over_the_global() {
        let file = "ARG g=global\nARG both=global\nARG none\nFROM scratch";
        let mut stage = Stage::with(file, &[("given", "cli"), ("g2", "cli")]);
        for (text, created_by) in [
            ("ARG given", "ARG given=cli"),
            ("ARG given=default", "ARG given=cli"),
            ("ARG given='not closed", "ARG given=cli"),
            ("ARG default=d", "ARG default=d"),
            ("ARG g", "ARG g=global"),
            ("ARG both=stage", "ARG both=stage"),
            ("ARG none", "ARG none"),
            ("ARG empty=", "ARG empty="),
            ("ARG a=1 b=$a c", "ARG a=1 b=1 c"),
            ("ARG quoted='a b' \"q\"=1", "ARG quoted=a b \"q\"=1"),
            ("ARG TARGETARCH", "ARG TARGETARCH=arm64"),
            ("ARG TARGETPLATFORM", "ARG TARGETPLATFORM=linux/arm64"),
            ("ARG BUILDARCH=x", "ARG BUILDARCH=x"),
            ("ARG TARGETVARIANT", "ARG TARGETVARIANT="),
            ("ARG TARGETSTAGE", "ARG TARGETSTAGE=default"),
        ] {
            assert_eq!(stage.run(text).created_by.as_deref(), Some(created_by), "{text}");
        }
    }

    #[test]
    fn an_argument_is_not_in_the_image() {
        let mut stage = Stage::scratch();
        stage.run("ARG a=1");
        stage.run("ENV b=$a");
        assert_eq!(stage.env(), ["b=1"]);
    }

    #[test]
    fn what_is_no_declaration_is_refused() {
        assert_eq!(refused("ARG"), "ARG needs an argument");
        assert_eq!(refused("ARG =x"), "ARG needs a name before `=`");
        assert_eq!(refused("ARG --x a"), "ARG has no flag --x");
        assert_eq!(Stage::scratch().fails("ARG a=${b"), "expand `${b`: `${` has no `}`");
    }
}
