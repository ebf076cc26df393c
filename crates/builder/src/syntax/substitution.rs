//! What stands between `${` and `}`: a name, and perhaps a modifier with its word.

use super::super::glob::{Glob, PatternError, Reach};
use super::{ExpandError, Reader};

impl Reader<'_> {
    /// After `${`, up to and with its `}`.
    pub(super) fn braced(&mut self) -> Result<String, ExpandError> {
        match self.characters.peek() {
            None => return Err(ExpandError::NoBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::NoName),
            Some(_) => {}
        }
        let name = self.name();
        let variables = self.variables;
        let value = variables.get(&name);
        let modifier = self.characters.next().ok_or(ExpandError::NoBrace)?;
        match modifier {
            '}' => Ok(match value {
                Some(value) => value.to_owned(),
                None if self.expander.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            '/' => self.replaced(&name, value),
            ':' => {
                let modifier = self.characters.next().ok_or(ExpandError::NoBrace)?;
                if !matches!(modifier, '-' | '+' | '?') {
                    return Err(ExpandError::Modifier(format!(":{modifier}")));
                }
                self.defaulted(&name, value, modifier, true)
            }
            '-' | '+' | '?' => self.defaulted(&name, value, modifier, false),
            '#' | '%' => self.trimmed(&name, value, modifier),
            other => Err(ExpandError::Modifier(other.to_string())),
        }
    }

    /// `-` for a default, `+` for a replacement, `?` for an error; with a colon, empty counts as not set.
    fn defaulted(
        &mut self,
        name: &str,
        value: Option<&str>,
        modifier: char,
        colon: bool,
    ) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), false)?.text;
        if value.is_none() && self.expander.keep_unset {
            return Ok(format!("${{{name}{}{modifier}{word}}}", if colon { ":" } else { "" }));
        }
        let present = value.filter(|value| !(colon && value.is_empty()));
        match (modifier, present) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value.to_owned()),
            (_, None) => {
                let missing = if value.is_none() { "is not set" } else { "is empty" };
                let message = if word.is_empty() { missing.to_owned() } else { word };
                Err(ExpandError::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `#` and `##` trim the start, `%` and `%%` the end, the doubled ones as much as they can.
    fn trimmed(&mut self, name: &str, value: Option<&str>, modifier: char) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), true)?.text;
        if value.is_none() && self.expander.keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let (pattern, reach) = match word.strip_prefix(modifier) {
            Some(pattern) => (pattern, Reach::Longest),
            None => (word.as_str(), Reach::Shortest),
        };
        let value = value.unwrap_or_default();
        self.with_glob(pattern, |glob| {
            if modifier == '#' { glob.trim_start(value, reach) } else { glob.trim_end(value, reach) }
        })
    }

    /// `/pattern/replacement` for the first match, `//pattern/replacement` for all.
    fn replaced(&mut self, name: &str, value: Option<&str>) -> Result<String, ExpandError> {
        let every = self.characters.next_if_eq(&'/').is_some();
        let pattern = self.until(Some('/'), true)?.text;
        let replacement = self.until(Some('}'), true)?.text;
        let Some(value) = value else {
            let slash = if every { "//" } else { "/" };
            return Ok(if self.expander.keep_unset {
                format!("${{{name}{slash}{pattern}/{replacement}}}")
            } else {
                self.with_glob(&pattern, |glob| glob.replace("", &replacement, every))?
            });
        };
        self.with_glob(&pattern, |glob| glob.replace(value, &replacement, every))
    }

    fn with_glob(
        &self,
        pattern: &str,
        apply: impl FnOnce(&Glob) -> Result<String, PatternError>,
    ) -> Result<String, ExpandError> {
        Glob::parse(pattern, self.expander.escape)
            .and_then(|glob| apply(&glob))
            .map_err(|source| ExpandError::Pattern { pattern: pattern.to_owned(), source })
    }
}
