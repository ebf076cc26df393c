//! ADD: like COPY, and tar archives are unpacked, and sources can be web addresses and git repositories.
//!
//! ```text
//! ADD [--chown=user[:group]] [--chmod=mode] [--link] [--exclude=pattern]… [--unpack[=false]] source… destination
//! ADD [--checksum=sha256:…] https://host/file destination
//! ADD [--checksum=commit] [--keep-git-dir] https://host/repository.git[#ref[:folder]] destination
//! ```

use zuwai_registry::Digest;

use super::error::Fault;
use super::flags::Flags;
use super::sources::{SourceKind, Sources, expand_flag};
use super::{Action, CopyAction, Instruction, InstructionError, Step};
use crate::context::repository;
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "ADD";

#[derive(Debug)]
struct Add {
    sources: Sources,
    unpack: Option<bool>,
    checksum: Option<String>,
    keep_git_dir: Option<bool>,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    let flags = Flags::read(line, KEYWORD)?;
    Ok(Box::new(Add {
        sources: Sources::read(line, &flags, KEYWORD)?,
        unpack: flags.switch("unpack"),
        checksum: flags.value("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
    }))
}

impl Instruction for Add {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let (created_by, mut action) = self.sources.expand(settings, KEYWORD, None)?;
        action.unpack = self.unpack != Some(false);
        action.unpack_remote = self.unpack == Some(true);
        action.checksum = expand_flag(self.checksum.as_deref(), settings)?;
        action.keep_git_dir = self.keep_git_dir;
        check(&action)?;
        Ok(Step::of(created_by, Action::Copy(action)))
    }
}

/// What can be seen to be wrong before anything is fetched.
fn check(action: &CopyAction) -> Result<(), InstructionError> {
    for source in action.sources.iter().filter(|source| action.kind_of(source) == SourceKind::Git) {
        let wanted = repository(source).map_err(|error| {
            let address = source.rsplit('@').next().unwrap_or_default().to_owned();
            InstructionError::Repository { address, reason: error.to_string() }
        })?;
        check_agreement(action, wanted.checksum.as_deref(), wanted.keep_git_dir)?;
    }
    if action.keep_git_dir.is_some() && !action.sources.iter().any(|source| action.kind_of(source) == SourceKind::Git) {
        let reason = "it is for repositories, and there is none among the sources".to_owned();
        return Err(InstructionError::Remote { flag: "keep-git-dir", reason });
    }
    let Some(checksum) = &action.checksum else { return Ok(()) };
    let wrong = |reason: String| Err(InstructionError::Remote { flag: "checksum", reason });
    let [source] = action.sources.as_slice() else {
        return wrong("it is for one source".to_owned());
    };
    match action.kind_of(source) {
        _ if !action.inline.is_empty() => wrong("it is for one source".to_owned()),
        SourceKind::Path => wrong(format!("it is for web addresses and repositories, and {source} is a path")),
        SourceKind::Web => match checksum.parse::<Digest>() {
            Ok(_) => Ok(()),
            Err(error) => wrong(error.to_string()),
        },
        SourceKind::Git if checksum.len() >= 7 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(()),
        SourceKind::Git => wrong(format!("{checksum} is not the id of a commit")),
    }
}

/// What an address and a flag say of the same thing must not differ.
fn check_agreement(
    action: &CopyAction,
    checksum: Option<&str>,
    keep_git_dir: Option<bool>,
) -> Result<(), InstructionError> {
    if let (Some(flag), Some(address)) = (action.checksum.as_deref(), checksum)
        && !flag.eq_ignore_ascii_case(address)
    {
        let reason = format!("it says {flag}, and the address says {address}");
        return Err(InstructionError::Remote { flag: "checksum", reason });
    }
    match (action.keep_git_dir, keep_git_dir) {
        (Some(flag), Some(address)) if flag != address => {
            let reason = format!("it says {flag}, and the address says {address}");
            Err(InstructionError::Remote { flag: "keep-git-dir", reason })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};
    use crate::instruction::{Action, CopyAction, Step};

    fn action(step: Step) -> CopyAction {
        match step.action {
            Some(Action::Copy(action)) => action,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn archives_are_unpacked_unless_it_says_otherwise() {
        let step = Stage::scratch().run("ADD --chown=1 a.tar /x");
        assert_eq!(step.created_by.as_deref(), Some("ADD --chown=1 a.tar /x # buildkit"));
        let given = action(step);
        assert!(given.unpack && !given.unpack_remote && given.from.is_none() && given.instruction == "ADD");
        let given = action(Stage::scratch().run("ADD --unpack=false a.tar /x"));
        assert!(!given.unpack && !given.unpack_remote);
        let given = action(Stage::scratch().run("ADD --unpack a.tar /x"));
        assert!(given.unpack && given.unpack_remote);
    }

    #[test]
    fn addresses_are_sources_and_flags_stay_out_of_the_history() {
        let mut stage = Stage::scratch();
        stage.run("ENV v=1.2");
        let digest = format!("sha256:{}", "0".repeat(64));
        let step = stage.run(&format!("ADD --checksum={digest} https://h/f-$v.tgz /x/"));
        assert_eq!(step.created_by.as_deref(), Some("ADD https://h/f-1.2.tgz /x/ # buildkit"));
        assert_eq!(action(step).checksum, Some(digest));
        let given = action(stage.run("ADD --keep-git-dir --checksum=0123456789 https://h/r.git#main:docs /x"));
        assert_eq!((given.keep_git_dir, given.sources[0].as_str()), (Some(true), "https://h/r.git#main:docs"));
    }

    #[test]
    fn what_cannot_be_fetched_or_compared_is_refused() {
        assert_eq!(refused("ADD --from=x a b"), "ADD has no flag --from");
        assert_eq!(refused("ADD a"), "ADD needs at least two arguments: what to copy, and where to");
        let mut stage = Stage::scratch();
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, message) in [
            (
                format!("ADD --checksum={digest} a /x"),
                "--checksum: it is for web addresses and repositories, and a is a path",
            ),
            (format!("ADD --checksum={digest} https://h/a https://h/b /x/"), "--checksum: it is for one source"),
            ("ADD --checksum=main https://h/r.git /x".to_owned(), "--checksum: main is not the id of a commit"),
        ] {
            assert_eq!(stage.fails(&text), message, "{text}");
        }
        assert!(stage.fails("ADD --checksum=md5:1 https://h/a /x").starts_with("--checksum: digest `md5:1`"));
        let message = stage.fails("ADD git@h.example:r.git x");
        assert!(
            message.starts_with("ADD of h.example:r.git: the address of the git repository cannot be read"),
            "{message}"
        );
    }
}
