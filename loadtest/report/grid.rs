//! Columns that line up, as wide as their widest cell.

use unicode_width::UnicodeWidthStr as _;

use super::paint::{Paint, Style, tame};

/// Between two columns.
const GAP: usize = 2;
/// A name that is longer is cut.
const NAME_MOST: usize = 28;

/// Rows of cells; the first column is to the left, numbers are to the right.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    rows: Vec<Vec<Cell>>,
}

/// A text and its style.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

// === impl Grid ===

impl Grid {
    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The rows as lines, each with `indent` blanks before it.
    pub(crate) fn lines(&self, indent: usize, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(indent);
            for (i, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[i] - cell.text.width());
                let text = paint.paint(cell.style, &cell.text);
                if i == 0 {
                    line += &text;
                    line += &pad;
                } else {
                    line += &" ".repeat(if widths[i] == 0 { 0 } else { GAP });
                    line += &pad;
                    line += &text;
                }
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

// === impl Cell ===

impl Cell {
    /// A text in a style.
    pub(crate) fn new(style: Style, text: impl Into<String>) -> Self {
        Self { text: text.into(), style }
    }

    /// A text as it is.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(Style::Plain, text)
    }

    /// A name from outside: tamed, and cut when it is too long.
    pub(crate) fn name(style: Style, name: &str) -> Self {
        Self::new(style, cut(&tame(name)))
    }

    /// Nothing.
    pub(crate) fn none() -> Self {
        Self::default()
    }
}

fn cut(text: &str) -> String {
    if text.width() <= NAME_MOST {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        if out.width() + unicode_width::UnicodeWidthChar::width(c).unwrap_or(0) >= NAME_MOST {
            break;
        }
        out.push(c);
    }
    out + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut grid = Grid::default();
        grid.row([Cell::plain(""), Cell::plain("sent"), Cell::plain("p50")]);
        grid.row([Cell::name(Style::Plain, "模型"), Cell::plain("1,000"), Cell::plain("2.5")]);
        grid.row([Cell::name(Style::Plain, "a\u{1b}[2J"), Cell::none(), Cell::plain("10")]);
        let lines = grid.lines(1, Paint::off());
        assert_eq!(lines, "         sent  p50\n 模型   1,000  2.5\n a·[2J          10\n");
        let painted = grid.lines(1, Paint::on());
        assert_eq!(painted.replace("\u{1b}[1m", ""), grid.lines(1, Paint::off()));
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut(&"x".repeat(100)).chars().count(), NAME_MOST);
    }
}
