//! The patterns of `${name#pattern}`, `%` and `/`: `*` is any text, `?` any one character, and there are no brackets.
//! Matching walks each text once per literal piece of the pattern; nothing backtracks.

use thiserror::Error;

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Only `*`, `?`, `/`, `}` and the escape token can be escaped.
    #[error("`{escape}{character}` escapes nothing")]
    Escape {
        /// The escape token.
        escape: char,
        /// The character after it.
        character: char,
    },
    /// An escape token ends the pattern.
    #[error("the pattern ends with the escape token")]
    Unfinished,
    /// Pattern and text are so long that matching them could take minutes.
    #[error("the pattern and the text it is matched with are too long")]
    TooLong,
}

/// No more comparisons of characters than this for one pattern.
const WORK_LIMIT: usize = 1 << 28;

/// A pattern: pieces of text with a `*` between each two. `None` in a piece is `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    pieces: Vec<Vec<Option<char>>>,
}

/// How much a `*` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// As little as will do.
    Shortest,
    /// As much as can be.
    Longest,
}

impl Glob {
    pub(super) fn parse(pattern: &str, escape: char) -> Result<Self, PatternError> {
        let mut pieces = vec![Vec::new()];
        let mut piece = 0;
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            match character {
                '*' => {
                    pieces.push(Vec::new());
                    piece += 1;
                }
                '?' => pieces[piece].push(None),
                _ if character == escape => match characters.next() {
                    Some(next) if matches!(next, '*' | '?' | '}' | '/') || next == escape => {
                        pieces[piece].push(Some(next));
                    }
                    Some(character) => return Err(PatternError::Escape { escape, character }),
                    None => return Err(PatternError::Unfinished),
                },
                _ => pieces[piece].push(Some(character)),
            }
        }
        Ok(Glob { pieces })
    }

    /// `text` without the part at its start that matches.
    pub(super) fn trim_start(&self, text: &str, reach: Reach) -> Result<String, PatternError> {
        let text: Vec<char> = text.chars().collect();
        let end = self.match_at_start(&text, reach)?.unwrap_or(0);
        Ok(text[end..].iter().collect())
    }

    /// `text` without the part at its end that matches.
    pub(super) fn trim_end(&self, text: &str, reach: Reach) -> Result<String, PatternError> {
        let reversed: Vec<char> = text.chars().rev().collect();
        let mirror =
            Glob { pieces: self.pieces.iter().rev().map(|piece| piece.iter().rev().copied().collect()).collect() };
        let end = mirror.match_at_start(&reversed, reach)?.unwrap_or(0);
        Ok(reversed[end..].iter().rev().collect())
    }

    /// `text` with the first match, or every match, replaced. An empty match counts where no match ends.
    pub(super) fn replace(&self, text: &str, replacement: &str, every: bool) -> Result<String, PatternError> {
        let text: Vec<char> = text.chars().collect();
        self.check_work(text.len())?;
        let mut result = String::new();
        let mut position = 0;
        let mut last_end = None;
        while position <= text.len() {
            let Some((start, end)) = self.find(&text, position) else { break };
            result.extend(&text[position..start]);
            if end > start || last_end != Some(end) {
                result.push_str(replacement);
                last_end = Some(end);
                if !every {
                    result.extend(&text[end..]);
                    return Ok(result);
                }
            }
            if end > start {
                position = end;
            } else {
                result.extend(text.get(start));
                position = start + 1;
            }
        }
        result.extend(text.get(position..).unwrap_or_default());
        Ok(result)
    }

    fn check_work(&self, length: usize) -> Result<(), PatternError> {
        let pattern: usize = self.pieces.iter().map(Vec::len).max().unwrap_or(0);
        if pattern.saturating_mul(length) > WORK_LIMIT { Err(PatternError::TooLong) } else { Ok(()) }
    }

    /// Where the match that begins at the start of `text` ends.
    fn match_at_start(&self, text: &[char], reach: Reach) -> Result<Option<usize>, PatternError> {
        self.check_work(text.len())?;
        let first = &self.pieces[0];
        Ok(if fits(first, text) { self.finish(text, first.len(), reach) } else { None })
    }

    /// The leftmost match at or after `from`, reaching as far as it can. When what follows the leftmost place of the
    /// first piece does not fit, it fits nowhere later either.
    fn find(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        let first = &self.pieces[0];
        let start = leftmost(first, text, from)?;
        let end = self.finish(text, start + first.len(), Reach::Longest)?;
        Some((start, end))
    }

    /// The end of a match whose first piece ended at `from`: pieces in between are taken at their leftmost place, which
    /// leaves the most room to the last, and the last where `reach` wants it.
    fn finish(&self, text: &[char], from: usize, reach: Reach) -> Option<usize> {
        let Some((last, between)) = self.pieces[1..].split_last() else { return Some(from) };
        let mut position = from;
        for piece in between {
            position = leftmost(piece, text, position)? + piece.len();
        }
        let start = match reach {
            Reach::Shortest => leftmost(last, text, position),
            Reach::Longest => rightmost(last, text, position),
        };
        start.map(|start| start + last.len())
    }
}

