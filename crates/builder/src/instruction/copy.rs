//! COPY: files of the build context, of a stage, or of an image.
//!
//! ```text
//! COPY [--from=stage|index|image|context] [--chown=user[:group]] [--chmod=mode] [--link] [--parents] [--exclude=pattern]…
//!      source… destination
//! COPY <<name … destination
//! ```
//!
//! Variables are replaced in everything but `--from`.

use super::error::Fault;
use super::flags::Flags;
use super::sources::{SourceKind, Sources, kind_of};
use super::{Action, Instruction, InstructionError, Step};
use crate::settings::Settings;
use crate::syntax::{Expander, Line, Variables};

pub(super) const KEYWORD: &str = "COPY";

#[derive(Debug)]
struct Copy {
    from: Option<String>,
    sources: Sources,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    let flags = Flags::read(line, KEYWORD)?;
    let from = flags.value("from");
    if let Some(from) = &from {
        let flag = line.flags.iter().find(|flag| flag.word.starts_with("--from="));
        let place = flag.map_or_else(|| line.span.clone(), |flag| line.place(flag.offset));
        check_from(from).map_err(|error| Fault::at(place, error))?;
    }
    Ok(Box::new(Copy { from, sources: Sources::read(line, &flags, KEYWORD)? }))
}

/// What expansion would change holds a variable, or quotes that are not taken away.
fn check_from(from: &str) -> Result<(), InstructionError> {
    struct Unset;
    impl Variables for Unset {
        fn get(&self, _: &str) -> Option<&str> {
            None
        }
    }
    match Expander::new('\\').word(from, &Unset) {
        Ok(same) if same == from => Ok(()),
        _ => Err(InstructionError::VariableInFrom { from: from.to_owned() }),
    }
}

