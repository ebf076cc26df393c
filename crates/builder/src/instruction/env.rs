//! ENV: environment variables of the image, and of every RUN after it.
//!
//! ```text
//! ENV name=value name="a value"
//! ENV name the rest of the line
//! ```

use super::error::Fault;
use super::{Instruction, InstructionError, Step, pairs};
use crate::settings::Settings;
use crate::syntax::Line;
use crate::syntax::words::Pair;

pub(super) const KEYWORD: &str = "ENV";

#[derive(Debug)]
struct Env {
    pairs: Vec<Pair>,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Ok(Box::new(Env { pairs: pairs::read(line, KEYWORD)? }))
}

impl Instruction for Env {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let pairs = pairs::expand(&self.pairs, settings, KEYWORD)?;
        for (name, value) in &pairs {
            settings.set_env(name, value);
        }
        Ok(Step::metadata(pairs::created_by(KEYWORD, &pairs)))
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn variables_are_set_in_both_forms() {
        for (text, created_by, env) in [
            ("ENV a=b", "ENV a=b", &["a=b"][..]),
            ("ENV a=b c='d e'", "ENV a=b c=d e", &["a=b", "c=d e"]),
            ("ENV a=\"b c\" d=", "ENV a=b c d=", &["a=b c", "d="]),
            ("ENV a b  c", "ENV a=b  c", &["a=b  c"]),
            ("ENV a b=c", "ENV a=b=c", &["a=b=c"]),
            ("ENV a \"b\"", "ENV a=b", &["a=b"]),
            (r"ENV a=b\ c", "ENV a=b c", &["a=b c"]),
            (r"ENV a=\$x", "ENV a=$x", &["a=$x"]),
            ("ENV a=b=c", "ENV a=b=c", &["a=b=c"]),
            ("env A=${HOME_DIR:-/root}", "ENV A=/root", &["A=/root"]),
        ] {
            let mut stage = Stage::scratch();
            assert_eq!(stage.run(text).created_by.as_deref(), Some(created_by), "{text}");
            assert_eq!(stage.env(), env, "{text}");
        }
    }

    #[test]
    fn a_line_sees_only_earlier_lines() {
        let mut stage = Stage::scratch();
        stage.run("ENV a=1");
        stage.run("ENV a=2 b=$a");
        stage.run("ENV c=$a$b");
        assert_eq!(stage.env(), ["a=2", "b=1", "c=21"]);
    }

    #[test]
    fn a_variable_keeps_its_place_when_it_changes() {
        let mut stage = Stage::scratch();
        stage.run("ENV a=1 b=2");
        stage.run("ENV a=3");
        assert_eq!(stage.env(), ["a=3", "b=2"]);
    }

    #[test]
    fn names_are_expanded_too() {
        let mut stage = Stage::scratch();
        stage.run("ENV n=name");
        assert_eq!(stage.run("ENV $n=x").created_by.as_deref(), Some("ENV name=x"));
        assert_eq!(stage.fails("ENV $none=x"), "ENV needs a name before `=`");
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for (text, message) in [
            ("ENV", "ENV needs an argument"),
            ("ENV a", "ENV a needs a value: ENV a=…"),
            ("ENV =b", "ENV needs a name before `=`"),
            ("ENV a=b =c", "ENV needs a name before `=`"),
            ("ENV a=b c", "`c` has no `=`: ENV takes name=value pairs, and a value with blanks stands in quotes"),
            ("ENV --x a=b", "ENV has no flag --x"),
        ] {
            assert_eq!(refused(text), message, "{text}");
        }
        let mut stage = Stage::scratch();
        assert_eq!(stage.fails("ENV a='b"), "expand `'b`: the quote ' is not closed");
        assert_eq!(stage.fails("ENV a=${b:?must}"), "expand `${b:?must}`: b: must");
    }

    #[test]
    fn words_are_parted_before_they_are_expanded() {
        assert_eq!(
            refused("ENV a=${b:?must set}"),
            "`set}` has no `=`: ENV takes name=value pairs, and a value with blanks stands in quotes"
        );
    }
}
