//! A comparison on the terminal.

use std::fmt::Write as _;

use super::super::grid::{Cell, Grid};
use super::super::paint::{Paint, Style, tame};
use super::super::table::wrapped;
use super::{Comparison, Figure, RULE, Ranged, Verdict};

const WIDTH: usize = 98;

/// The whole.
pub(crate) fn render(comparison: &Comparison, paint: Paint) -> String {
    let mut out = String::new();
    for (name, run) in ["A", "B"].into_iter().zip(&comparison.runs) {
        let _ = writeln!(out, "{}  {}", paint.paint(Style::Strong, name), tame(run));
    }
    for remark in &comparison.remarks {
        for line in wrapped(&tame(remark), WIDTH) {
            let _ = writeln!(out, "{}", paint.paint(Style::Warning, &line));
        }
    }
    for service in &comparison.services {
        let _ = writeln!(out);
        let mut grid = Grid::default();
        let titles =
            ["A", "range of A", "B", "range of B", "B to A", ""].map(|title| Cell::new(Style::Faint, title));
        grid.row(std::iter::once(Cell::name(Style::Strong, &service.name)).chain(titles));
        for figure in &service.figures {
            grid.row(row(figure));
        }
        out += &grid.lines(0, paint);
    }
    let _ = writeln!(out);
    for (verdict, sentence) in comparison.sentences() {
        let _ = writeln!(out, "{}", paint.paint(style(verdict), &tame(&sentence)));
    }
    for line in wrapped(RULE, WIDTH) {
        let _ = writeln!(out, "{}", paint.paint(Style::Faint, &line));
    }
    out
}

fn row(figure: &Figure) -> Vec<Cell> {
    let mut row = vec![Cell::plain(figure.what)];
    for value in figure.values {
        let shown = value.map_or_else(|| "–".into(), |value| figure.unit.show(value.value));
        row.push(Cell::plain(shown));
        let range = value.and_then(|Ranged { range, .. }| range);
        row.push(Cell::new(
            Style::Faint,
            range.map_or_else(String::new, |range| figure.unit.show_range(range)),
        ));
    }
    row.push(Cell::plain(figure.change().unwrap_or_default()));
    row.push(Cell::new(style(figure.verdict), figure.verdict.word()));
    row
}

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Better => Style::Good,
        Verdict::Worse => Style::Bad,
        Verdict::Same | Verdict::Unknown | Verdict::Fact => Style::Faint,
    }
}
