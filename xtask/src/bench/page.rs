//! The pages that keep the tables: what stands between an area's two marks is replaced, the rest is written by hand.

use std::fs;

use anyhow::{Context, Result, bail};
use zuwai_lab::places;

const PAGES: [&str; 2] = ["docs/performance.md", "docs/caching.md"];

/// Puts an area's tables between its marks.
pub(crate) fn put(area: &str, tables: &str) -> Result<()> {
    for page in PAGES {
        let path = places::repository().join(page);
        let text = fs::read_to_string(&path).with_context(|| format!("read {page}"))?;
        if let Some(text) = replaced(&text, area, tables) {
            return fs::write(&path, text).with_context(|| format!("write {page}"));
        }
    }
    bail!("none of {} has marks for {area}", PAGES.join(", "))
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
