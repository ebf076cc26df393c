//! Where something stands in a Dockerfile: what an error points at and a log line names. It keeps the text it came
//! from, so that whoever renders an error can show the lines around it without reading the file again.

use std::fmt;
use std::sync::Arc;

/// The text of a Dockerfile and what it is called.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// The name as it was given, for people.
    pub name: String,
    /// The bytes as they were read.
    pub text: Vec<u8>,
}

/// A run of whole lines, and the column where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub file: Arc<SourceFile>,
    /// The first line, from 1.
    pub first_line: usize,
    /// The last line, from 1, never before the first. A heredoc's body is inside.
    pub last_line: usize,
    /// The column in [`Span::first_line`], from 1 and in characters; `None` means the whole lines.
    pub column: Option<usize>,
}

/// One line of an excerpt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcerptLine {
    /// Its number, from 1.
    pub number: usize,
    /// Its text without the line end; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether the span covers it.
    pub inside: bool,
}

impl Span {
    pub(crate) fn lines(file: &Arc<SourceFile>, first_line: usize, last_line: usize) -> Self {
        Span { file: Arc::clone(file), first_line, last_line: last_line.max(first_line), column: None }
    }

    /// The same place, narrowed to one column of one line.
    #[must_use]
    pub(crate) fn at(&self, line: usize, column: usize) -> Self {
        let last_line = self.last_line.max(line);
        Span { file: Arc::clone(&self.file), first_line: line, last_line, column: Some(column) }
    }

    /// The same place, narrowed to where a word begins in it, behind the keyword; without a word, or where it does not stand as
    /// it is, to where the instruction begins.
    #[must_use]
    pub(super) fn narrowed(&self, word: Option<&str>) -> Self {
        let lines = self.excerpt(0);
        let begin =
            |line: &ExcerptLine| line.text.chars().take_while(|character| character.is_whitespace()).count() + 1;
        for (position, line) in lines.iter().enumerate() {
            let Some(word) = word.filter(|word| !word.is_empty()) else { break };
            let text = line.text.as_str();
            let keyword =
                if position == 0 { text.len() - text.trim_start().trim_start_matches(|c| c != ' ').len() } else { 0 };
            let is_whole = |at: usize| !text[..at].ends_with(|before: char| before.is_alphanumeric());
            if let Some((at, _)) = text.match_indices(word).find(|(at, _)| *at >= keyword && is_whole(*at)) {
                return self.at(line.number, text[..at].chars().count() + 1);
            }
        }
        self.at(self.first_line, lines.first().map_or(1, begin))
    }

    /// The lines of the span with up to `around` lines before and after it.
    #[must_use]
    pub fn excerpt(&self, around: usize) -> Vec<ExcerptLine> {
        let first = self.first_line.saturating_sub(around).max(1);
        let last = self.last_line.saturating_add(around);
        let text = self.file.text.strip_suffix(b"\n").unwrap_or(&self.file.text);
        text.split(|byte| *byte == b'\n')
            .zip(1..)
            .skip(first - 1)
            .take_while(|(_, number)| *number <= last)
            .map(|(line, number)| ExcerptLine {
                number,
                text: String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned(),
                inside: (self.first_line..=self.last_line).contains(&number),
            })
            .collect()
    }
}

/// `Dockerfile:3` or `Dockerfile:3:7`, as compilers write it.
impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file.name, self.first_line)?;
        self.column.map_or(Ok(()), |column| write!(formatter, ":{column}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str, first: usize, last: usize) -> Span {
        Span::lines(&Arc::new(SourceFile { name: "Dockerfile".into(), text: text.into() }), first, last)
    }

    #[test]
    fn an_excerpt_stops_at_the_ends_of_the_file() {
        let lines = span("a\r\nb\nc\n", 2, 2).excerpt(5);
        let shown: Vec<_> = lines.iter().map(|line| (line.number, line.text.as_str(), line.inside)).collect();
        assert_eq!(shown, [(1, "a", false), (2, "b", true), (3, "c", false)]);
    }

    #[test]
    fn an_excerpt_shows_only_the_lines_asked_for() {
        let lines = span("a\nb\nc\nd\ne\nf\n", 3, 4).excerpt(1);
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(lines.iter().filter(|line| line.inside).count(), 2);
    }

    #[test]
    fn a_span_prints_as_compilers_print_places() {
        assert_eq!(span("x", 3, 3).to_string(), "Dockerfile:3");
        assert_eq!(span("x", 3, 5).at(4, 7).to_string(), "Dockerfile:4:7");
    }
}
