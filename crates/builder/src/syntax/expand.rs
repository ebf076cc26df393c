//! Variable expansion of one word, after the words were parted: `$name`, `${name}` with its modifiers, quotes and
//! escapes. Modelled on what the Dockerfile frontend does, which is close to a shell and not the same: an unknown
//! variable is empty, so are `$1` and `$$`, and a `$` before anything else is a dollar sign.

use std::iter::Peekable;
use std::str::Chars;

use thiserror::Error;

use super::glob::PatternError;
use super::split::Splitter;

/// Where values come from.
pub(crate) trait Variables {
    /// The value of a variable; `None` when it is not set, which is not the same as empty.
    fn get(&self, name: &str) -> Option<&str>;
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// A quote that is not closed.
    #[error("the quote {0} is not closed")]
    OpenQuote(char),
    /// `${` without `}`.
    #[error("`${{` has no `}}`")]
    NoBrace,
    /// `${name/pattern` without the second `/`.
    #[error("`${{name/pattern/replacement}}` has no second `/`")]
    NoSlash,
    /// `${` followed by something that is no name.
    #[error("`${{` is not followed by a name")]
    NoName,
    /// A modifier that there is not.
    #[error("`{0}` is not a modifier")]
    Modifier(String),
    /// `${name:?message}` and the variable has no value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text after the `?`, or one of ours.
        message: String,
    },
    /// A pattern that is none.
    #[error("the pattern `{pattern}` is not valid")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        #[source]
        source: PatternError,
    },
    /// `${a:-${b:-${c…`, without end.
    #[error("substitutions are nested more than {DEPTH_LIMIT} deep")]
    TooDeep,
    /// The result would be too long.
    #[error("the word grows longer than {LENGTH_LIMIT} bytes")]
    TooLong,
}

/// No Dockerfile written by hand nests deeper; the limit keeps hostile ones from using up the stack.
const DEPTH_LIMIT: usize = 64;

/// An environment variable longer than 128 KiB cannot be given to a program on Linux. The limit is far above it, and
/// keeps `ENV A=$A$A` repeated from using up the memory.
const LENGTH_LIMIT: usize = 1 << 20;

/// How words are expanded.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub(crate) struct Expander {
    /// The character that takes the meaning from the next one.
    pub(crate) escape: char,
    /// Leave quotes in the result.
    pub(crate) keep_quotes: bool,
    /// Leave escape tokens in the result.
    pub(crate) keep_escapes: bool,
    /// Leave substitutions of variables that are not set in the result.
    pub(crate) keep_unset: bool,
    /// Quotes are characters like any other: the body of a heredoc.
    pub(crate) plain_quotes: bool,
}

/// What a word became.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// The one word.
    pub(crate) text: String,
    /// The words it falls into when blanks that came from variables, and from outside quotes, part words.
    pub(crate) words: Vec<String>,
}

impl Expander {
    /// The usual way, with the escape token of the file.
    pub(crate) fn new(escape: char) -> Self {
        Expander { escape, keep_quotes: false, keep_escapes: false, keep_unset: false, plain_quotes: false }
    }

    /// The word with its variables replaced and its quotes and escapes taken away.
    pub(crate) fn word(self, word: &str, variables: &dyn Variables) -> Result<String, ExpandError> {
        self.expand(word, variables).map(|expanded| expanded.text)
    }

    /// The same, and the words it falls into.
    pub(crate) fn expand(self, word: &str, variables: &dyn Variables) -> Result<Expanded, ExpandError> {
        let mut reader = Reader { expander: self, variables, characters: word.chars().peekable(), depth: 0 };
        reader.until(None, self.keep_escapes)
    }
}

struct Reader<'a> {
    expander: Expander,
    variables: &'a dyn Variables,
    characters: Peekable<Chars<'a>>,
    depth: usize,
}

