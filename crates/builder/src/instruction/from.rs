//! FROM: a stage begins.
//!
//! ```text
//! FROM [--platform=os/architecture[/variant]] image
//! FROM [--platform=…] image AS name
//! ```
//!
//! `image` is `scratch`, the name of a stage before, or an image. Global variables are replaced in it and in the platform.

use zuwai_registry::Platform;

use super::InstructionError;
use super::error::Fault;
use super::flags::Flags;
use crate::settings::Globals;
use crate::syntax::{Line, words};

pub(super) const KEYWORD: &str = "FROM";

/// What a stage begins with, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct From {
    /// The base as written.
    pub(crate) image: String,
    /// The platform as written, if it is not the build's.
    pub(crate) platform: Option<String>,
    /// The name of the stage in lower case: case does not matter.
    pub(crate) name: Option<String>,
}

impl From {
    /// The base with its variables replaced; never empty.
    pub(crate) fn base(&self, globals: &Globals) -> Result<String, InstructionError> {
        let base = globals.expand(&self.image)?;
        if base.is_empty() {
            return Err(InstructionError::BlankBase { written: self.image.clone() });
        }
        Ok(base)
    }

    /// The platform with its variables replaced, if the instruction says.
    pub(crate) fn platform(&self, globals: &Globals) -> Result<Option<Platform>, InstructionError> {
        let Some(written) = &self.platform else { return Ok(None) };
        let value = globals.expand(written)?;
        let platform = value.parse().map_err(|_| InstructionError::Platform { written: written.clone(), value });
        platform.map(Some)
    }
}

pub(super) fn read(line: &Line) -> Result<From, Fault> {
    let platform = Flags::read(line, KEYWORD)?.value("platform");
    let at = |error| Fault::at(line.place_of_rest(), error);
    match words::plain(&line.rest).as_slice() {
        [] => Err(at(InstructionError::NoArgument { instruction: KEYWORD })),
        [image] => Ok(From { image: image.clone(), platform, name: None }),
        [image, word, name] if word.eq_ignore_ascii_case("AS") => {
            let name = stage_name(name).map_err(at)?;
            Ok(From { image: image.clone(), platform, name: Some(name) })
        }
        _ => Err(at(InstructionError::FromForm)),
    }
}

fn stage_name(written: &str) -> Result<String, InstructionError> {
    let name = written.to_lowercase();
    let mut characters = name.chars();
    let valid = characters.next().is_some_and(|first| first.is_ascii_lowercase())
        && characters.all(|part| part.is_ascii_lowercase() || part.is_ascii_digit() || matches!(part, '-' | '_' | '.'));
    if valid { Ok(name) } else { Err(InstructionError::StageName { name: written.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zuwai_registry::Platform;

    use crate::dockerfile::Dockerfile;
    use crate::instruction::testing::{place_of, refused};
    use crate::settings::Globals;

    fn bases(text: &str, given: &[(&str, &str)]) -> Vec<Result<String, String>> {
        let dockerfile = Dockerfile::parse(text.as_bytes(), "Dockerfile").unwrap();
        let given: Vec<_> = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let platform = Platform::new("linux", "arm64", None);
        let globals = Arc::new(Globals::new(&dockerfile, &given, &platform, &platform, None).unwrap());
        let base = |error: crate::instruction::InstructionError| error.to_string();
        dockerfile.stages.iter().map(|stage| stage.from.base(&globals).map_err(base)).collect()
    }

    #[test]
    fn the_base_is_expanded_with_global_variables() {
        for (text, base) in [
            ("FROM debian:12", "debian:12"),
            ("ARG v=12\nFROM debian:$v", "debian:12"),
            ("ARG v\nFROM debian:${v:-11}", "debian:11"),
            ("ARG v=1\nARG w=$v.2\nFROM debian:$w", "debian:1.2"),
            ("ARG given=default\nFROM debian:$given", "debian:cli"),
            ("FROM image-$TARGETARCH", "image-arm64"),
            ("FROM \"quoted\"", "quoted"),
            ("from x As y", "x"),
            ("FROM x@sha256:abc", "x@sha256:abc"),
        ] {
            assert_eq!(bases(text, &[("given", "cli")]), [Ok(base.to_owned())], "{text}");
        }
    }

    #[test]
    fn an_argument_of_a_stage_is_not_for_from() {
        let results = bases("FROM a\nARG v=1\nFROM $v\nFROM b:$v", &[("v", "cli")]);
        let blank = "the base image `$v` is empty when its variables are replaced";
        assert_eq!(results, [Ok("a".to_owned()), Err(blank.to_owned()), Ok("b:".to_owned())]);
    }

    #[test]
    fn stage_names_are_lowered() {
        let dockerfile = Dockerfile::parse(b"FROM a AS BuilD-1_x.y\nFROM b", "Dockerfile").unwrap();
        let names: Vec<_> = dockerfile.stages.iter().map(|stage| stage.name.as_deref()).collect();
        assert_eq!(names, [Some("build-1_x.y"), None]);
    }

    #[test]
    fn what_is_not_from_is_refused() {
        for (text, message) in [
            ("FROM", "FROM needs an argument"),
            ("FROM a b", "FROM is written `FROM image` or `FROM image AS name`"),
            ("FROM a AS", "FROM is written `FROM image` or `FROM image AS name`"),
            ("FROM a is b", "FROM is written `FROM image` or `FROM image AS name`"),
            ("FROM a AS b c", "FROM is written `FROM image` or `FROM image AS name`"),
            (
                "FROM a AS 1",
                "`1` cannot name a stage: a name begins with a letter and goes on with letters, digits, `-`, `_`, `.`",
            ),
            ("FROM --platform a", "--platform needs a value: --platform=…"),
            ("FROM --platfrom=linux/arm64 a", "FROM has no flag --platfrom (did you mean --platform?)"),
        ] {
            assert_eq!(refused(text), message, "{text}");
        }
        assert!(refused("FROM a AS b/c").starts_with("`b/c` cannot name a stage"));
        assert_eq!(place_of("FROM --platfrom=x a"), "Dockerfile:1:6");
    }
}
