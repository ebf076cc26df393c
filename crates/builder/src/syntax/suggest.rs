//! "Did you mean": the nearest of the words there are.

/// A word further away than this many edits is another word, not a slip. `BuildKit` draws the line there too.
const FARTHEST: usize = 2;

/// The nearest option to `word`, cased like it; `None` when none is near. Of equally near ones the first wins.
pub(crate) fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = word.to_lowercase();
    if lower.chars().count() > 64 {
        return None;
    }
    let (_, option) = options
        .into_iter()
        .map(|option| (distance(&lower, &option.to_lowercase()), option))
        .filter(|(distance, option)| *distance <= FARTHEST && *distance < option.chars().count())
        .min_by_key(|(distance, _)| *distance)?;
    Some(if word == lower { option.to_lowercase() } else { option.to_owned() })
}

/// ` (did you mean FROM?)`, or nothing.
pub(crate) fn parenthesis(suggestion: Option<&str>) -> String {
    suggestion.map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
}

/// How many characters have to be put in, taken out or changed to turn one into the other (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, to) in right.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_in_the_case_of_the_slip() {
        let options = ["FROM", "RUN", "COPY", "ENTRYPOINT"];
        for (word, expected) in [
            ("FOO", Some("FROM")),
            ("FORM", Some("FROM")),
            ("form", Some("from")),
            ("CPOY", Some("COPY")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("RU", Some("RUN")),
            ("INSTALL", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, options).as_deref(), expected, "{word}");
        }
    }

    #[test]
    fn distance_counts_single_edits() {
        for (left, right, expected) in [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3)] {
            assert_eq!(distance(left, right), expected);
            assert_eq!(distance(right, left), expected);
        }
    }
}
