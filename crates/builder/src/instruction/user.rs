//! USER: who commands run as, and who the container runs as: `user[:group]`, names or numbers. The text is kept as it is
//! after expansion; what it means in the image is looked up when it matters.

use super::error::Fault;
use super::{Instruction, InstructionError, Step, one_argument};
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "USER";

#[derive(Debug)]
struct User {
    user: String,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Ok(Box::new(User { user: one_argument(line, KEYWORD)? }))
}

impl Instruction for User {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let user = settings.expand(&self.user)?;
        settings.config_mut().config.user.clone_from(&user);
        Ok(Step::metadata(format!("{KEYWORD} {user}")))
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn the_text_is_kept_after_expansion() {
        let mut stage = Stage::scratch();
        stage.run("ARG uid=1000");
        for (text, user) in [
            ("USER app", "app"),
            ("USER app:web", "app:web"),
            ("USER $uid:0", "1000:0"),
            ("USER ${none:-0}", "0"),
            ("USER \"app\"", "app"),
            ("USER $none", ""),
        ] {
            assert_eq!(stage.run(text).created_by, Some(format!("USER {user}")), "{text}");
            assert_eq!(stage.settings.config().config.user, user, "{text}");
        }
        assert_eq!(refused("USER"), "USER needs an argument");
    }
}
