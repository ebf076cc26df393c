//! What can be wrong with the text of a Dockerfile, always with its place. What the error says does not repeat the
//! place: whoever shows it puts [`SyntaxError::span`] in front.

use std::fmt;

use thiserror::Error;

use super::span::Span;
use crate::instruction::InstructionError;

/// A Dockerfile that cannot be built because of what is written in it.
#[derive(Debug)]
pub struct SyntaxError(Box<Placed>);

#[derive(Debug)]
struct Placed {
    span: Span,
    text: String,
    problem: SyntaxProblem,
}

/// The kinds of things that can be wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SyntaxProblem {
    /// Nothing in the file but comments and blank lines.
    #[error("the file has no instructions")]
    NoInstructions,
    /// Only ARG instructions.
    #[error("the file has no stage to build: there is no FROM")]
    NoStages,
    /// `BuildKit`'s limit for one line of the file.
    #[error("the line is {length} bytes long, and {limit} is the limit")]
    LineTooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A line that is not a comment holds bytes that are not UTF-8.
    #[error("the line is not UTF-8 text")]
    NotText,
    /// A parser directive given twice.
    #[error("the parser directive `{name}` is given twice")]
    RepeatedDirective {
        /// Its name.
        name: String,
    },
    /// `# escape=` with something else than the two tokens there are.
    #[error("`{token}` cannot be the escape token")]
    EscapeToken {
        /// What was given.
        token: String,
    },
    /// The file ends before the heredoc does.
    #[error("the heredoc `{name}` is not ended")]
    OpenHeredoc {
        /// The word that would end it.
        name: String,
    },
    /// A word that begins like a heredoc and cannot be one.
    #[error("`{word}` is not a heredoc")]
    BadHeredoc {
        /// The word.
        word: String,
    },
    /// The first word of the line is no instruction.
    #[error("unknown instruction: {keyword}{}", crate::syntax::suggest::parenthesis(suggestion.as_deref()))]
    UnknownInstruction {
        /// The word as written.
        keyword: String,
        /// The instruction that was probably meant.
        suggestion: Option<String>,
    },
    /// Something else than ARG before the first FROM.
    #[error("{keyword} stands before the first FROM: only ARG can")]
    OutsideStage {
        /// The instruction.
        keyword: String,
    },
    /// The instruction itself is wrong.
    #[error(transparent)]
    Instruction(#[from] InstructionError),
}

impl SyntaxProblem {
    /// What of the text it is about, as it stands there, where it is a word.
    fn word(&self) -> Option<&str> {
        match self {
            SyntaxProblem::RepeatedDirective { name } | SyntaxProblem::OpenHeredoc { name } => Some(name),
            SyntaxProblem::BadHeredoc { word } => Some(word),
            SyntaxProblem::Instruction(error) => error.word(),
            _ => None,
        }
    }
}

impl SyntaxError {
    /// A span without a column is narrowed to what the problem is about.
    pub(crate) fn new(span: Span, text: impl Into<String>, problem: impl Into<SyntaxProblem>) -> Self {
        let problem = problem.into();
        let span = if span.column.is_some() { span } else { span.narrowed(problem.word()) };
        SyntaxError(Box::new(Placed { span, text: text.into(), problem }))
    }

    /// Where.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.0.span
    }

    /// The instruction as written, continuation lines joined; or the line, where there is no instruction.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// What.
    #[must_use]
    pub fn problem(&self) -> &SyntaxProblem {
        &self.0.problem
    }

    /// A way out, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match &self.0.problem {
            SyntaxProblem::LineTooLong { .. } => {
                Some("break the line with the escape token, or put the text into a file and COPY it".into())
            }
            SyntaxProblem::EscapeToken { .. } => Some(r"`\` and the backtick are the ones there are".into()),
            SyntaxProblem::OpenHeredoc { name } => Some(format!("a line that holds `{name}` and nothing else ends it")),
            SyntaxProblem::Instruction(error) => error.hint(),
            _ => None,
        }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.problem.fmt(formatter)
    }
}

impl std::error::Error for SyntaxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.problem.source()
    }
}
