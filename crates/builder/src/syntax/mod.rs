//! Dockerfile text before it means anything: lines, words, flags, heredocs, variable expansion, and errors with their
//! place. Everything here is pure. What an instruction means is for [`crate::instruction`].

mod directive;
mod error;
mod expand;
mod glob;
mod heredoc;
mod line;
mod physical;
mod print;
mod span;
mod split;
pub(crate) mod suggest;
pub(crate) mod words;

use std::sync::Arc;

use directive::DirectiveReader;
pub(crate) use directive::Directives;
pub use error::{SyntaxError, SyntaxProblem};
pub use expand::ExpandError;
pub(crate) use expand::{Expander, Variables};
pub use glob::PatternError;
pub(crate) use heredoc::{Heredoc, alone as heredoc_alone};
pub(crate) use line::Line;
use line::Piece;
use physical::{LINE_LIMIT, Physical, PhysicalLines};
pub use span::{ExcerptLine, SourceFile, Span};

/// The instructions of a file, and what else its text says.
#[derive(Debug)]
pub(crate) struct Source {
    /// In the order of the file; never empty.
    pub(crate) lines: Vec<Line>,
    /// What the top of the file says.
    pub(crate) directives: Directives,
    /// Instructions that go on behind a blank line: accepted, as Docker does, and to be told.
    pub(crate) blank_continuations: Vec<Span>,
}

/// Reads the text of a Dockerfile. `file_name` is what errors call it.
pub(crate) fn parse(text: &[u8], file_name: &str) -> Result<Source, SyntaxError> {
    let file = Arc::new(SourceFile { name: file_name.to_owned(), text: text.to_owned() });
    let mut parser = Parser {
        physical: PhysicalLines::new(text),
        directives: DirectiveReader::default(),
        blank_continuations: Vec::new(),
        file: Arc::clone(&file),
    };
    let mut lines = Vec::new();
    while let Some(line) = parser.instruction()? {
        lines.push(line);
    }
    if lines.is_empty() {
        let span = Span::lines(&file, 1, 1);
        return Err(SyntaxError::new(span, "", SyntaxProblem::NoInstructions));
    }
    let Parser { directives, blank_continuations, .. } = parser;
    Ok(Source { lines, directives: directives.directives, blank_continuations })
}

struct Parser<'a> {
    file: Arc<SourceFile>,
    physical: PhysicalLines<'a>,
    directives: DirectiveReader,
    blank_continuations: Vec<Span>,
}

/// The instruction being put together from its lines.
#[derive(Default)]
struct Joined {
    text: String,
    pieces: Vec<Piece>,
}

impl Joined {
    fn push(&mut self, text: &str, line: usize, column: usize) {
        self.pieces.push(Piece { offset: self.text.len(), line, column });
        self.text.push_str(text);
    }
}

impl<'a> Parser<'a> {
    /// The next instruction, or `None` at the end of the file.
    fn instruction(&mut self) -> Result<Option<Line>, SyntaxError> {
        while let Some(physical) = self.next_physical()? {
            let Some(line) = self.text_of(physical)? else { continue };
            let text = line.trim_start();
            self.directives.look(text).map_err(|problem| self.error(physical.number, line, problem))?;
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let column = 1 + line.chars().count() - text.chars().count();
            return self.join(text, physical.number, column).map(Some);
        }
        Ok(None)
    }

    /// Joins the lines of the instruction that begins with `text`, and takes the heredocs under it.
    fn join(&mut self, text: &str, first: usize, column: usize) -> Result<Line, SyntaxError> {
        let escape = self.directives.directives.escape;
        let mut joined = Joined::default();
        let mut continued = continuation(text, escape);
        joined.push(continued.unwrap_or(text), first, column);
        let mut last = first;
        let mut blank = None;
        while continued.is_some() {
            let Some(physical) = self.next_physical()? else { break };
            // Comment lines inside an instruction do not belong to it.
            let Some(text) = self.text_of(physical)? else { continue };
            let trimmed = text.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                blank = Some(physical.number);
                continue;
            }
            if let Some(number) = blank.take() {
                self.blank_continuations.push(Span::lines(&self.file, number, number));
            }
            last = physical.number;
            continued = continuation(text, escape);
            joined.push(continued.unwrap_or(text), last, 1);
        }
        let span = Span::lines(&self.file, first, last);
        let mut line = Line::new(&joined.text, joined.pieces, span, escape);
        let announced = heredoc::announced(&line)
            .map_err(|problem| SyntaxError::new(line.span.clone(), line.text.clone(), problem))?;
        for heredoc in announced {
            let heredoc = self.body(heredoc, &line)?;
            line.span.last_line = self.physical.number();
            line.heredocs.push(heredoc);
        }
        Ok(line)
    }

    /// Reads the lines of a heredoc up to the one that ends it.
    fn body(&mut self, mut heredoc: Heredoc, line: &Line) -> Result<Heredoc, SyntaxError> {
        while let Some(physical) = self.next_physical()? {
            if heredoc.ends_at(physical.content()) {
                return Ok(heredoc);
            }
            let text = std::str::from_utf8(physical.whole)
                .map_err(|_| self.error(physical.number, "", SyntaxProblem::NotText))?;
            heredoc.content.push_str(text);
        }
        let problem = SyntaxProblem::OpenHeredoc { name: heredoc.name };
        Err(SyntaxError::new(line.span.clone(), line.text.clone(), problem))
    }

    fn next_physical(&mut self) -> Result<Option<Physical<'a>>, SyntaxError> {
        let Some(physical) = self.physical.next() else { return Ok(None) };
        let length = physical.length();
        if length > LINE_LIMIT {
            let problem = SyntaxProblem::LineTooLong { length, limit: LINE_LIMIT };
            return Err(self.error(physical.number, "", problem));
        }
        Ok(Some(physical))
    }

    /// The line without its end; `None` for a comment that is no text, which nobody has to read.
    fn text_of(&self, physical: Physical<'a>) -> Result<Option<&'a str>, SyntaxError> {
        let content = physical.content();
        match std::str::from_utf8(content) {
            Ok(text) => Ok(Some(text)),
            Err(_) if content.trim_ascii_start().starts_with(b"#") => Ok(None),
            Err(_) => Err(self.error(physical.number, "", SyntaxProblem::NotText)),
        }
    }

    fn error(&self, line: usize, text: &str, problem: SyntaxProblem) -> SyntaxError {
        SyntaxError::new(Span::lines(&self.file, line, line), text, problem)
    }
}

/// The line without its continuation mark, if it has one: the escape token before nothing but blanks, and not doubled.
fn continuation(line: &str, escape: char) -> Option<&str> {
    let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
