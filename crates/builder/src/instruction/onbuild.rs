//! ONBUILD: an instruction that is kept in the image, and carried out first by a stage that begins with it.
//!
//! ```text
//! ONBUILD RUN …
//! ```
//!
//! It makes no row in the history. The trigger is read here to find its faults early.

use super::error::Fault;
use super::flags::Flags;
use super::{Instruction, InstructionError, Parsed, Placed, Step, find, parse};
use crate::settings::Settings;
use crate::syntax::{self, Line, Span, SyntaxError};

pub(super) const KEYWORD: &str = "ONBUILD";

#[derive(Debug)]
struct OnBuild {
    trigger: String,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Flags::none(line, KEYWORD)?;
    if line.rest.is_empty() {
        return Err(Fault::at(line.place_of_rest(), InstructionError::NoArgument { instruction: KEYWORD }));
    }
    let inner = line.inner();
    if let Err(error) = read_trigger(&inner) {
        let place = error.span().clone();
        let source = Box::new(error);
        return Err(Fault::at(place, InstructionError::BadTrigger { text: inner.text, source }));
    }
    Ok(Box::new(OnBuild { trigger: inner.to_string() }))
}

fn read_trigger(line: &Line) -> Result<Box<dyn Instruction>, SyntaxError> {
    let row = find(line)?;
    let forbidden = || {
        let error = InstructionError::Trigger { keyword: row.keyword.to_owned() };
        SyntaxError::new(line.place(0), line.text.clone(), error)
    };
    if !row.in_trigger {
        return Err(forbidden());
    }
    match parse(line)? {
        Parsed::Step(instruction) => Ok(instruction),
        Parsed::Stage(_) => Err(forbidden()),
    }
}

/// Reads a trigger that a base image or a stage has. Its place is that of the FROM that brought it.
pub(crate) fn trigger(text: &str, from: &Span) -> Result<Placed, SyntaxError> {
    let bad = |source: SyntaxError| {
        let error = InstructionError::BadTrigger { text: text.to_owned(), source: Box::new(source) };
        SyntaxError::new(from.clone(), text, error)
    };
    let source = syntax::parse(text.as_bytes(), &from.file.name).map_err(bad)?;
    match source.lines.as_slice() {
        [line] => {
            let instruction = read_trigger(line).map_err(bad)?;
            Ok(Placed::new(instruction, from.clone(), line.text.clone()))
        }
        lines => {
            let error = InstructionError::Trigger { keyword: format!("a text of {} instructions", lines.len()) };
            Err(SyntaxError::new(from.clone(), text, error))
        }
    }
}

impl Instruction for OnBuild {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        settings.config_mut().config.on_build.push(self.trigger.clone());
        Ok(Step { created_by: None, action: None })
    }

    fn trigger(&self) -> Option<&str> {
        Some(&self.trigger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Dockerfile;
    use crate::instruction::testing::{Stage, chain, place_of, refused};

    #[test]
    fn triggers_are_kept_as_written_and_not_inherited() {
        let mut stage = Stage::scratch();
        for text in [
            "ONBUILD RUN echo $x",
            "onbuild  COPY a  b",
            "ONBUILD RUN --mount=type=cache,target=/x y",
            "ONBUILD RUN <<EOF\nx\nEOF",
            "ONBUILD RUN a \\\n  b",
        ] {
            assert_eq!(stage.run(text), Step { created_by: None, action: None }, "{text}");
        }
        let kept = ["RUN echo $x", "COPY a  b", "RUN --mount=type=cache,target=/x y", "RUN <<EOF\nx\nEOF", "RUN a   b"];
        assert_eq!(stage.settings.config().config.on_build, kept);
        assert!(stage.child().settings.config().config.on_build.is_empty());
    }

    #[test]
    fn what_cannot_be_a_trigger_is_refused() {
        for (text, message) in [
            ("ONBUILD", "ONBUILD needs an argument"),
            ("ONBUILD ONBUILD RUN x", "the trigger `ONBUILD RUN x` is wrong: ONBUILD cannot be an ONBUILD trigger"),
            ("ONBUILD FROM x", "the trigger `FROM x` is wrong: FROM cannot be an ONBUILD trigger"),
            ("ONBUILD MAINTAINER x", "the trigger `MAINTAINER x` is wrong: MAINTAINER cannot be an ONBUILD trigger"),
            ("ONBUILD RNU x", "the trigger `RNU x` is wrong: unknown instruction: RNU (did you mean RUN?)"),
            ("ONBUILD ENV a", "the trigger `ENV a` is wrong: ENV a needs a value: ENV a=…"),
        ] {
            assert_eq!(refused(text), message, "{text}");
        }
        assert_eq!(place_of("ONBUILD COPY \\\n a"), "Dockerfile:2:2");
    }

    #[test]
    fn a_trigger_of_a_base_is_read_at_the_place_of_from() {
        let dockerfile = Dockerfile::parse(b"# x\nFROM base", "Dockerfile").unwrap();
        let span = &dockerfile.stages[0].span;
        let placed = trigger("COPY --from=other a b", span).unwrap();
        assert_eq!((placed.uses(), placed.text.as_str()), (vec!["other"], "COPY --from=other a b"));
        assert_eq!(placed.span.to_string(), "Dockerfile:2");
        for (text, message) in [
            ("FROM x", "the trigger `FROM x` is wrong: FROM cannot be an ONBUILD trigger"),
            ("RUN a\nRUN b", "a text of 2 instructions cannot be an ONBUILD trigger"),
            ("", "the trigger `` is wrong: the file has no instructions"),
        ] {
            let error = trigger(text, span).unwrap_err();
            assert_eq!((chain(&error).as_str(), error.span().first_line), (message, 2));
        }
    }
}
