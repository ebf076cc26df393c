//! The table as a picture: a bar a builder, the processor time of zuwai, buildah and BuildKit, legible on light and dark pages.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use zuwai_lab::places;

use super::report::Row;
use crate::bench::table::seconds;

/// Where it is kept, relative to the repository.
const PATH: &str = "docs/builds.svg";

const WIDTH: f64 = 980.0;
/// Where bars begin, and how long the longest is: what is left and right of them is for words.
const LEFT: f64 = 450.0;
const LONGEST: f64 = 430.0;
const BAR: f64 = 13.0;
const ROW: f64 = 56.0;
const TOP: f64 = 48.0;

/// Classes of bars, and whose they are.
const BUILDERS: [(&str, &str); 3] = [("own", "zuwai"), ("other", "buildah"), ("third", "BuildKit")];

/// Draws the rows, and writes the picture.
pub(super) fn keep(rows: &[Row]) -> Result<()> {
    let times = |row: &Row| [row.built.cost.cpu, row.buildah.cost.cpu, row.buildkit.cost.cpu];
    let bars: Vec<_> = rows.iter().map(|row| (row.title(), times(row))).collect();
    let path = places::repository().join(PATH);
    fs::write(&path, draw(&bars)).with_context(|| format!("write {}", path.display()))
}

/// Titles with the seconds of each, in the order of [`BUILDERS`].
fn draw(bars: &[(String, [f64; 3])]) -> String {
    let most = bars.iter().flat_map(|(_, times)| *times).fold(f64::MIN_POSITIVE, f64::max);
    let mut top = TOP;
    let mut drawn = String::new();
    for (title, times) in bars {
        let middle = top + BAR * 1.5 + 6.0;
        let _ =
            writeln!(drawn, r#"<text x="{}" y="{middle}" text-anchor="end">{}</text>"#, LEFT - 12.0, escaped(title));
        let mut y = top;
        for ((class, _), value) in BUILDERS.iter().zip(times) {
            let length = (value / most * LONGEST).max(1.0);
            let (end, line) = (LEFT + length + 8.0, y + BAR - 2.5);
            let _ = writeln!(drawn, r#"<rect class="{class}" x="{LEFT}" y="{y}" width="{length:.1}" height="{BAR}"/>"#);
            let _ = writeln!(drawn, r#"<text class="value" x="{end:.1}" y="{line}">{}</text>"#, seconds(*value));
            y += BAR + 1.0;
        }
        top += ROW;
    }
    let mut x = LEFT;
    let mut legend = String::new();
    for (class, name) in BUILDERS {
        let _ = writeln!(legend, r#"<rect class="{class}" x="{x}" y="13" width="{BAR}" height="{BAR}"/>"#);
        let _ = writeln!(legend, r#"<text x="{}" y="24">{name}</text>"#, x + 20.0);
        x += 100.0;
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img" aria-label="Seconds of processor for whole builds: zuwai beside buildah and BuildKit">
<style>
text {{ font: 14px system-ui, sans-serif; fill: #24292f }}
.value {{ font-size: 12px }}
.own {{ fill: #0a7d6c }}
.other {{ fill: #a9b1ba }}
.third {{ fill: #6e88b5 }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .own {{ fill: #34c3a9 }} .other {{ fill: #6b7480 }} .third {{ fill: #8fa9d8 }} }}
</style>
<text x="12" y="24">Seconds of processor, all processes of a build</text>
{legend}{drawn}</svg>
"#
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
        let picture = draw(&[("a & b".to_owned(), [1.0, 4.0, 3.0]), ("c".to_owned(), [2.0, 0.0, 1.0])]);
        for part in
            ["width=\"430.0\"", "width=\"107.5\"", "width=\"215.0\"", "width=\"1.0\"", ">a &amp; b<", ">4.00 s<"]
        {
            assert!(picture.contains(part), "{part}: {picture}");
        }
    }
}