impl Reader<'_> {
    /// Reads up to `stop` (which is read too), or to the end.
    fn until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<Expanded, ExpandError> {
        let mut text = String::new();
        let mut words = Splitter::default();
        loop {
            let Some(character) = self.characters.peek().copied() else {
                return match stop {
                    None => Ok(Expanded { text, words: words.finish() }),
                    Some('/') => Err(ExpandError::NoSlash),
                    Some(_) => Err(ExpandError::NoBrace),
                };
            };
            if stop == Some(character) {
                self.characters.next();
                return Ok(Expanded { text, words: words.finish() });
            }
            match character {
                '\'' | '"' if !self.expander.plain_quotes => {
                    let quoted = if character == '"' { self.double(keep_escapes) } else { self.single() }?;
                    text.push_str(&quoted);
                    words.joined(&quoted);
                }
                '$' => {
                    let value = self.dollar()?;
                    text.push_str(&value);
                    value.chars().for_each(|character| words.parted(character));
                }
                _ => {
                    self.characters.next();
                    if character != self.expander.escape {
                        words.parted(character);
                        text.push(character);
                        continue;
                    }
                    if keep_escapes {
                        words.joined(character.encode_utf8(&mut [0; 4]));
                        text.push(character);
                    }
                    // An escape token that ends the word escapes nothing.
                    if let Some(escaped) = self.characters.next() {
                        words.joined(escaped.encode_utf8(&mut [0; 4]));
                        text.push(escaped);
                    }
                }
            }
            if text.len() > LENGTH_LIMIT {
                return Err(ExpandError::TooLong);
            }
        }
    }

    /// Everything between single quotes stays as it is.
    fn single(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.keep_quote(&mut text, '\'');
        self.characters.next();
        loop {
            match self.characters.next() {
                None => return Err(ExpandError::OpenQuote('\'')),
                Some('\'') => break,
                Some(character) => text.push(character),
            }
        }
        self.keep_quote(&mut text, '\'');
        Ok(text)
    }

    /// Between double quotes `$` has its meaning, and `"`, `$` and the escape token can be escaped.
    fn double(&mut self, keep_escapes: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.keep_quote(&mut text, '"');
        self.characters.next();
        loop {
            match self.characters.peek().copied() {
                None => return Err(ExpandError::OpenQuote('"')),
                Some('"') => break,
                Some('$') => text.push_str(&self.dollar()?),
                Some(character) => {
                    self.characters.next();
                    if character != self.expander.escape {
                        text.push(character);
                        continue;
                    }
                    if keep_escapes {
                        text.push(character);
                    }
                    match self.characters.peek().copied() {
                        None => {}
                        Some(next) if matches!(next, '"' | '$') || next == character => {
                            self.characters.next();
                            text.push(next);
                        }
                        Some(_) => text.push(character),
                    }
                }
            }
            if text.len() > LENGTH_LIMIT {
                return Err(ExpandError::TooLong);
            }
        }
        self.characters.next();
        self.keep_quote(&mut text, '"');
        Ok(text)
    }

    fn keep_quote(&self, text: &mut String, quote: char) {
        if self.expander.keep_quotes {
            text.push(quote);
        }
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.characters.next();
        if self.characters.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.variables.get(&name) {
                Some(value) => value.to_owned(),
                None if self.expander.keep_unset => format!("${name}"),
                None => String::new(),
            });
        }
        self.characters.next();
        if self.depth == DEPTH_LIMIT {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        let value = self.braced();
        self.depth -= 1;
        value
    }

    /// A name: letters, digits and `_`; or digits alone; or one of a shell's special parameters.
    fn name(&mut self) -> String {
        let Some(first) = self.characters.peek().copied() else { return String::new() };
        let mut name = String::new();
        if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
            self.characters.next();
            name.push(first);
        } else if first.is_numeric() {
            while let Some(digit) = self.characters.next_if(|character| character.is_numeric()) {
                name.push(digit);
            }
        } else {
            while let Some(part) = self.characters.next_if(|character| character.is_alphanumeric() || *character == '_')
            {
                name.push(part);
            }
        }
        name
    }
}

#[path = "substitution.rs"]
mod substitution;

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
