//! Words that come out of an expansion: blanks part them where they were not quoted.

/// Collects characters into words.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    word: String,
    words: Vec<String>,
}

impl Splitter {
    /// A character that, when it is a blank, ends the word.
    pub(super) fn parted(&mut self, character: char) {
        if !character.is_whitespace() {
            self.word.push(character);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    /// Text that belongs to the word as it is.
    pub(super) fn joined(&mut self, text: &str) {
        self.word.push_str(text);
    }

    /// The words; none of them is empty.
    pub(super) fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}
