//! Columns that line up.

/// A table: each column as wide as its widest cell, two spaces between, no spaces at the end of a line. The last
/// cell of a row with fewer cells than headings runs on over the columns to its right.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with its headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, headings first; nothing where there is no row.
    pub(super) fn text(&self) -> String {
        if self.rows.len() < 2 {
            return String::new();
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            self.rows
                .iter()
                .filter(|r| r.len() == columns || c + 1 < r.len())
                .filter_map(|r| r.get(c))
                .map(|t| t.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}"));
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        out
    }
}

/// Words set into lines of at most 80 columns; lines after the first begin with `indent` spaces.
pub(super) fn wrap(first: &str, parts: &[String], indent: usize) -> String {
    const WIDTH: usize = 80;
    let mut out = first.to_owned();
    let mut column = first.chars().count();
    for (i, part) in parts.iter().enumerate() {
        let end = if i + 1 < parts.len() { "," } else { "" };
        let length = part.chars().count() + end.len();
        if column + 1 + length > WIDTH {
            out.push_str(&format!("\n{}", " ".repeat(indent)));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(&format!("{part}{end}"));
        column += length;
    }
    out + "\n"
}
