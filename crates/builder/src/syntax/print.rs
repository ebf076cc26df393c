//! Instructions written down again: one on a line, heredoc bodies under it, nothing else. Read again, they are the same
//! instructions.

use std::fmt;

use super::physical::LINE_LIMIT;
use super::{Line, Source, continuation};

/// A blank that ends a line without being one before an escape token: behind it, the token continues nothing.
const STOP: char = '\u{a0}';

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It also keeps what looks like a directive, or a byte order mark, from the file's beginning.
        writeln!(formatter, "# escape={}", self.directives.escape)?;
        for line in &self.lines {
            instruction(line, formatter)?;
            for heredoc in &line.heredocs {
                writeln!(formatter, "{}{}", heredoc.content, heredoc.name)?;
            }
        }
        Ok(())
    }
}

/// The text of an instruction, on as many lines as its length needs.
fn instruction(line: &Line, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let escape = line.escape;
    let mut rest = line.text.as_str();
    while rest.len() >= LINE_LIMIT - escape.len_utf8() - STOP.len_utf8() {
        let Some(at) = cut(rest, escape) else { break };
        writeln!(formatter, "{}{escape}", &rest[..at])?;
        rest = &rest[at..];
    }
    if rest.is_empty() {
        // An escape token with nothing behind it in the whole file.
        return writeln!(formatter, "{escape}");
    }
    formatter.write_str(rest)?;
    if continuation(rest, escape).is_some() {
        write!(formatter, "{STOP}")?;
    }
    writeln!(formatter)
}

/// The last place where a line may be broken: not behind an escape token, nor before what would be lost at the beginning of
/// a line or make a comment of it.
fn cut(text: &str, escape: char) -> Option<usize> {
    (1..LINE_LIMIT - escape.len_utf8()).rev().find(|&at| {
        text.is_char_boundary(at)
            && !text[..at].ends_with(escape)
            && !text[at..].starts_with(|next: char| next.is_whitespace() || next == '#' || next == escape)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Heredoc, parse};
    use super::*;

    /// What a line is, without its place.
    type Shape = (String, Vec<String>, String, Vec<Heredoc>);

    fn shape(text: &[u8]) -> Option<(Source, Vec<Shape>)> {
        let source = parse(text, "Dockerfile").ok()?;
        let shape = |line: &Line| {
            let flags = line.flags.iter().map(|flag| flag.word.clone()).collect();
            (line.text.clone(), flags, line.rest.clone(), line.heredocs.clone())
        };
        let lines = source.lines.iter().map(shape).collect();
        Some((source, lines))
    }

    fn comes_back(text: &[u8]) {
        let Some((source, lines)) = shape(text) else { return };
        let printed = source.to_string();
        let (again, same) = shape(printed.as_bytes()).unwrap_or_else(|| panic!("{printed:?} is refused"));
        assert_eq!(lines, same, "{printed:?}");
        assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn comments_blank_lines_and_continuations_are_gone() {
        let text =
            b"# escape=`\n# a comment\nfrom  a `\n# inside\n\n  AS b\n\nRUN cat <<-'E' `\n >f\n\tx `\n\t#y\n\tE\n";
        let printed = parse(text, "Dockerfile").unwrap().to_string();
        assert_eq!(printed, "# escape=`\nfrom  a   AS b\nRUN cat <<-'E'  >f\n\tx `\n\t#y\nE\n");
        comes_back(text);
    }

    #[test]
    fn what_continues_into_nothing_stays_what_it_is() {
        for text in [
            "RUN a \\ \\\n",
            "RUN a\\\\\nRUN b",
            "RUN a\\\u{a0}\nRUN b",
            "FROM a\n\\\n",
            "\\",
            "\u{feff}\u{feff}RUN a",
            "FROM a\nRUN b\\",
        ] {
            comes_back(text.as_bytes());
        }
    }

    #[test]
    fn an_instruction_that_is_longer_than_a_line_may_be_is_parted() {
        let words = |word: &str, count: usize| format!("FROM a\nRUN {}", format!("{word}\\\n").repeat(count));
        for (word, count) in [("a b # c\\\\ ", 9_000), ("\u{e9}\u{20ac}", 14_000), ("x`#", 60_000)] {
            comes_back(words(word, count).as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn what_is_printed_is_read_as_the_same_instructions(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
            comes_back(format!("FROM a\n{}", pieces.concat()).as_bytes());
        }
    }

    const PIECES: &[&str] = &[
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ONBUILD ",
        "ARG a=b ",
        "LABEL ",
        "\n",
        "\n",
        "\n",
        "\\\n",
        "\\ \n",
        "`\n",
        "\\",
        "`",
        "\\\\",
        " ",
        "\t",
        "\u{a0}",
        "\r",
        "\r\n",
        "#",
        "# x\n",
        "# escape=`\n",
        "<<E",
        "<<-'E'",
        "<<\"E\"",
        "3<<-E",
        "<<E\\",
        "E\n",
        "\tE\n",
        "E",
        "--from=x ",
        "--mount=a",
        "--",
        "'",
        "\"",
        "$",
        "${a:-b}",
        "[\"a\", \"b\"]",
        "[",
        "]",
        "a",
        "b c",
        "\u{feff}",
    ];
}
