//! The file cut into its lines as they stand there: byte order mark, line ends and the limit of a line's length.
//! What a line means is for others.

/// The longest line, without its line feed. The current Dockerfile frontend has this limit.
pub(super) const LINE_LIMIT: usize = 65535;

/// One line of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Physical<'a> {
    /// From 1.
    pub(super) number: usize,
    /// The bytes with their line end, without the byte order mark.
    pub(super) whole: &'a [u8],
}

impl<'a> Physical<'a> {
    /// The bytes without the line end: line feed and carriage returns.
    pub(super) fn content(&self) -> &'a [u8] {
        let end = self.whole.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        &self.whole[..end]
    }

    /// The length that counts for the limit.
    pub(super) fn length(&self) -> usize {
        self.whole.strip_suffix(b"\n").unwrap_or(self.whole).len()
    }
}

/// The lines in order.
#[derive(Debug)]
pub(super) struct PhysicalLines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> PhysicalLines<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        PhysicalLines { rest: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text), number: 0 }
    }

    /// How many lines were handed out: the number of the last one.
    pub(super) fn number(&self) -> usize {
        self.number
    }
}

impl<'a> Iterator for PhysicalLines<'a> {
    type Item = Physical<'a>;

    fn next(&mut self) -> Option<Physical<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |feed| feed + 1);
        let (whole, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.number += 1;
        Some(Physical { number: self.number, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_ends_and_the_file_its_byte_order_mark() {
        let lines: Vec<_> = PhysicalLines::new(b"\xef\xbb\xbfa\r\n\nb\r\r\nc")
            .map(|line| (line.number, String::from_utf8_lossy(line.content()).into_owned()))
            .collect();
        assert_eq!(lines, [(1, "a".into()), (2, String::new()), (3, "b".into()), (4, "c".into())]);
    }

    #[test]
    fn a_file_that_ends_with_a_line_feed_has_no_line_after_it() {
        assert_eq!(PhysicalLines::new(b"a\n").count(), 1);
        assert_eq!(PhysicalLines::new(b"").count(), 0);
        assert_eq!(PhysicalLines::new(b"\xef\xbb\xbf").count(), 0);
    }
}
