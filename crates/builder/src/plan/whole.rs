//! `FROM` a named context that is files: all of them are the stage's first layer, as if it began with nothing and copied
//! them.

use crate::dockerfile::StageSource;
use crate::instruction::{Action, CopyAction, Instruction, InstructionError, Placed, Step};
use crate::request::NamedContext;
use crate::settings::Settings;

/// The step that copies them. It stands where FROM does.
pub(super) fn of(context: &NamedContext, stage: &StageSource) -> Placed {
    let whole = Whole { name: context.name.clone() };
    Placed::new(Box::new(whole), stage.span.clone(), stage.text.clone())
}

#[derive(Debug)]
struct Whole {
    name: String,
}

impl Instruction for Whole {
    fn configure(&self, _: &mut Settings) -> Result<Step, InstructionError> {
        let action = CopyAction {
            instruction: "FROM",
            from: Some(self.name.clone()),
            sources: vec![".".to_owned()],
            inline: Vec::new(),
            destination: "/".to_owned(),
            working_dir: "/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack: false,
            unpack_remote: false,
            checksum: None,
            keep_git_dir: None,
        };
        // What `BuildKit` says of such a layer.
        Ok(Step { created_by: Some(format!("local source for {}", self.name)), action: Some(Action::Copy(action)) })
    }

    fn uses(&self) -> Vec<&str> {
        vec![&self.name]
    }
}