fn fits(piece: &[Option<char>], text: &[char]) -> bool {
    piece.len() <= text.len()
        && piece.iter().zip(text).all(|(wanted, found)| wanted.is_none_or(|wanted| wanted == *found))
}

fn leftmost(piece: &[Option<char>], text: &[char], from: usize) -> Option<usize> {
    (from..=text.len().checked_sub(piece.len())?).find(|start| fits(piece, &text[*start..]))
}

fn rightmost(piece: &[Option<char>], text: &[char], from: usize) -> Option<usize> {
    (from..=text.len().checked_sub(piece.len())?).rev().find(|start| fits(piece, &text[*start..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(pattern: &str) -> Glob {
        Glob::parse(pattern, '\\').unwrap()
    }

    #[test]
    fn the_start_is_trimmed_by_the_shortest_or_longest_match() {
        for (pattern, text, shortest, longest) in [
            ("a", "abc", "bc", "bc"),
            ("b", "abc", "abc", "abc"),
            ("*b", "abcabc", "cabc", "c"),
            ("a*", "abc", "bc", ""),
            ("*", "abc", "abc", ""),
            ("?", "abc", "bc", "bc"),
            ("*/", "a/b/c", "b/c", "c"),
            ("a*b*c", "aXbYcbc", "bc", ""),
            (r"\*", "*x", "x", "x"),
            (r"\/", "/x", "x", "x"),
            ("", "abc", "abc", "abc"),
            ("é", "éa", "a", "a"),
        ] {
            assert_eq!(glob(pattern).trim_start(text, Reach::Shortest).unwrap(), shortest, "{pattern} {text}");
            assert_eq!(glob(pattern).trim_start(text, Reach::Longest).unwrap(), longest, "{pattern} {text}");
        }
    }

    #[test]
    fn the_end_is_trimmed_by_the_shortest_or_longest_match() {
        for (pattern, text, shortest, longest) in [
            (".*", "a.b.c", "a.b", "a"),
            ("c", "abc", "ab", "ab"),
            ("*", "abc", "abc", ""),
            ("?c", "abc", "a", "a"),
            ("b*c", "abcbc", "abc", "a"),
            ("x", "abc", "abc", "abc"),
        ] {
            assert_eq!(glob(pattern).trim_end(text, Reach::Shortest).unwrap(), shortest, "{pattern} {text}");
            assert_eq!(glob(pattern).trim_end(text, Reach::Longest).unwrap(), longest, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_or_every_match_is_replaced() {
        for (pattern, text, first, every) in [
            ("b", "abcb", "aXcb", "aXcX"),
            ("b*c", "abcbcd", "aXd", "aXd"),
            ("?", "abc", "Xbc", "XXX"),
            ("*", "abc", "X", "X"),
            ("z", "abc", "abc", "abc"),
            ("", "abc", "Xabc", "XaXbXcX"),
            ("", "", "X", "X"),
        ] {
            assert_eq!(glob(pattern).replace(text, "X", false).unwrap(), first, "{pattern} {text}");
            assert_eq!(glob(pattern).replace(text, "X", true).unwrap(), every, "{pattern} {text}");
        }
    }

    #[test]
    fn what_needs_no_escape_cannot_be_escaped() {
        assert_eq!(Glob::parse(r"\a", '\\'), Err(PatternError::Escape { escape: '\\', character: 'a' }));
        assert_eq!(Glob::parse(r"\", '\\'), Err(PatternError::Unfinished));
        assert!(Glob::parse(r"\a", '`').is_ok());
    }

    /// All prefixes of `text` that match, tried one by one.
    fn prefixes(pattern: &[char], text: &[char]) -> Vec<usize> {
        fn matches(pattern: &[char], text: &[char]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some(('*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
                Some(('?', rest)) => !text.is_empty() && matches(rest, &text[1..]),
                Some((wanted, rest)) => text.first() == Some(wanted) && matches(rest, &text[1..]),
            }
        }
        (0..=text.len()).filter(|end| matches(pattern, &text[..*end])).collect()
    }

    proptest! {
        #[test]
        fn trimming_agrees_with_trying_every_prefix(pattern in "[ab*?]{0,6}", text in "[ab]{0,10}") {
            let ends = prefixes(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
            let shortest = ends.first().map_or(0, |end| *end);
            let longest = ends.last().map_or(0, |end| *end);
            prop_assert_eq!(glob(&pattern).trim_start(&text, Reach::Shortest).unwrap(), &text[shortest..]);
            prop_assert_eq!(glob(&pattern).trim_start(&text, Reach::Longest).unwrap(), &text[longest..]);
        }
    }
}
