//! One instruction as text: its keyword, the flags behind it, the arguments, the heredocs under it, and for every byte
//! of it the place in the file it came from.

use std::fmt;

use super::heredoc::Heredoc;
use super::span::Span;
use super::words::{self, Json};

/// One instruction before it means anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The first word, as written.
    pub(crate) keyword: String,
    /// The words beginning with `--` behind the keyword, without quotes and escapes.
    pub(crate) flags: Vec<Flag>,
    /// What follows, without blanks around it.
    pub(crate) rest: String,
    /// The bodies under the line, in the order of their words.
    pub(crate) heredocs: Vec<Heredoc>,
    /// The whole instruction, continuation lines joined, without blanks around it and without heredoc bodies.
    pub(crate) text: String,
    /// Where it stands, heredoc bodies included.
    pub(crate) span: Span,
    /// The escape token of the file.
    pub(crate) escape: char,
    /// Where in [`Line::text`] the arguments begin.
    rest_offset: usize,
    pieces: Vec<Piece>,
}

/// One flag, as a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    /// `--name` or `--name=value`.
    pub(crate) word: String,
    /// Where in the line's text it begins.
    pub(crate) offset: usize,
}

/// A part of the joined text that stood in one line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where in the joined text it begins.
    pub(super) offset: usize,
    /// The line of the file, from 1.
    pub(super) line: usize,
    /// The column it begins at, from 1.
    pub(super) column: usize,
}

impl Line {
    pub(super) fn new(joined: &str, mut pieces: Vec<Piece>, span: Span, escape: char) -> Self {
        let text = joined.trim();
        let cut = joined.len() - joined.trim_start().len();
        for piece in &mut pieces {
            // A piece that begins within the blanks that are cut off begins, now, behind them.
            let lost = cut.saturating_sub(piece.offset);
            piece.column += joined.get(piece.offset..piece.offset + lost).map_or(0, |blanks| blanks.chars().count());
            piece.offset = piece.offset.saturating_sub(cut);
        }
        let (keyword, behind) = text.split_at(text.find(words::BLANKS).unwrap_or(text.len()));
        let (flags, behind) = flags(behind, keyword.len());
        let rest = behind.trim_start();
        Line {
            keyword: keyword.to_owned(),
            flags,
            rest: rest.to_owned(),
            heredocs: Vec::new(),
            rest_offset: text.len() - rest.len(),
            text: text.to_owned(),
            span,
            escape,
            pieces,
        }
    }

    /// Whether the first word is this instruction; case does not matter.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.keyword.eq_ignore_ascii_case(keyword)
    }

    /// The arguments as JSON.
    pub(crate) fn json(&self) -> Json {
        words::json(&self.rest)
    }

    /// The arguments as a line of their own: what ONBUILD keeps for later.
    pub(crate) fn inner(&self) -> Line {
        let pieces = self.pieces_from(self.rest_offset);
        let mut inner = Line::new(&self.rest, pieces, self.span.clone(), self.escape);
        inner.heredocs.clone_from(&self.heredocs);
        inner
    }

    /// The place of a byte of [`Line::text`].
    pub(crate) fn place(&self, offset: usize) -> Span {
        let piece = self.pieces.iter().rev().find(|piece| piece.offset <= offset);
        piece.map_or_else(
            || self.span.clone(),
            |piece| {
                let before = self.text.get(piece.offset..offset).unwrap_or_default();
                self.span.at(piece.line, piece.column + before.chars().count())
            },
        )
    }

    /// The place where the arguments begin; where the line ends, if there are none.
    pub(crate) fn place_of_rest(&self) -> Span {
        self.place(self.rest_offset)
    }

    fn pieces_from(&self, offset: usize) -> Vec<Piece> {
        let first = self.pieces.iter().rposition(|piece| piece.offset <= offset).unwrap_or(0);
        let mut pieces: Vec<Piece> = self.pieces.get(first..).unwrap_or_default().to_vec();
        for piece in &mut pieces {
            let before = self.text.get(piece.offset..offset.max(piece.offset)).unwrap_or_default();
            piece.column += before.chars().count();
            piece.offset = piece.offset.saturating_sub(offset);
        }
        pieces
    }
}

/// The instruction and the bodies under it, as a Dockerfile would hold them: read again, it is the same instruction.
impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)?;
        self.heredocs.iter().try_for_each(|heredoc| write!(formatter, "\n{}{}", heredoc.content, heredoc.name))
    }
}

/// Takes the flags off the front of the text behind the keyword, which begins at `offset` in the line. Quotes and the
/// backslash work in flags, whatever the escape token of the file is.
fn flags(text: &str, offset: usize) -> (Vec<Flag>, &str) {
    let mut flags = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        if !trimmed.starts_with("--") {
            return (flags, trimmed);
        }
        let (word, length) = flag_word(trimmed);
        let start = offset + text.len() - trimmed.len();
        rest = &trimmed[length..];
        // A lone `--` ends the flags.
        if word == "--" {
            return (flags, rest);
        }
        flags.push(Flag { word, offset: start });
    }
}

/// The first word, without its quotes and escapes, and how long it is in the text.
fn flag_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return (word, index),
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ if character == '\\' => word.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => word.push(character),
        }
    }
    (word, text.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::syntax::span::SourceFile;

    fn line(text: &str) -> Line {
        let file = Arc::new(SourceFile { name: "Dockerfile".into(), text: text.into() });
        let pieces = vec![Piece { offset: 0, line: 1, column: 1 }];
        Line::new(text, pieces, Span::lines(&file, 1, 1), '\\')
    }

    #[test]
    fn flags_stand_between_the_keyword_and_the_arguments() {
        let flag = |text: &str| {
            let line = line(text);
            (line.flags.into_iter().map(|flag| flag.word).collect::<Vec<_>>(), line.rest)
        };
        for (text, flags, rest) in [
            ("COPY a b", &[][..], "a b"),
            ("COPY --from=x a b", &["--from=x"], "a b"),
            ("COPY --chown='a b' --link  a b ", &["--chown=a b", "--link"], "a b"),
            ("COPY --chown=\"a:b\" a", &["--chown=a:b"], "a"),
            (r"COPY --x=a\ b c", &["--x=a b"], "c"),
            ("COPY -- --a b", &[], "--a b"),
            ("COPY a --from=x", &[], "a --from=x"),
            ("COPY --", &[], ""),
            ("COPY --x", &["--x"], ""),
            ("COPY", &[], ""),
            ("COPY\t- a", &[], "- a"),
        ] {
            assert_eq!(flag(text), (flags.iter().map(|flag| (*flag).to_owned()).collect(), rest.to_owned()), "{text}");
        }
    }

    #[test]
    fn every_byte_has_a_place() {
        let line = line("  COPY --from=x a");
        assert_eq!(line.place(0).to_string(), "Dockerfile:1:3");
        assert_eq!(line.place(line.flags[0].offset).to_string(), "Dockerfile:1:8");
        assert_eq!(line.place_of_rest().to_string(), "Dockerfile:1:17");
    }

    #[test]
    fn the_inside_of_an_onbuild_is_a_line_with_its_own_places() {
        let inner = line("ONBUILD  COPY --from=x a b").inner();
        assert_eq!((inner.keyword.as_str(), inner.rest.as_str()), ("COPY", "a b"));
        assert_eq!(inner.flags[0].word, "--from=x");
        assert_eq!(inner.place(inner.flags[0].offset).to_string(), "Dockerfile:1:15");
    }
}
