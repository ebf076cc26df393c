//! The page that keeps the tables: what stands between an area's two marks is replaced, the rest is written by hand.

use std::fs;

use anyhow::{Context, Result};
use zuwai_lab::places;

const PAGE: &str = "docs/performance.md";

/// Puts an area's tables between its marks.
pub(crate) fn put(area: &str, tables: &str) -> Result<()> {
    let path = places::repository().join(PAGE);
    let text = fs::read_to_string(&path).with_context(|| format!("read {PAGE}"))?;
    let text = replaced(&text, area, tables).with_context(|| format!("{PAGE} has no marks for {area}"))?;
    fs::write(&path, text).with_context(|| format!("write {PAGE}"))
}

fn replaced(text: &str, area: &str, tables: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- measured: {area} -->\n"), format!("<!-- end: {area} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{}\n{end}{after}", tables.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn what_stands_between_the_marks_is_replaced_and_nothing_else() {
        let text = "a\n<!-- measured: x -->\nold\n<!-- end: x -->\nb\n";
        let new = replaced(text, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- measured: x -->\nnew\n<!-- end: x -->\nb\n");
        assert_eq!(replaced(text, "y", "new"), None);
    }
}
