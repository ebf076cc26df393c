//! The table as a picture: two bars a build, the processor time of zuwai and of buildah, legible on light and dark pages.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use zuwai_lab::places;

use super::report::Row;
use crate::bench::table::seconds;

/// Where it is kept, relative to the repository.
const PATH: &str = "docs/builds.svg";

const WIDTH: f64 = 860.0;
/// Where bars begin, and how long the longest is: what is left and right of them is for words.
const LEFT: f64 = 330.0;
const LONGEST: f64 = 430.0;
const BAR: f64 = 13.0;
const ROW: f64 = 44.0;
const TOP: f64 = 56.0;

/// Draws the rows, and writes the picture.
pub(super) fn keep(rows: &[Row]) -> Result<()> {
    let bars: Vec<_> = rows.iter().map(|row| (row.title(), row.built.cost.cpu, row.buildah.cpu)).collect();
    let path = places::repository().join(PATH);
    fs::write(&path, draw(&bars)).with_context(|| format!("write {}", path.display()))
}

/// Titles with the seconds of both.
fn draw(bars: &[(String, f64, f64)]) -> String {
    let most = bars.iter().map(|(_, own, other)| own.max(*other)).fold(f64::MIN_POSITIVE, f64::max);
    let mut top = TOP;
    let mut drawn = String::new();
    for (title, own, other) in bars {
        let middle = top + BAR + 4.0;
        let _ =
            writeln!(drawn, r#"<text x="{}" y="{middle}" text-anchor="end">{}</text>"#, LEFT - 12.0, escaped(title));
        for (class, value, y) in [("own", own, top), ("other", other, top + BAR + 2.0)] {
            let length = (value / most * LONGEST).max(1.0);
            let (end, line) = (LEFT + length + 8.0, y + BAR - 2.5);
            let _ = writeln!(drawn, r#"<rect class="{class}" x="{LEFT}" y="{y}" width="{length:.1}" height="{BAR}"/>"#);
            let _ = writeln!(drawn, r#"<text class="value" x="{end:.1}" y="{line}">{}</text>"#, seconds(*value));
        }
        top += ROW;
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img" aria-label="Seconds of processor for whole builds: zuwai beside buildah">
<style>
text {{ font: 14px system-ui, sans-serif; fill: #24292f }}
.value {{ font-size: 12px }}
.own {{ fill: #0a7d6c }}
.other {{ fill: #a9b1ba }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .own {{ fill: #34c3a9 }} .other {{ fill: #6b7480 }} }}
</style>
<text x="12" y="24">Seconds of processor, all processes of a build</text>
<rect class="own" x="{LEFT}" y="13" width="{BAR}" height="{BAR}"/><text x="{}" y="24">zuwai</text>
<rect class="other" x="{}" y="13" width="{BAR}" height="{BAR}"/><text x="{}" y="24">buildah</text>
{drawn}</svg>
"##,
        LEFT + 20.0,
        LEFT + 90.0,
        LEFT + 110.0,
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_room_and_the_others_are_in_proportion() {
        let picture = draw(&[("a & b".to_owned(), 1.0, 4.0), ("c".to_owned(), 2.0, 0.0)]);
        for part in
            ["width=\"430.0\"", "width=\"107.5\"", "width=\"215.0\"", "width=\"1.0\"", ">a &amp; b<", ">4.00 s<"]
        {
            assert!(picture.contains(part), "{part}: {picture}");
        }
    }
}
