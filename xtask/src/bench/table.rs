//! A table as Markdown has it, which reads as well on a terminal.

use std::fmt;

/// A table with a heading for each column; all columns but the first are aligned right.
pub(crate) struct Table {
    pub(crate) headings: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&heading| heading.to_owned()).collect(), rows: Vec::new() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.headings]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let line = |row: &[String]| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(
                    |(column, (cell, width))| {
                        if column == 0 { format!(" {cell:<width$} ") } else { format!(" {cell:>width$} ") }
                    },
                )
                .collect();
            format!("|{}|", cells.join("|"))
        };
        let under: Vec<String> = widths
            .iter()
            .enumerate()
            .map(|(column, width)| if column == 0 { "-".repeat(width + 2) } else { "-".repeat(width + 1) + ":" })
            .collect();
        writeln!(formatter, "{}\n|{}|", line(&self.headings), under.join("|"))?;
        self.rows.iter().try_for_each(|row| writeln!(formatter, "{}", line(row)))
    }
}

/// Seconds as people read them: three digits and a unit.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        value if value < 1e-3 => format!("{:.0} µs", value * 1e6),
        value if value < 0.1 => format!("{:.1} ms", value * 1e3),
        value if value < 1.0 => format!("{:.0} ms", value * 1e3),
        value => format!("{value:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new(&["what", "took"]);
        table.rows.push(vec!["nothing".into(), seconds(0.0123)]);
        assert_eq!(table.to_string(), "| what    |    took |\n|---------|--------:|\n| nothing | 12.3 ms |\n");
        assert_eq!([seconds(0.000_5), seconds(0.25), seconds(2.5)], ["500 µs", "250 ms", "2.50 s"]);
    }
}
