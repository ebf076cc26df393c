//! The instructions of the language: one file each, holding its forms, its meaning for the image's configuration and its
//! tests. The table [`INSTRUCTIONS`] is the only list of them. What an instruction does to a root filesystem is plain
//! data here ([`Action`]) and carried out elsewhere.

mod add;
mod arg;
mod cmd;
mod command;
mod copy;
mod entrypoint;
mod env;
mod error;
mod expose;
mod flags;
mod from;
mod go_text;
mod healthcheck;
mod label;
mod maintainer;
mod mount;
mod onbuild;
mod pairs;
mod run;
mod shell;
mod sources;
mod stopsignal;
mod user;
mod volume;
mod workdir;

use std::fmt::Debug;

pub(crate) use arg::{Declaration, declarations};
pub(crate) use error::Fault;
pub use error::InstructionError;
pub(crate) use from::From;
pub(crate) use mount::{Mount, MountKind, Sharing};
pub(crate) use onbuild::trigger;
pub(crate) use run::{Demands, Network};
pub(crate) use sources::{SourceKind, kind_of};

use crate::settings::Settings;
use crate::syntax::{Line, Span, SyntaxError, SyntaxProblem, suggest};

/// One instruction, read and checked.
pub(crate) trait Instruction: Debug + Send + Sync {
    /// Takes effect on the settings of the stage, in every build, whatever is cached; variables get the values they have
    /// at this point. Touches no filesystem.
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError>;

    /// The stages and images that it reads besides its own stage, as written: `COPY --from`, `RUN --mount=from=…`.
    fn uses(&self) -> Vec<&str> {
        Vec::new()
    }

    /// What it asks of the place where commands run, and of whoever asked for the build; `None` for what runs nothing.
    fn demands(&self) -> Option<Demands<'_>> {
        None
    }

    /// What ONBUILD keeps for stages that begin with this one: see [`trigger`].
    fn trigger(&self) -> Option<&str> {
        None
    }
}

/// What there is to do after an instruction took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The row of the image's history, worded as `BuildKit` words it; `None` for ONBUILD, which has none.
    pub(crate) created_by: Option<String>,
    /// What happens to the root filesystem; `None` makes the row an `empty_layer`.
    pub(crate) action: Option<Action>,
}

impl Step {
    fn metadata(created_by: String) -> Self {
        Step { created_by: Some(created_by), action: None }
    }

    fn of(created_by: String, action: Action) -> Self {
        Step { created_by: Some(created_by), action: Some(action) }
    }
}

/// What happens to the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A command runs.
    Run(RunAction),
    /// Files are copied.
    Copy(CopyAction),
    /// A folder is made, if it is not there.
    MakeDir(WorkdirAction),
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunAction {
    /// The program and its arguments; a shell form has its shell in front.
    pub(crate) arguments: Vec<String>,
    /// `NAME=value`, the whole environment but for HOME. Where a name stands twice, the later one is meant.
    pub(crate) env: Vec<String>,
    /// How many of [`RunAction::env`], from the first, decide what the command makes. The others are proxies that were
    /// given as build arguments and not declared: they are neither in the history nor part of a cache key.
    pub(crate) deciding: usize,
    /// USER, as the configuration holds it.
    pub(crate) user: String,
    /// WORKDIR; absolute.
    pub(crate) working_dir: String,
    /// What is laid into the root for this command alone, in the order of the flags.
    pub(crate) mounts: Vec<Mount>,
    /// The command has no network: `--network=none`.
    pub(crate) offline: bool,
    /// The command as written, for people.
    pub(crate) text: String,
}

/// A file whose content stands in the Dockerfile: a heredoc of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InlineFile {
    /// Its name where the destination is a folder: a single component.
    pub(crate) name: String,
    /// Variables replaced, where the heredoc's word was not quoted.
    pub(crate) content: String,
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct CopyAction {
    /// `COPY` or `ADD`.
    pub(crate) instruction: &'static str,
    /// Where the sources are: a stage or an image as written, or `None` for the build context.
    pub(crate) from: Option<String>,
    /// Paths and patterns, of ADD also addresses ([`kind_of`] tells them apart), variables replaced; none is empty.
    pub(crate) sources: Vec<String>,
    /// Files that stand in the Dockerfile. They come after the sources; there is at least one of either.
    pub(crate) inline: Vec<InlineFile>,
    /// As written, variables replaced; relative to [`CopyAction::working_dir`]. A trailing slash means a folder.
    pub(crate) destination: String,
    /// WORKDIR; absolute.
    pub(crate) working_dir: String,
    /// `user[:group]`, variables replaced.
    pub(crate) chown: Option<String>,
    /// A mode that [`zuwai_snapshot::ModeChange`] reads, variables replaced.
    pub(crate) chmod: Option<String>,
    /// `--link`: the files come to where they would in an empty root, whatever is there.
    pub(crate) link: bool,
    /// `--parents`: sources keep their folders.
    pub(crate) parents: bool,
    /// `--exclude`, variables replaced.
    pub(crate) exclude: Vec<String>,
    /// Whether tar archives among the paths are unpacked.
    pub(crate) unpack: bool,
    /// Whether tar archives behind web addresses are unpacked.
    pub(crate) unpack_remote: bool,
    /// `--checksum` of the one source, which is an address; variables replaced.
    pub(crate) checksum: Option<String>,
    /// `--keep-git-dir`, if it was given.
    pub(crate) keep_git_dir: Option<bool>,
}

