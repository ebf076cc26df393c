//! Whole files, and laws that hold for any.

use proptest::prelude::*;

use super::*;

fn texts(source: &str) -> Vec<String> {
    parse(source.as_bytes(), "Dockerfile").unwrap().lines.into_iter().map(|line| line.text).collect()
}

fn error(source: &[u8]) -> SyntaxError {
    parse(source, "Dockerfile").unwrap_err()
}

#[test]
fn lines_are_joined_as_docker_joins_them() {
    for (source, expected) in [
        ("FROM a\nRUN b", &["FROM a", "RUN b"][..]),
        ("FROM a\r\nRUN b\r\n", &["FROM a", "RUN b"]),
        ("\u{feff}FROM a\n", &["FROM a"]),
        ("RUN a \\\n  b", &["RUN a   b"]),
        ("RUN a \\  \t\nb", &["RUN a b"]),
        ("RUN a \\\r\n b\r\n", &["RUN a  b"]),
        ("RUN a\\\nb", &["RUN ab"]),
        ("RUN a \\\n# comment\n  # another\nb", &["RUN a b"]),
        ("RUN a \\\n\n\n b", &["RUN a  b"]),
        ("RUN a \\", &["RUN a"]),
        ("RUN a \\\n", &["RUN a"]),
        ("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]),
        ("  # comment\n  RUN a # b", &["RUN a # b"]),
        ("\\\nRUN a", &["RUN a"]),
        ("# escape=`\nRUN a `\n b \\\n", &["RUN a  b \\"]),
        ("RUN a `\n", &["RUN a `"]),
    ] {
        assert_eq!(texts(source), expected, "{source:?}");
    }
}

#[test]
fn an_instruction_knows_the_lines_it_came_from() {
    let source = parse(b"\nRUN a \\\n\n# x\n  b --c\n\nRUN d", "Dockerfile").unwrap();
    assert_eq!((source.lines[0].span.first_line, source.lines[0].span.last_line), (2, 5));
    assert_eq!(source.lines[1].span.to_string(), "Dockerfile:7");
    assert_eq!(source.blank_continuations.iter().map(|span| span.first_line).collect::<Vec<_>>(), [3]);
    let line = &source.lines[0];
    assert_eq!(line.place(line.text.find("--c").unwrap()).to_string(), "Dockerfile:5:5");
    assert_eq!(line.place(0).to_string(), "Dockerfile:2:1");
}

#[test]
fn a_blank_line_after_a_dangling_continuation_is_none() {
    assert!(parse(b"RUN a \\\n\n", "Dockerfile").unwrap().blank_continuations.is_empty());
}

#[test]
fn heredocs_are_read_with_their_lines() {
    let source = parse(b"RUN cat <<A <<-'B'\n$x\n A\nA\n\ty\n\tB\nRUN z", "Dockerfile").unwrap();
    let [a, b] = source.lines[0].heredocs.as_slice() else { panic!() };
    assert_eq!((a.name.as_str(), a.chomp, a.content.as_str()), ("A", false, "$x\n A\n"));
    assert_eq!((b.name.as_str(), b.chomp, b.content.as_str()), ("B", true, "\ty\n"));
    assert_eq!((source.lines[0].span.first_line, source.lines[0].span.last_line), (1, 6));
    assert_eq!(source.lines[1].text, "RUN z");
}

#[test]
fn what_only_looks_like_a_heredoc_takes_no_lines() {
    for text in [
        "RUN echo $((1<<2))",
        "RUN echo '<<EOF'",
        "RUN echo \"<<EOF\"",
        "RUN [\"echo\", \"<<EOF\"]",
        "RUN cat <<<EOF",
        "RUN echo a<<EOF",
        "RUN it's <<EOF",
        "ENV a=<<EOF",
        "CMD cat <<EOF",
        "RUN a << b",
    ] {
        let source = parse(format!("{text}\nRUN b").as_bytes(), "Dockerfile").unwrap();
        assert_eq!(source.lines.len(), 2, "{text}");
    }
    let onbuild = parse(b"ONBUILD RUN <<EOF\nx\nEOF\n", "Dockerfile").unwrap();
    assert_eq!(onbuild.lines[0].heredocs[0].content, "x\n");
}

#[test]
fn errors_have_their_place() {
    for (source, place, message) in [
        (&b""[..], "Dockerfile:1:1", "the file has no instructions"),
        (b"# only a comment\n\n", "Dockerfile:1:1", "the file has no instructions"),
        (b"FROM a\nRUN \xff\n", "Dockerfile:2:1", "the line is not UTF-8 text"),
        (b"RUN <<EOF\na\n", "Dockerfile:1:7", "the heredoc `EOF` is not ended"),
        (b"# escape=`\n# escape=`\n", "Dockerfile:2:3", "the parser directive `escape` is given twice"),
        (b"# escape=!\n", "Dockerfile:1:1", "`!` cannot be the escape token"),
    ] {
        let error = error(source);
        assert_eq!((error.span().to_string().as_str(), error.to_string().as_str()), (place, message));
    }
}

#[test]
fn a_comment_may_hold_any_bytes() {
    assert_eq!(parse(b"# \xff\nRUN a \\\n # \xe9\n b", "Dockerfile").unwrap().lines[0].text, "RUN a  b");
}

#[test]
fn a_line_may_be_65535_bytes_long_and_not_longer() {
    let line = |length: usize| format!("RUN b\nRUN {}\nRUN c", "x".repeat(length - 4));
    assert_eq!(texts(&line(65535)).len(), 3);
    let error = error(line(65536).as_bytes());
    assert_eq!(error.to_string(), "the line is 65536 bytes long, and 65535 is the limit");
    assert_eq!(error.span().first_line, 2);
    assert!(error.hint().is_some());
}

/// Words that a shell form can be made of.
fn words() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-zA-Z0-9$={}\"'#/.-]{1,8}", 1..6).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes, "Dockerfile");
    }

    #[test]
    fn any_text_of_the_language_is_read_or_refused(text in "([#\\\\`<\"'A-C =-]|\\\\\n|\n|<<A|RUN |COPY |ONBUILD ){0,60}") {
        if let Ok(source) = parse(text.as_bytes(), "Dockerfile") {
            for line in source.lines {
                prop_assert!(line.span.first_line <= line.span.last_line);
                prop_assert!(line.text.ends_with(&line.rest));
                let _ = (line.place(line.text.len()), line.place_of_rest(), line.inner());
            }
        }
    }

    #[test]
    fn what_is_printed_is_read_as_the_same(lines in proptest::collection::vec(words(), 1..6), body in "[a-z \t]{0,9}") {
        let text = format!("RUN {}\nRUN cat <<-END\n{body}\n\tEND\n", lines.join("\nRUN "));
        let print = |source: &Source| {
            let lines: Vec<String> = source.lines.iter().map(ToString::to_string).collect();
            lines.join("\n")
        };
        let first = parse(text.as_bytes(), "Dockerfile").unwrap();
        let printed = print(&first);
        let second = parse(printed.as_bytes(), "Dockerfile").unwrap();
        prop_assert_eq!(print(&second), printed);
        for (left, right) in first.lines.iter().zip(&second.lines) {
            prop_assert_eq!(&left.text, &right.text);
            prop_assert_eq!(&left.flags, &right.flags);
            prop_assert_eq!(&left.rest, &right.rest);
            prop_assert_eq!(&left.heredocs, &right.heredocs);
        }
    }
}
