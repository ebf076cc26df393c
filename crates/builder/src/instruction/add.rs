//! ADD: like COPY, and tar archives are unpacked.
//!
//! ```text
//! ADD [--chown=user[:group]] [--chmod=mode] source… destination
//! ```

use super::error::Fault;
use super::flags::Flags;
use super::sources::{SourceKind, Sources, kind_of};
use super::{Action, Instruction, InstructionError, Step, later};
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "ADD";

#[derive(Debug)]
struct Add {
    sources: Sources,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    let flags = Flags::read(line, KEYWORD)?;
    Ok(Box::new(Add { sources: Sources::read(line, &flags, KEYWORD)? }))
}

impl Instruction for Add {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let (created_by, action) = self.sources.expand(settings, KEYWORD, None)?;
        match action.sources.iter().find(|source| kind_of(source) != SourceKind::Path) {
            Some(source) => Err(later::remote_add(source)),
            None => Ok(Step::of(created_by, Action::Copy(action))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::Action;
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn archives_are_unpacked() {
        let step = Stage::scratch().run("ADD --chown=1 a.tar /x");
        assert_eq!(step.created_by.as_deref(), Some("ADD --chown=1 a.tar /x # buildkit"));
        let Some(Action::Copy(action)) = step.action else { panic!() };
        assert!(action.unpack && action.from.is_none() && action.instruction == "ADD");
    }

    #[test]
    fn what_is_not_built_yet_is_refused_by_name() {
        for flag in ["checksum=x", "keep-git-dir", "unpack", "link", "exclude=x"] {
            let name = flag.split('=').next().unwrap();
            assert_eq!(refused(&format!("ADD --{flag} a b")), format!("ADD --{name} is not supported yet"));
        }
        assert_eq!(refused("ADD --from=x a b"), "ADD has no flag --from");
        assert_eq!(refused("ADD a"), "ADD needs at least two arguments: what to copy, and where to");
        let mut stage = Stage::scratch();
        stage.run("ENV u=https://h/f");
        assert_eq!(
            stage.fails("ADD $u x"),
            "ADD of https://h/f, which is not in the build context, is not supported yet"
        );
        assert!(stage.fails("ADD git@h:r.git x").ends_with("is not supported yet"));
    }
}
