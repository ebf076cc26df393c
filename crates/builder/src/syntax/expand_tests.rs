//! Tables of words and what they become.

use proptest::prelude::*;

use super::*;

struct Table(Vec<(&'static str, &'static str)>);

impl Variables for Table {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// One value for every name.
struct One(String);

impl Variables for One {
    fn get(&self, _: &str) -> Option<&str> {
        Some(&self.0)
    }
}

fn table() -> Table {
    Table(vec![
        ("A", "a"),
        ("EMPTY", ""),
        ("FILE", "foo.tar.gz"),
        ("PATHS", "/usr/local/bin"),
        ("WORDS", "one  two"),
        ("STAR", "a*b"),
        ("_x1", "under"),
        ("é", "accent"),
    ])
}

fn expand(word: &str) -> Result<String, ExpandError> {
    Expander::new('\\').word(word, &table())
}

#[test]
fn words_become_what_the_frontend_makes_of_them() {
    for (word, expected) in [
        ("plain", "plain"),
        ("$A", "a"),
        ("${A}", "a"),
        ("x${A}y$A.z", "xaya.z"),
        ("$_x1", "under"),
        ("$é", "accent"),
        ("$NONE|", "|"),
        ("${NONE}|", "|"),
        ("$EMPTY|", "|"),
        ("$", "$"),
        ("$.", "$."),
        ("a$", "a$"),
        ("$$", ""),
        ("$$A", "A"),
        ("$1x", "x"),
        ("$12", ""),
        ("${12}", ""),
        ("$@$*$#$?$-$!$0", ""),
        (r"\$A", "$A"),
        (r"\\$A", r"\a"),
        (r"a\ b", "a b"),
        (r"a\", "a"),
        (r#""$A b""#, "a b"),
        ("'$A b'", "$A b"),
        (r#""'$A'""#, "'a'"),
        (r#"'"'$A'"'"#, r#""a""#),
        (r#""\$A""#, "$A"),
        (r#""\"""#, "\""),
        (r#""\\""#, r"\"),
        (r#""\n""#, r"\n"),
        (r"'\n'", r"\n"),
        (r"C:\\x", r"C:\x"),
        (r"C:\x", "C:x"),
        ("${A:-d}", "a"),
        ("${NONE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NONE-d}", "d"),
        ("${NONE:-}", ""),
        ("${A:+r}", "r"),
        ("${EMPTY:+r}", ""),
        ("${EMPTY+r}", "r"),
        ("${NONE+r}", ""),
        ("${NONE:-${A}}", "a"),
        ("${NONE:-${NONE:-x${A}y}}", "xay"),
        ("${A:+${NONE:+x}}", ""),
        ("${NONE:-\"a b\"}", "a b"),
        ("${NONE:-'}'}", "}"),
        (r"${NONE:-\}}", "}"),
        ("${A:?message}", "a"),
        ("${A?message}", "a"),
        ("${EMPTY?message}", ""),
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "foo.tar"),
        ("${FILE%%.*}", "foo"),
        ("${FILE#x}", "foo.tar.gz"),
        ("${FILE%???}", "foo.tar"),
        ("${PATHS##*/}", "bin"),
        ("${PATHS%/*}", "/usr/local"),
        ("${STAR#a\\*}", "b"),
        ("${NONE#x}", ""),
        ("${FILE/o/0}", "f0o.tar.gz"),
        ("${FILE//o/0}", "f00.tar.gz"),
        ("${FILE/.*/}", "foo"),
        ("${PATHS//\\//-}", "-usr-local-bin"),
        ("${FILE/$A/b}", "foo.tbr.gz"),
        ("${NONE/x/y}", ""),
        ("[$A]", "[a]"),
        ("{a}", "{a}"),
    ] {
        assert_eq!(expand(word).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn words_that_are_wrong_say_what_is_wrong() {
    for (word, expected) in [
        ("'a", ExpandError::OpenQuote('\'')),
        ("\"a", ExpandError::OpenQuote('"')),
        (r#""a\""#, ExpandError::OpenQuote('"')),
        ("${A", ExpandError::NoBrace),
        ("${", ExpandError::NoBrace),
        ("${A:-b", ExpandError::NoBrace),
        ("${A:", ExpandError::NoBrace),
        ("${}", ExpandError::NoName),
        ("${:-x}", ExpandError::NoName),
        ("${{A}}", ExpandError::NoName),
        ("${A:=x}", ExpandError::Modifier(":=".into())),
        ("${A:#x}", ExpandError::Modifier(":#".into())),
        ("${A:%x}", ExpandError::Modifier(":%".into())),
        ("${A=x}", ExpandError::Modifier("=".into())),
        ("${A^}", ExpandError::Modifier("^".into())),
        ("${A/x}", ExpandError::NoSlash),
        ("${A/x/y", ExpandError::NoBrace),
        ("${NONE:?}", ExpandError::Required { name: "NONE".into(), message: "is not set".into() }),
        ("${EMPTY:?}", ExpandError::Required { name: "EMPTY".into(), message: "is empty".into() }),
        ("${NONE:?set it}", ExpandError::Required { name: "NONE".into(), message: "set it".into() }),
    ] {
        assert_eq!(expand(word), Err(expected), "{word}");
    }
}

#[test]
fn the_backtick_escapes_when_the_file_says_so() {
    let expander = Expander::new('`');
    for (word, expected) in [(r"C:\x", r"C:\x"), ("`$A", "$A"), ("``", "`"), (r#""`"""#, "\""), (r"\$A", r"\a")] {
        assert_eq!(expander.word(word, &table()).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn blanks_from_variables_part_words_and_quoted_ones_do_not() {
    let words = |word: &str| Expander::new('\\').expand(word, &table()).unwrap().words;
    assert_eq!(words("$WORDS"), ["one", "two"]);
    assert_eq!(words("\"$WORDS\""), ["one  two"]);
    assert_eq!(words("x${WORDS}y"), ["xone", "twoy"]);
    assert_eq!(words("$EMPTY"), [""; 0]);
    assert_eq!(words(r"a\ b"), ["a b"]);
}

#[test]
fn what_is_kept_is_kept() {
    let expander = Expander { keep_quotes: true, keep_escapes: true, keep_unset: true, ..Expander::new('\\') };
    for word in [r"'a' \x", r#""b\"""#, "$NONE", "${NONE}", "${NONE:-x}", "${NONE#x}", "${NONE/x/y}", "${NONE//x/y}"] {
        assert_eq!(expander.word(word, &table()).as_deref(), Ok(word), "{word}");
    }
}

#[test]
fn nesting_and_growth_end_before_the_stack_and_the_memory_do() {
    let deep = "${N:-".repeat(100_000);
    assert_eq!(expand(&deep), Err(ExpandError::TooDeep));
    let long: String = "x".repeat(LENGTH_LIMIT / 2);
    assert_eq!(Expander::new('\\').word("$A$A$A", &One(long)), Err(ExpandError::TooLong));
}

proptest! {
    #[test]
    fn any_text_is_expanded_or_refused(word in "[$a-c{}:?+#%/*'\"\\\\ -]{0,40}") {
        let _ = expand(&word);
    }

    #[test]
    fn text_without_special_characters_stays_as_it_is(word in "[a-zA-Z0-9 .,:;/{}()=-]{0,40}") {
        prop_assert_eq!(expand(&word).unwrap(), word);
    }

    #[test]
    fn single_quotes_keep_everything(word in "[^']{0,40}") {
        prop_assert_eq!(expand(&format!("'{word}'")).unwrap(), word);
    }
}

#[test]
fn the_body_of_a_heredoc_keeps_its_quotes() {
    let expander = Expander { plain_quotes: true, ..Expander::new('\\') };
    let body = "it's \"$set\" and '${set}' ${none:-\"d\"} \\$set \\\\ \\\nnext\n";
    let expected = "it's \"value\" and 'value' \"d\" $set \\ \nnext\n";
    assert_eq!(expander.word(body, &Table(vec![("set", "value")])).unwrap(), expected);
}
