//! VOLUME: folders that are volumes of the container. Nothing else changes: what later instructions write below them is
//! part of the image.
//!
//! ```text
//! VOLUME /a /b
//! VOLUME ["/a", "/b"]
//! ```

use super::error::Fault;
use super::flags::Flags;
use super::{Instruction, InstructionError, Step, go_text};
use crate::settings::Settings;
use crate::syntax::Line;
use crate::syntax::words::{self, Json};

pub(super) const KEYWORD: &str = "VOLUME";

#[derive(Debug)]
struct Volume {
    paths: Vec<String>,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Flags::none(line, KEYWORD)?;
    let at = |error| Fault::at(line.place_of_rest(), error);
    let paths = match line.json() {
        Json::Strings(strings) => strings,
        Json::Mixed => return Err(at(InstructionError::MixedJson)),
        Json::No => words::plain(&line.rest),
    };
    if paths.is_empty() {
        return Err(at(InstructionError::NoArgument { instruction: KEYWORD }));
    }
    let paths: Vec<String> = paths.into_iter().map(|path| path.trim().to_owned()).collect();
    if paths.iter().any(String::is_empty) {
        return Err(at(InstructionError::EmptyVolume));
    }
    Ok(Box::new(Volume { paths }))
}

impl Instruction for Volume {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let paths: Vec<String> = self.paths.iter().map(|path| settings.expand(path)).collect::<Result<_, _>>()?;
        if paths.iter().any(String::is_empty) {
            return Err(InstructionError::EmptyVolume);
        }
        settings.config_mut().config.volumes.extend(paths.iter().cloned());
        Ok(Step::metadata(format!("{KEYWORD} {}", go_text::list(&paths))))
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn both_forms_are_set_and_worded() {
        let mut stage = Stage::scratch();
        stage.run("ENV d=/data");
        for (text, created_by) in [
            ("VOLUME /b /a", "VOLUME [/b /a]"),
            ("VOLUME [\"/a b\", \"$d\"]", "VOLUME [/a b /data]"),
            ("VOLUME ${d}/x", "VOLUME [/data/x]"),
            ("VOLUME ['/x']", "VOLUME [[/x]]"),
        ] {
            assert_eq!(stage.run(text).created_by.as_deref(), Some(created_by), "{text}");
        }
        let volumes: Vec<_> = stage.settings.config().config.volumes.iter().map(String::as_str).collect();
        assert_eq!(volumes, ["/a", "/a b", "/b", "/data", "/data/x", "[/x]"]);
    }

    #[test]
    fn an_empty_volume_is_refused() {
        assert_eq!(refused("VOLUME"), "VOLUME needs an argument");
        assert_eq!(refused("VOLUME []"), "VOLUME needs an argument");
        assert_eq!(refused("VOLUME [\" \"]"), "a VOLUME cannot be empty");
        assert_eq!(refused("VOLUME [1]"), "in the JSON form every element is a string in double quotes");
        assert_eq!(Stage::scratch().fails("VOLUME $none"), "a VOLUME cannot be empty");
    }
}
