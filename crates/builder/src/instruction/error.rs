//! What can be wrong with one instruction, when it is read or when it takes effect. None of it names the line: whoever
//! has the instruction's place adds it once.

use thiserror::Error;

use crate::context::BadPattern;
use crate::syntax::suggest::parenthesis;
use crate::syntax::{ExpandError, Span, SyntaxError};

/// An instruction that is wrong, or that is not built yet.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InstructionError {
    /// A flag that the instruction does not have.
    #[error("{instruction} has no flag --{flag}{}", parenthesis(suggestion.as_deref()))]
    UnknownFlag {
        /// The instruction.
        instruction: &'static str,
        /// The flag as written, without the dashes.
        flag: String,
        /// The flag that was probably meant, with its dashes.
        suggestion: Option<String>,
    },
    /// A flag that can be given once only.
    #[error("--{flag} is given twice")]
    RepeatedFlag {
        /// The flag.
        flag: String,
    },
    /// A flag that needs a value.
    #[error("--{flag} needs a value: --{flag}=…")]
    FlagWithoutValue {
        /// The flag.
        flag: String,
    },
    /// A switch with something else than `true` or `false`.
    #[error("--{flag} is true or false, and not `{value}`")]
    FlagNotSwitch {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
    },
    /// Nothing behind the keyword.
    #[error("{instruction} needs an argument")]
    NoArgument {
        /// The instruction.
        instruction: &'static str,
    },
    /// COPY or ADD with fewer than two arguments.
    #[error("{instruction} needs at least two arguments: what to copy, and where to")]
    NoDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// A JSON array with something else than strings in it.
    #[error("in the JSON form every element is a string in double quotes")]
    MixedJson,
    /// An instruction that has the JSON form only.
    #[error("{instruction} needs its arguments as JSON: {instruction} [\"…\", \"…\"]")]
    NotJson {
        /// The instruction.
        instruction: &'static str,
    },
    /// `=value`.
    #[error("{instruction} needs a name before `=`")]
    BlankName {
        /// The instruction.
        instruction: &'static str,
    },
    /// `ENV name`.
    #[error("{instruction} {name} needs a value: {instruction} {name}=…")]
    NoValue {
        /// The instruction.
        instruction: &'static str,
        /// The name.
        name: String,
    },
    /// `ENV a=b c`.
    #[error("`{word}` has no `=`: {instruction} takes name=value pairs, and a value with blanks stands in quotes")]
    NotPair {
        /// The instruction.
        instruction: &'static str,
        /// The word.
        word: String,
    },
    /// FROM with another number of arguments, or without AS.
    #[error("FROM is written `FROM image` or `FROM image AS name`")]
    FromForm,
    /// The name of a stage.
    #[error(
        "`{name}` cannot name a stage: a name begins with a letter and goes on with letters, digits, `-`, `_`, `.`"
    )]
    StageName {
        /// The name as written.
        name: String,
    },
    /// The image of a FROM is empty after expansion.
    #[error("the base image `{written}` is empty{}", if written.contains('$') { " when its variables are replaced" } else { "" })]
    BlankBase {
        /// As written.
        written: String,
    },
    /// `FROM --platform`.
    #[error("--platform={written} is not a platform{}", if value == written { String::new() } else { format!(": it comes to `{value}`") })]
    Platform {
        /// As written.
        written: String,
        /// Variables replaced.
        value: String,
    },
    /// `--from=$X`.
    #[error("--from={from} holds a variable: --from takes names as they are")]
    VariableInFrom {
        /// As written.
        from: String,
    },
    /// COPY of what only ADD can have.
    #[error("COPY takes files of the build context, and {source_path} is not one")]
    RemoteCopy {
        /// The source.
        source_path: String,
    },
    /// `--chmod`.
    #[error("--chmod={mode} is not a mode: octal up to 7777, or symbolic such as u=rwX,go=rX")]
    Mode {
        /// After expansion.
        mode: String,
    },
    /// One of a few words was wanted.
    #[error("--{flag} is {}, and not {value}{}", either(words), parenthesis(suggestion.as_deref()))]
    Choice {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What can be given.
        words: &'static [&'static str],
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// `RUN --mount`.
    #[error("--mount={text}: {reason}")]
    Mount {
        /// As written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The last argument of COPY or ADD is a heredoc.
    #[error("the heredoc {word} cannot be a destination")]
    HeredocDestination {
        /// The word.
        word: String,
    },
    /// A heredoc of COPY or ADD whose word cannot be the name of a file.
    #[error("the heredoc's word `{name}` cannot name the file that it becomes")]
    HeredocName {
        /// Without quotes.
        name: String,
    },
    /// `--exclude`.
    #[error("--exclude={pattern} is not a pattern")]
    Exclude {
        /// After expansion.
        pattern: String,
        /// What is wrong with it; nothing more than that it is a lone `!`.
        #[source]
        source: Option<BadPattern>,
    },
    /// `--checksum`, or `--keep-git-dir`, where it means nothing.
    #[error("--{flag}: {reason}")]
    Remote {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A repository that ADD cannot fetch.
    #[error("ADD of {address}: {reason}")]
    Repository {
        /// As written, without a login.
        address: String,
        /// Why not.
        reason: String,
    },
    /// EXPOSE.
    #[error("`{port}` is not a port: {reason}")]
    Port {
        /// After expansion.
        port: String,
        /// Why not.
        reason: &'static str,
    },
    /// An empty VOLUME.
    #[error("a VOLUME cannot be empty")]
    EmptyVolume,
    /// STOPSIGNAL.
    #[error("`{signal}` is not a signal")]
    Signal {
        /// After expansion.
        signal: String,
    },
    /// HEALTHCHECK with neither CMD nor NONE.
    #[error("HEALTHCHECK takes CMD or NONE, and not `{kind}`")]
    HealthcheckKind {
        /// What was given.
        kind: String,
    },
    /// `HEALTHCHECK NONE` with something more.
    #[error("HEALTHCHECK NONE takes nothing more")]
    HealthcheckNone,
    /// `HEALTHCHECK CMD` alone.
    #[error("HEALTHCHECK CMD needs a command")]
    HealthcheckCommand,
    /// A duration that is none, or that is too short.
    #[error("--{flag}={value} is not a duration: {reason}")]
    Duration {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// `--retries`.
    #[error("--retries={value} is not a number from 0 up")]
    Retries {
        /// Its value.
        value: String,
    },
    /// An instruction that cannot be a trigger.
    #[error("{keyword} cannot be an ONBUILD trigger")]
    Trigger {
        /// The instruction.
        keyword: String,
    },
    /// A trigger that is wrong in itself.
    #[error("the trigger `{text}` is wrong")]
    BadTrigger {
        /// The trigger.
        text: String,
        /// What is wrong with it.
        #[source]
        source: Box<SyntaxError>,
    },
    /// A word that cannot be expanded.
    #[error("expand `{word}`")]
    Expand {
        /// The word as written.
        word: String,
        /// Why not.
        #[source]
        source: ExpandError,
    },
}

/// `a, b or c`.
fn either(words: &[&str]) -> String {
    match words {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        words => words.concat(),
    }
}

impl InstructionError {
    /// What of the instruction it is about, as it stands there, where it is a word.
    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            InstructionError::Expand { word, .. }
            | InstructionError::NotPair { word, .. }
            | InstructionError::HeredocDestination { word, .. } => Some(word),
            InstructionError::BlankBase { written } | InstructionError::Platform { written, .. } => Some(written),
            InstructionError::RemoteCopy { source_path } => Some(source_path),
            InstructionError::Mode { mode } => Some(mode),
            InstructionError::Port { port, .. } => Some(port),
            InstructionError::Signal { signal } => Some(signal),
            InstructionError::Duration { value, .. } | InstructionError::Retries { value } => Some(value),
            _ => None,
        }
    }

    /// A way out, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            InstructionError::VariableInFrom { .. } => {
                "name the image in a stage of its own, FROM ${…} AS name, where global ARGs are replaced, and copy --from=name"
            }
            InstructionError::RemoteCopy { .. } => "ADD is the instruction for what is not in the build context",
            InstructionError::BlankBase { .. } => {
                "only an ARG before the first FROM can be used in FROM: give it a default, or a value with --build-arg"
            }
            InstructionError::Platform { .. } => {
                "a platform is OS/ARCHITECTURE[/VARIANT], such as linux/arm64; in FROM only global ARGs and predefined ones are known"
            }
            InstructionError::Repository { .. } => "write https://host/path.git#branch, or clone it in a RUN",
            InstructionError::Signal { .. } => "a signal is a name such as SIGTERM or RTMIN+3, or a number",
            InstructionError::Port { .. } => "a port is 80, 80/tcp, 53/udp or a range such as 8000-8010",
            InstructionError::Expand { source: ExpandError::OpenQuote(_), .. } => {
                "words are parted before variables are replaced: quote the whole value, or escape the quote"
            }
            InstructionError::BadTrigger { source, .. } => return source.hint(),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// An error with the place inside the instruction, where it is known.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: InstructionError,
    pub(crate) place: Option<Span>,
}

impl Fault {
    pub(crate) fn at(place: Span, error: InstructionError) -> Self {
        Fault { error, place: Some(place) }
    }
}

impl From<InstructionError> for Fault {
    fn from(error: InstructionError) -> Self {
        Fault { error, place: None }
    }
}
