//! A failure, as the user reads it: one line that says what failed, the lines of the Dockerfile, the causes, a way out.
//!
//! The first words are Kaniko's, for scripts look for them: `error building image:`, `error checking push permissions:`,
//! `error pushing image:`, and within them `parsing dockerfile` and `error building stage`.

use std::error::Error;
use std::fmt::Write as _;

use zuwai_builder::{BuildError, Phase, Span};

/// How many lines of the Dockerfile are shown around those to blame.
const AROUND: usize = 2;

/// Something that ended the program.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What failed.
    headline: String,
    /// Why, from the nearest cause to the deepest.
    causes: Vec<String>,
    /// The lines of the Dockerfile to blame, with those around them.
    excerpt: Option<String>,
    hint: Option<String>,
    /// What the program ends with.
    pub(crate) code: u8,
}

impl Failure {
    /// A failure that a sentence tells.
    pub(crate) fn new(headline: impl Into<String>, hint: Option<String>) -> Self {
        Self { headline: headline.into(), causes: Vec::new(), excerpt: None, hint, code: 1 }
    }

    /// An error and its causes, behind a few words that say what was attempted.
    pub(crate) fn of(attempt: &str, error: &dyn Error, hint: Option<String>) -> Self {
        let headline = format!("{attempt}: {error}");
        let causes = causes(error, &headline);
        Self { causes, ..Self::new(headline, hint) }
    }

    /// A build that failed.
    pub(crate) fn build(error: &BuildError) -> Self {
        let attempt = match (error.phase(), error) {
            (Phase::CheckPush, _) => "error checking push permissions",
            (Phase::Push, _) => "error pushing image",
            (_, BuildError::Syntax(_) | BuildError::NoDockerfile { .. } | BuildError::ReadDockerfile { .. }) => {
                "error building image: parsing dockerfile"
            }
            (
                _,
                BuildError::Plan { .. }
                | BuildError::Step { .. }
                | BuildError::Pull { .. }
                | BuildError::Unpack { .. }
                | BuildError::Snapshot(_)
                | BuildError::Pack(_),
            ) => "error building image: error building stage",
            _ => "error building image",
        };
        let failure = Self::of(attempt, error, error.hint());
        let causes = match error {
            // Its own text is in the headline, behind its place.
            BuildError::Syntax(syntax) => causes(syntax, &failure.headline),
            _ => failure.causes,
        };
        Self { causes, excerpt: error.span().map(excerpt), code: error.exit_code(), ..failure }
    }

    /// The same, ended by another exit code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The whole as text, without a line end.
    pub(crate) fn text(&self) -> String {
        let mut text = self.headline.clone();
        for cause in &self.causes {
            write!(text, "\n  caused by: {}", cause.replace('\n', "\n    ")).expect("a string takes everything");
        }
        if let Some(excerpt) = &self.excerpt {
            text = format!("{text}\n{excerpt}");
        }
        if let Some(hint) = &self.hint {
            text = format!("{text}\n  hint: {hint}");
        }
        text
    }
}

/// The causes of an error, each once. One that the error's own text ends with was already said: errors may show their
/// cause, or leave it to their reader.
fn causes(error: &dyn Error, headline: &str) -> Vec<String> {
    let mut causes = Vec::new();
    let mut said = headline.to_owned();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.ends_with(&text) {
            causes.push(text.clone());
            said = text;
        }
        next = cause.source();
    }
    causes
}

/// The lines around a place in the Dockerfile, as `BuildKit` shows them.
fn excerpt(span: &Span) -> String {
    let rule = "--------------------";
    let mut text = format!("{span}\n{rule}");
    for line in span.excerpt(AROUND) {
        let mark = if line.inside { ">>>" } else { "   " };
        let row = format!("{:4} | {mark} {}", line.number, line.text);
        write!(text, "\n{}", row.trim_end()).expect("a string takes everything");
        if let Some(column) = span.column.filter(|_| line.number == span.first_line) {
            write!(text, "\n     |     {}^", " ".repeat(column - 1)).expect("a string takes everything");
        }
    }
    format!("{text}\n{rule}")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use zuwai_builder::SourceFile;

    use super::*;

    fn span(first_line: usize, column: Option<usize>) -> Span {
        let text = b"FROM busybox\n\nRUN false\nRUN true\nRUN true\nRUN true\n".to_vec();
        let file = Arc::new(SourceFile { name: "Dockerfile".to_owned(), text });
        Span { file, first_line, last_line: first_line, column }
    }

    #[test]
    fn the_lines_to_blame_are_shown_with_two_around_them() {
        assert_eq!(
            excerpt(&span(3, None)),
            "Dockerfile:3\n--------------------\n   1 |     FROM busybox\n   2 |\n   3 | >>> RUN false\n   4 |     RUN true\n   \
             5 |     RUN true\n--------------------"
        );
        assert!(excerpt(&span(3, Some(5))).contains("   3 | >>> RUN false\n     |         ^\n   4 |"));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("read {name}")]
    struct Read {
        name: &'static str,
        source: io::Error,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("step 1: {source}")]
    struct Step {
        source: Read,
    }

    #[test]
    fn the_first_words_say_in_which_part_it_failed() {
        let missing = BuildError::NoDockerfile { name: "x".to_owned(), first: "/a/x".into(), second: "/b/x".into() };
        let text = Failure::build(&missing).text();
        assert!(text.starts_with("error building image: parsing dockerfile: "), "{text}");
        let pack = BuildError::Pack(io::Error::other("the disk is gone"));
        let text = Failure::build(&pack).text();
        assert_eq!(text, "error building image: error building stage: pack a layer\n  caused by: the disk is gone");
        let text = Failure::build(&BuildError::Cancelled).text();
        assert_eq!(text, "error building image: the build was cancelled");
        assert_eq!(Failure::build(&BuildError::Cancelled).with_code(143).code, 143);
    }

    #[test]
    fn causes_are_told_once_each() {
        let error = Read { name: "a file", source: io::Error::other("the disk is gone") };
        let failure = Failure::of("error building image", &error, Some("buy a disk".to_owned()));
        assert_eq!(
            failure.text(),
            "error building image: read a file\n  caused by: the disk is gone\n  hint: buy a disk"
        );
        let error = Step { source: Read { name: "a file", source: io::Error::other("the disk is gone") } };
        assert_eq!(Failure::of("x", &error, None).text(), "x: step 1: read a file\n  caused by: the disk is gone");
    }
}
