//! Heredocs: `<<WORD` in an instruction, and the lines under it up to one that holds the word alone. RUN, COPY and ADD
//! can have them, and ONBUILD of these; never in the JSON form.

use super::error::SyntaxProblem;
use super::expand::{Expander, Variables};
use super::line::Line;
use super::words::Json;

/// One heredoc with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The word that ends it, without quotes.
    pub(crate) name: String,
    /// `<<-`: blanks of the tab kind before each line, and before the end, do not count.
    pub(crate) chomp: bool,
    /// Whether variables in it are replaced, where an instruction does that: no part of the word was quoted.
    pub(crate) expand: bool,
    /// The lines with their ends, as they stand in the file.
    pub(crate) content: String,
}

/// The instructions that can have a heredoc.
const WITH_HEREDOC: [&str; 3] = ["RUN", "COPY", "ADD"];

/// The heredocs that a line announces, their bodies still empty.
pub(super) fn announced(line: &Line) -> Result<Vec<Heredoc>, SyntaxProblem> {
    if !line.text.contains("<<") {
        return Ok(Vec::new());
    }
    if line.is("ONBUILD") {
        return announced_by(&line.inner());
    }
    announced_by(line)
}

fn announced_by(line: &Line) -> Result<Vec<Heredoc>, SyntaxProblem> {
    if !WITH_HEREDOC.iter().any(|keyword| line.is(keyword)) || matches!(line.json(), Json::Strings(_)) {
        return Ok(Vec::new());
    }
    let keep = Expander { keep_quotes: true, keep_escapes: true, keep_unset: true, ..Expander::new('\\') };
    // A line whose quotes are not in order announces nothing: the shell will have its say about it.
    let words = keep.expand(&line.text, &Nothing).map(|expanded| expanded.words).unwrap_or_default();
    words.iter().filter_map(|word| heredoc(word).transpose()).collect()
}

/// The heredoc that a text is and nothing else, its body empty; `None` when it is something else.
pub(crate) fn alone(text: &str) -> Option<Heredoc> {
    heredoc(text).ok().flatten()
}

/// Reads one word: digits, `<<`, perhaps `-`, and a name.
fn heredoc(word: &str) -> Result<Option<Heredoc>, SyntaxProblem> {
    let Some(behind) = word.trim_start_matches(|digit: char| digit.is_ascii_digit()).strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, name) = behind.strip_prefix('-').map_or((false, behind), |name| (true, name));
    let name = name.trim_start();
    if name.is_empty() || name.contains('<') {
        return Ok(None);
    }
    let plain = Expander { keep_unset: true, ..Expander::new('\\') };
    let words = plain.expand(name, &Nothing).map_err(|_| SyntaxProblem::BadHeredoc { word: word.to_owned() })?.words;
    let [unquoted] = words.as_slice() else { return Ok(None) };
    let expand = unquoted == name;
    Ok(Some(Heredoc { name: unquoted.clone(), chomp, expand, content: String::new() }))
}

impl Heredoc {
    /// The text that the instruction gets: without the tabs that `<<-` takes away.
    pub(crate) fn body(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// Whether a line, its end removed, ends the heredoc.
    pub(super) fn ends_at(&self, line: &[u8]) -> bool {
        let tabs = if self.chomp { line.iter().take_while(|byte| **byte == b'\t').count() } else { 0 };
        line[tabs..] == *self.name.as_bytes()
    }
}

struct Nothing;

impl Variables for Nothing {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(word: &str) -> Option<(String, bool)> {
        heredoc(word).unwrap().map(|heredoc| (heredoc.name, heredoc.chomp))
    }

    #[test]
    fn a_word_is_a_heredoc_when_it_has_the_form() {
        for (word, expected) in [
            ("<<EOF", Some(false)),
            ("<<-EOF", Some(true)),
            ("<<'EOF'", Some(false)),
            ("<<-\"EOF\"", Some(true)),
            ("3<<EOF", Some(false)),
            ("<<E\"O\"F", Some(false)),
            ("<<", None),
            ("<<-", None),
            ("<<<EOF", None),
            ("x<<EOF", None),
            ("1<<2<3", None),
            ("<EOF", None),
        ] {
            assert_eq!(read(word), expected.map(|chomp| ("EOF".to_owned(), chomp)), "{word}");
        }
        assert!(heredoc("<<'EOF").is_err());
    }

    #[test]
    fn a_quoted_word_keeps_its_body_from_expansion() {
        for (word, expand) in
            [("<<EOF", true), ("<<'EOF'", false), ("<<-\"EOF\"", false), ("<<E'O'F", false), (r"<<\EOF", false)]
        {
            assert_eq!(heredoc(word).unwrap().unwrap().expand, expand, "{word}");
        }
    }

    #[test]
    fn a_minus_takes_the_tabs_off_every_line() {
        let heredoc =
            |chomp| Heredoc { name: "E".into(), chomp, expand: true, content: "\t\ta\n\n\tb\tc\n  d\n".into() };
        assert_eq!(heredoc(true).body(), "a\n\nb\tc\n  d\n");
        assert_eq!(heredoc(false).body(), heredoc(false).content);
    }

    #[test]
    fn tabs_before_the_end_count_only_without_the_minus() {
        let heredoc = |chomp| Heredoc { name: "EOF".into(), chomp, expand: true, content: String::new() };
        assert!(heredoc(true).ends_at(b"\t\tEOF"));
        assert!(!heredoc(false).ends_at(b"\tEOF"));
        assert!(heredoc(false).ends_at(b"EOF"));
        assert!(!heredoc(true).ends_at(b" EOF"));
    }
}