impl Instruction for Copy {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let (created_by, action) = self.sources.expand(settings, KEYWORD, self.from.clone())?;
        match action.sources.iter().find(|source| kind_of(source) != SourceKind::Path) {
            Some(source) => Err(InstructionError::RemoteCopy { source_path: source.clone() }),
            None => Ok(Step::of(created_by, Action::Copy(action))),
        }
    }

    fn uses(&self) -> Vec<&str> {
        self.from.as_deref().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, place_of, refused};
    use crate::instruction::{Action, CopyAction, Step};

    fn action(step: Step) -> CopyAction {
        match step.action {
            Some(Action::Copy(action)) => action,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn history_tells_owner_mode_and_paths_and_not_the_origin() {
        let mut stage = Stage::scratch();
        stage.run("ENV d=/dst u=app m=600 s=a");
        for (text, created_by) in [
            ("COPY a b", "COPY a b # buildkit"),
            ("COPY  a  b/ ", "COPY a b/ # buildkit"),
            ("COPY $s $d", "COPY a /dst # buildkit"),
            ("COPY [\"a b\", \"c d\"]", "COPY a b c d # buildkit"),
            ("COPY --from=build a b c/", "COPY a b c/ # buildkit"),
            ("COPY --from=0 a b", "COPY a b # buildkit"),
            ("COPY --chmod=$m --chown=$u:1 a b", "COPY --chown=app:1 --chmod=600 a b # buildkit"),
            ("COPY --chown=$none a b", "COPY a b # buildkit"),
            ("COPY --chmod=u=rwX,go=rX a b", "COPY --chmod=u=rwX,go=rX a b # buildkit"),
            ("COPY \"a\" b", "COPY a b # buildkit"),
            ("COPY $none b", "COPY  b # buildkit"),
        ] {
            assert_eq!(stage.run(text).created_by.as_deref(), Some(created_by), "{text}");
        }
    }

    #[test]
    fn the_action_holds_what_is_needed_to_copy() {
        let mut stage = Stage::scratch();
        stage.run("WORKDIR /w");
        let action = action(stage.run("COPY --from=Build --chown=1:2 --chmod=4755 a* b c/"));
        assert_eq!(action.instruction, "COPY");
        assert_eq!(action.from.as_deref(), Some("Build"));
        assert_eq!(action.sources, ["a*", "b"]);
        assert_eq!((action.destination.as_str(), action.working_dir.as_str()), ("c/", "/w"));
        assert_eq!((action.chown.as_deref(), action.chmod.as_deref()), (Some("1:2"), Some("4755")));
        assert!(!action.unpack);
    }

    #[test]
    fn newer_flags_are_data_of_the_action_and_only_parents_is_history() {
        let mut stage = Stage::scratch();
        stage.run("ENV x=*.md");
        let step = stage.run("COPY --parents --link --exclude=$x --exclude=b a /d/");
        assert_eq!(step.created_by.as_deref(), Some("COPY --parents a /d/ # buildkit"));
        let given = action(step);
        assert!(given.parents && given.link);
        assert_eq!(given.exclude, ["*.md", "b"]);
        assert!(!action(stage.run("COPY --link --chmod=644 a b")).link);
        assert!(!action(stage.run("COPY --link=false a b")).link);
        assert!(stage.fails("COPY --exclude=[ a b").starts_with("--exclude=[ is not a pattern"));
    }

    #[test]
    fn a_source_that_comes_to_nothing_is_the_whole_context() {
        assert_eq!(action(Stage::scratch().run("COPY $none b")).sources, ["."]);
    }

    #[test]
    fn a_heredoc_is_a_file_with_its_variables_replaced_unless_its_word_is_quoted() {
        let mut stage = Stage::scratch();
        stage.run("ENV v=1");
        let step = stage.run("COPY a <<-X <<'Y' /d/\n\tit's \"$v\"\n\tX\n\t$v\nY");
        assert_eq!(step.created_by.as_deref(), Some("COPY a <<X <<Y /d/ # buildkit"));
        let action = action(step);
        assert_eq!(action.sources, ["a"]);
        let files: Vec<_> = action.inline.iter().map(|file| (file.name.as_str(), file.content.as_str())).collect();
        assert_eq!(files, [("X", "it's \"1\"\n"), ("Y", "\t$v\n")]);
        assert!(stage.fails("COPY <<E /x\n${v:?\nE").starts_with("expand `${v:?`"));
    }

    #[test]
    fn what_is_not_copy_is_refused() {
        for (text, message) in [
            ("COPY", "COPY needs at least two arguments: what to copy, and where to"),
            ("COPY a", "COPY needs at least two arguments: what to copy, and where to"),
            ("COPY [\"a\"]", "COPY needs at least two arguments: what to copy, and where to"),
            ("COPY [\"a\", 2]", "in the JSON form every element is a string in double quotes"),
            ("COPY --from a b", "--from needs a value: --from=…"),
            ("COPY --from= a b", "--from needs a value: --from=…"),
            ("COPY --from=$x a b", "--from=$x holds a variable: --from takes names as they are"),
            ("COPY --from=a --from=b c d", "--from is given twice"),
            ("COPY --form=a c d", "COPY has no flag --form (did you mean --from?)"),
            ("COPY --checksum=x a b", "COPY has no flag --checksum"),
            ("COPY a <<EOF\na\nEOF", "the heredoc <<EOF cannot be a destination"),
            ("COPY <<a/b /x\na\na/b", "the heredoc's word `a/b` cannot name the file that it becomes"),
        ] {
            assert_eq!(refused(text), message, "{text}");
        }
        assert_eq!(place_of("COPY --chown=a \\\n  --lnik b c"), "Dockerfile:2:3");
        let mut stage = Stage::scratch();
        assert_eq!(
            stage.fails("COPY https://h/f x"),
            "COPY takes files of the build context, and https://h/f is not one"
        );
        for mode in ["77777", "999", "rwx", "-1"] {
            assert_eq!(
                stage.fails(&format!("COPY --chmod={mode} a b")),
                format!("--chmod={mode} is not a mode: octal up to 7777, or symbolic such as u=rwX,go=rX")
            );
        }
    }
}
