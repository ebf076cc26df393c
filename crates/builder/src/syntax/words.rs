//! Arguments cut into words, before anything in them is expanded: by blanks, by blanks outside quotes, as
//! `name=value` pairs, or as a JSON array of strings.

use serde_json::Value;

/// The blanks that part the words of an instruction; other Unicode spaces belong to a word.
pub(crate) const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// Words parted by blanks; quotes mean nothing.
pub(crate) fn plain(text: &str) -> Vec<String> {
    text.split(BLANKS).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Words parted by spaces outside quotes. Quotes and escapes stay in the word: expansion takes them away.
pub(crate) fn quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match quote {
            None if character.is_whitespace() => {
                words.extend(word.take());
                continue;
            }
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ => {}
        }
        // Nothing can be escaped between single quotes.
        if character == escape && quote != Some('\'') {
            // An escape token that ends the text escapes nothing and is dropped.
            let Some(escaped) = characters.next() else { break };
            word.get_or_insert_default().extend([character, escaped]);
        } else {
            word.get_or_insert_default().push(character);
        }
    }
    words.extend(word);
    words
}

/// One `name=value`, neither of them expanded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The text before the first `=`.
    pub(crate) name: String,
    /// The text after it.
    pub(crate) value: String,
}

/// Why arguments are not pairs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PairProblem {
    /// The old form, and there is only a name.
    NoValue {
        /// The name.
        name: String,
    },
    /// A word without `=` among pairs.
    NoEquals {
        /// The word.
        word: String,
    },
}

/// `a=b c="d e"`, or the old form `a rest of the line`: if the first word has no `=`, it is the old form.
pub(crate) fn pairs(text: &str, escape: char) -> Result<Vec<Pair>, PairProblem> {
    let words = quoted(text, escape);
    match words.first() {
        None => return Ok(Vec::new()),
        Some(first) if !first.contains('=') => {
            let (name, value) =
                text.split_once(BLANKS).ok_or_else(|| PairProblem::NoValue { name: text.to_owned() })?;
            let value = value.trim_start_matches(BLANKS).to_owned();
            return Ok(vec![Pair { name: name.to_owned(), value }]);
        }
        Some(_) => {}
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) => Ok(Pair { name: name.to_owned(), value: value.to_owned() }),
            None => Err(PairProblem::NoEquals { word }),
        })
        .collect()
}

/// What arguments are when they are looked at as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// An array of strings.
    Strings(Vec<String>),
    /// An array with something else in it: an error everywhere, so that a slip does not become a shell command.
    Mixed,
    /// Not an array: the text is taken as it is.
    No,
}

/// Reads a JSON array of strings. What is not well-formed JSON is no JSON.
pub(crate) fn json(text: &str) -> Json {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Json::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<Value>>(text) else { return Json::No };
    let strings: Option<Vec<String>> = values
        .into_iter()
        .map(|value| match value {
            Value::String(string) => Some(string),
            _ => None,
        })
        .collect();
    strings.map_or(Json::Mixed, Json::Strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_outside_quotes_and_keep_their_quotes() {
        for (text, expected) in [
            ("a b  c", &["a", "b", "c"][..]),
            (r#"a="b c" d"#, &[r#"a="b c""#, "d"]),
            (r"a=b\ c d", &[r"a=b\ c", "d"]),
            (r"a='b \' c", &[r"a='b \'", "c"]),
            (r#"a="b \" c" d"#, &[r#"a="b \" c""#, "d"]),
            (r#""" x"#, &[r#""""#, "x"]),
            (r"a\", &["a"]),
            (r#"a"b"#, &[r#"a"b"#]),
            ("", &[]),
            ("a\u{a0}b", &["a", "b"]),
        ] {
            assert_eq!(quoted(text, '\\'), expected, "{text:?}");
        }
    }

    #[test]
    fn the_escape_token_of_the_file_is_the_one_that_escapes() {
        assert_eq!(quoted("a=b` c d", '`'), ["a=b` c", "d"]);
        assert_eq!(quoted(r"a=c:\ d", '`'), [r"a=c:\", "d"]);
    }

    #[test]
    fn pairs_have_a_new_and_an_old_form() {
        let pair = |name: &str, value: &str| Pair { name: name.into(), value: value.into() };
        assert_eq!(pairs("a=1 b=", '\\').unwrap(), [pair("a", "1"), pair("b", "")]);
        assert_eq!(pairs("a=b=c", '\\').unwrap(), [pair("a", "b=c")]);
        assert_eq!(pairs("a  b=c  d", '\\').unwrap(), [pair("a", "b=c  d")]);
        assert_eq!(pairs("=x", '\\').unwrap(), [pair("", "x")]);
        assert_eq!(pairs("", '\\').unwrap(), []);
        assert_eq!(pairs("a", '\\'), Err(PairProblem::NoValue { name: "a".into() }));
        assert_eq!(pairs("a=1 b", '\\'), Err(PairProblem::NoEquals { word: "b".into() }));
    }

    #[test]
    fn only_a_well_formed_array_is_json() {
        assert_eq!(json(r#"["a", "b\n"]"#), Json::Strings(vec!["a".into(), "b\n".into()]));
        assert_eq!(json("[]"), Json::Strings(vec![]));
        assert_eq!(json(r#"["a", 1]"#), Json::Mixed);
        assert_eq!(json("['a']"), Json::No);
        assert_eq!(json(r#"["a"] b"#), Json::No);
        assert_eq!(json(r#"{"a": 1}"#), Json::No);
        assert_eq!(json("echo"), Json::No);
    }

    #[test]
    fn plain_words_know_no_quotes() {
        assert_eq!(plain(" a\t'b  c' "), ["a", "'b", "c'"]);
    }
}