impl CopyAction {
    /// What a source is. `--keep-git-dir` makes every web address one of a repository.
    pub(crate) fn kind_of(&self, source: &str) -> SourceKind {
        match kind_of(source) {
            SourceKind::Web if self.keep_git_dir.is_some() => SourceKind::Git,
            kind => kind,
        }
    }
}

/// WORKDIR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkdirAction {
    /// The folder; absolute.
    pub(crate) path: String,
    /// USER, who will own what is made: read as `--chown` is, where a lone number is the group too.
    pub(crate) user: String,
}

/// An instruction and its place.
#[derive(Debug)]
pub(crate) struct Placed {
    instruction: Box<dyn Instruction>,
    /// Where it stands.
    pub(crate) span: Span,
    /// As written, continuation lines joined.
    pub(crate) text: String,
}

impl Placed {
    pub(crate) fn new(instruction: Box<dyn Instruction>, span: Span, text: String) -> Self {
        Placed { instruction, span, text }
    }

    /// See [`Instruction::configure`]; an error gets its place.
    pub(crate) fn configure(&self, settings: &mut Settings) -> Result<Step, SyntaxError> {
        self.instruction
            .configure(settings)
            .map_err(|error| SyntaxError::new(self.span.clone(), self.text.clone(), error))
    }

    /// See [`Instruction::uses`].
    pub(crate) fn uses(&self) -> Vec<&str> {
        self.instruction.uses()
    }

    /// See [`Instruction::demands`].
    pub(crate) fn demands(&self) -> Option<Demands<'_>> {
        self.instruction.demands()
    }

    /// See [`Instruction::trigger`].
    pub(crate) fn trigger(&self) -> Option<&str> {
        self.instruction.trigger()
    }
}

/// How an instruction is read.
type Read = fn(&Line) -> Result<Box<dyn Instruction>, Fault>;

/// One instruction of the language.
pub(crate) struct Row {
    /// As people write it.
    pub(crate) keyword: &'static str,
    /// `None` for FROM, which begins a stage and is no step of one.
    read: Option<Read>,
    /// Whether a trigger can be this.
    in_trigger: bool,
}

const fn row(keyword: &'static str, read: Read) -> Row {
    Row { keyword, read: Some(read), in_trigger: true }
}

/// Every instruction there is.
pub(crate) const INSTRUCTIONS: [Row; 18] = [
    Row { keyword: from::KEYWORD, read: None, in_trigger: false },
    row(run::KEYWORD, run::read),
    row(copy::KEYWORD, copy::read),
    row(add::KEYWORD, add::read),
    row(env::KEYWORD, env::read),
    row(arg::KEYWORD, arg::read),
    row(workdir::KEYWORD, workdir::read),
    row(user::KEYWORD, user::read),
    row(cmd::KEYWORD, cmd::read),
    row(entrypoint::KEYWORD, entrypoint::read),
    row(label::KEYWORD, label::read),
    row(expose::KEYWORD, expose::read),
    row(volume::KEYWORD, volume::read),
    row(shell::KEYWORD, shell::read),
    row(stopsignal::KEYWORD, stopsignal::read),
    row(healthcheck::KEYWORD, healthcheck::read),
    Row { keyword: onbuild::KEYWORD, read: Some(onbuild::read), in_trigger: false },
    Row { keyword: maintainer::KEYWORD, read: Some(maintainer::read), in_trigger: false },
];

/// What a line is.
pub(crate) enum Parsed {
    /// FROM: a stage begins.
    Stage(From),
    /// Anything else.
    Step(Box<dyn Instruction>),
}

/// Reads one line.
pub(crate) fn parse(line: &Line) -> Result<Parsed, SyntaxError> {
    let row = find(line)?;
    let parsed = match row.read {
        None => from::read(line).map(Parsed::Stage),
        Some(read) => read(line).map(Parsed::Step),
    };
    parsed.map_err(|fault| place(line, fault))
}

fn find(line: &Line) -> Result<&'static Row, SyntaxError> {
    INSTRUCTIONS.iter().find(|row| line.is(row.keyword)).ok_or_else(|| {
        let keyword = line.keyword.clone();
        let suggestion = suggest::nearest(&keyword, INSTRUCTIONS.iter().map(|row| row.keyword));
        SyntaxError::new(line.place(0), line.text.clone(), SyntaxProblem::UnknownInstruction { keyword, suggestion })
    })
}

/// Gives an error its place: the one it has, or the whole instruction.
pub(crate) fn place(line: &Line, fault: Fault) -> SyntaxError {
    let span = fault.place.unwrap_or_else(|| line.span.clone());
    SyntaxError::new(span, line.text.clone(), fault.error)
}

/// For instructions that take the rest of the line as one argument.
fn one_argument(line: &Line, instruction: &'static str) -> Result<String, Fault> {
    flags::Flags::none(line, instruction)?;
    if line.rest.is_empty() {
        return Err(Fault::at(line.place_of_rest(), InstructionError::NoArgument { instruction }));
    }
    Ok(line.rest.clone())
}

#[cfg(test)]
pub(crate) mod testing;
