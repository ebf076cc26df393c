//! What belongs to the language and is not built yet: the one place that refuses it. A thing that is built leaves this
//! file, and nothing else has to be looked for.

use super::InstructionError;

/// Flags that are refused: the instruction, the flag, and what to do instead.
const FLAGS: [(&str, &str, &str); 9] = [
    ("FROM", "platform", "build for one platform with --custom-platform"),
    ("COPY", "link", "leave the flag out: the same files come to the same place unless a link is in the way"),
    ("COPY", "parents", "COPY each folder to its own destination"),
    ("COPY", "exclude", "name what is not wanted in .dockerignore"),
    ("ADD", "link", "leave the flag out: the same files come to the same place unless a link is in the way"),
    ("ADD", "exclude", "name what is not wanted in .dockerignore"),
    ("ADD", "checksum", "download and check the file in a RUN"),
    ("ADD", "keep-git-dir", "clone the repository in a RUN"),
    ("ADD", "unpack", "COPY keeps an archive as it is, and ADD unpacks it"),
];

/// The error for a flag that is refused; `None` for one that works.
pub(super) fn flag(instruction: &str, flag: &str) -> Option<InstructionError> {
    let (_, _, instead) = FLAGS.iter().find(|(keyword, name, _)| *keyword == instruction && *name == flag)?;
    Some(InstructionError::NotYet { what: format!("{instruction} --{flag}"), instead })
}

/// The error for ADD of something that is not in the build context.
pub(super) fn remote_add(source: &str) -> InstructionError {
    InstructionError::NotYet {
        what: format!("ADD of {source}, which is not in the build context,"),
        instead: "download it in a RUN, or put it into the build context before the build",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruction::flags;

    #[test]
    fn every_flag_that_is_refused_is_a_flag_of_its_instruction() {
        for (instruction, name, _) in FLAGS {
            assert!(flags::names(instruction).any(|known| known == name), "{instruction} --{name}");
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        let error = flag("COPY", "link").unwrap();
        assert_eq!(error.to_string(), "COPY --link is not supported yet");
        assert!(error.hint().is_some());
        assert!(flag("COPY", "from").is_none());
    }
}
