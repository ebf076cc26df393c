//! Parser directives: `# name=value` comments at the very top of the file. `escape` changes how the file is read;
//! `syntax` and `check` are noted and left to the caller (there is no frontend to load here).

use super::error::SyntaxProblem;

/// What the top of the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directives {
    /// The character that joins lines and takes the meaning from the character after it.
    pub(crate) escape: char,
    /// The frontend that the file asks for.
    pub(crate) syntax: Option<String>,
    /// Options for checks of the file.
    pub(crate) check: Option<String>,
}

impl Default for Directives {
    fn default() -> Self {
        Directives { escape: '\\', syntax: None, check: None }
    }
}

/// Reads directives line by line until the first line that is none.
#[derive(Debug, Default)]
pub(super) struct DirectiveReader {
    done: bool,
    seen: Vec<&'static str>,
    pub(super) directives: Directives,
}

const NAMES: [&str; 3] = ["escape", "syntax", "check"];

impl DirectiveReader {
    /// Looks at a line (without its end, blanks before it removed). Any line that is no directive ends them.
    pub(super) fn look(&mut self, line: &str) -> Result<(), SyntaxProblem> {
        if self.done {
            return Ok(());
        }
        let found = split(line).and_then(|(name, value)| {
            NAMES.iter().find(|known| known.eq_ignore_ascii_case(name)).map(|known| (*known, value))
        });
        let Some((name, value)) = found else {
            self.done = true;
            return Ok(());
        };
        if self.seen.contains(&name) {
            return Err(SyntaxProblem::RepeatedDirective { name: name.to_owned() });
        }
        self.seen.push(name);
        match name {
            "escape" => match value {
                "\\" => self.directives.escape = '\\',
                "`" => self.directives.escape = '`',
                other => return Err(SyntaxProblem::EscapeToken { token: other.to_owned() }),
            },
            "syntax" => self.directives.syntax = Some(value.to_owned()),
            _ => self.directives.check = Some(value.to_owned()),
        }
        Ok(())
    }
}

/// `# name = value` into name and value, neither of them empty.
fn split(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let mut characters = name.chars();
    let well_formed = characters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|character| character.is_ascii_alphanumeric());
    (well_formed && !value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Directives, SyntaxProblem> {
        let mut reader = DirectiveReader::default();
        for line in lines {
            reader.look(line)?;
        }
        Ok(reader.directives)
    }

    #[test]
    fn directives_are_read_in_any_order_and_case() {
        let read = read(&["# Escape = `", "#syntax=docker/dockerfile:1", "# check=skip=all"]).unwrap();
        assert_eq!(read.escape, '`');
        assert_eq!(read.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(read.check.as_deref(), Some("skip=all"));
    }

    #[test]
    fn any_other_line_ends_the_directives() {
        for first in ["# a comment", "", "# other=1", "FROM x", "# escape="] {
            assert_eq!(read(&[first, "# escape=`"]).unwrap().escape, '\\', "{first:?}");
        }
    }

    #[test]
    fn a_directive_given_twice_and_an_unknown_token_are_errors() {
        assert!(matches!(read(&["# escape=`", "# ESCAPE=`"]), Err(SyntaxProblem::RepeatedDirective { .. })));
        assert!(matches!(read(&["# escape=x"]), Err(SyntaxProblem::EscapeToken { token }) if token == "x"));
    }
}
