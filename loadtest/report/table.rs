//! A run as a table on the terminal, at most about 100 columns wide, readable without colour.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr as _;

use super::grid::{Cell, Grid};
use super::numbers::{count, ms, number, seconds, share};
use super::paint::{Paint, Style, tame};
use super::replicas::Replicas;
use crate::run::{Finished, Quantiles, Run, ServiceRun, Totals, Verdict};

/// With more services each is one row.
const BLOCKS_MOST: usize = 6;
/// Codes in one line.
const CODES_MOST: usize = 8;
/// Columns of the whole.
const WIDTH: usize = 100;
/// Where remarks begin.
const REMARK: usize = 15;
const COLUMNS: [&str; 10] = ["sent", "ok", "failed", "req/s", "p50", "p90", "p99", "p99.9", "max", ""];

/// The whole table.
pub(crate) fn render(run: &Run, paint: Paint) -> String {
    let mut out = String::new();
    let page = Page { run, paint };
    page.head(&mut out);
    if run.services.len() <= BLOCKS_MOST {
        for service in &run.services {
            page.block(&mut out, service);
        }
    } else {
        page.rows(&mut out);
    }
    page.generator(&mut out);
    page.thresholds(&mut out);
    out
}

struct Page<'a> {
    run: &'a Run,
    paint: Paint,
}

// === impl Page ===

impl Page<'_> {
    fn head(&self, out: &mut String) {
        let run = self.run;
        let ended = match run.finished {
            Finished::Complete => "complete",
            Finished::Interrupted => "interrupted",
            Finished::LimitReached => "ended by a limit",
        };
        let rest = format!("{} · {} · {ended}", tame(&run.started), seconds(run.duration_s));
        let _ = writeln!(
            out,
            "{}  {}\n{}",
            self.paint.paint(Style::Strong, &tame(&run.scenario)),
            rest,
            self.paint.paint(
                Style::Faint,
                "latencies in ms, from the instant at which the scenario wanted the request sent"
            )
        );
    }

    fn block(&self, out: &mut String, service: &ServiceRun) {
        let name = self.paint.paint(Style::Strong, &tame(&service.name));
        let _ = writeln!(out, "\n{name}  {}  {}", tame(&service.protocol), tame(&service.url));
        let mut grid = Grid::default();
        grid.row(heading());
        let took_part = |(_, totals): &(_, &Totals)| totals.sent + totals.dropped > 0;
        let phases: Vec<_> = self.run.phases.iter().zip(&service.phases).filter(took_part).collect();
        if phases.len() > 1 || phases.iter().any(|(phase, _)| phase.warm_up) {
            for (phase, totals) in phases {
                let name = if phase.warm_up { format!("{} *", phase.name) } else { phase.name.clone() };
                grid.row(totals_row(Cell::name(Style::Plain, &name), totals));
            }
        }
        grid.row(totals_row(Cell::new(Style::Strong, "all"), &service.total));
        for (what, quantiles) in details(&service.total) {
            grid.row(quantiles_row(what, quantiles));
        }
        *out += &grid.lines(2, self.paint);
        for (what, text, style) in remarks(service) {
            let text =
                wrapped(&text, WIDTH - REMARK).map(|line| self.paint.paint(style, &line)).collect::<Vec<_>>();
            let _ = writeln!(
                out,
                "  {what:<width$}{}",
                text.join(&format!("\n{:REMARK$}", "")),
                width = REMARK - 2
            );
        }
    }

    /// One row for each of many services.
    fn rows(&self, out: &mut String) {
        let mut grid = Grid::default();
        grid.row(heading());
        for service in &self.run.services {
            grid.row(totals_row(Cell::name(Style::Plain, &service.name), &service.total));
        }
        let _ = writeln!(out);
        *out += &grid.lines(0, self.paint);
        let starts: u64 = self.run.services.iter().map(|service| service.starts_count).sum();
        if starts > 0 {
            let _ = writeln!(out, "cold starts: {}", count(starts));
        }
        for service in &self.run.services {
            let bad = service.total.ok < service.total.sent;
            for (what, text, style) in remarks(service) {
                if style == Style::Warning || (bad && what == "answers") {
                    let text = self.paint.paint(style, &text);
                    let _ = writeln!(out, "{}: {what} {text}", tame(&service.name));
                }
            }
        }
    }

    fn generator(&self, out: &mut String) {
        let generator = &self.run.generator;
        let late = &generator.late_ms;
        let _ = write!(
            out,
            "\ngenerator  sent {}; at most {} open; late p50 {}, p99 {}, max {}",
            count(generator.sent),
            count(generator.open_max),
            ms(late.p50),
            ms(late.p99),
            ms(late.max)
        );
        if generator.dropped > 0 {
            let text = format!("{} not sent: too many were open", count(generator.dropped));
            let _ = write!(out, "; {}", self.paint.paint(Style::Bad, &text));
        }
        out.push('\n');
        for warning in &generator.warnings {
            for line in wrapped(&format!("warning: {}", tame(warning)), WIDTH) {
                let _ = writeln!(out, "{}", self.paint.paint(Style::Warning, &line));
            }
        }
        if self.run.phases.iter().any(|phase| phase.warm_up) {
            let _ = writeln!(out, "{}", self.paint.paint(Style::Faint, "* warm-up: not in \"all\""));
        }
    }

    fn thresholds(&self, out: &mut String) {
        if self.run.thresholds.is_empty() {
            return;
        }
        let _ = writeln!(out, "\nthresholds");
        for verdict in &self.run.thresholds {
            let (style, word) = if verdict.passed { (Style::Good, "pass") } else { (Style::Bad, "FAIL") };
            let _ = writeln!(out, "  {}  {}", self.paint.paint(style, word), verdict_text(verdict));
        }
        let failed = self.run.thresholds.iter().filter(|verdict| !verdict.passed).count();
        if failed > 0 {
            let text = format!("{failed} of {} thresholds do not hold", self.run.thresholds.len());
            let _ = writeln!(out, "{}", self.paint.paint(Style::Bad, &text));
        }
    }
}

/// `iris p99 ≤ 250 ms: 12.3 ms`
pub(crate) fn verdict_text(verdict: &Verdict) -> String {
    let sign = if verdict.at_least { '≥' } else { '≤' };
    let unit = tame(&verdict.unit);
    let measured =
        verdict.measured.map_or_else(|| "nothing measured".into(), |m| format!("{} {unit}", number(m)));
    format!("{} {sign} {} {unit}: {measured}", tame(&verdict.what), number(verdict.limit))
}

/// `text` in lines of at most `width`, as far as its words allow.
pub(crate) fn wrapped(text: &str, width: usize) -> impl Iterator<Item = String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter()
}

fn heading() -> impl Iterator<Item = Cell> {
    std::iter::once("").chain(COLUMNS).map(|title| Cell::new(Style::Faint, title))
}

fn totals_row(name: Cell, totals: &Totals) -> Vec<Cell> {
    let failed = totals.sent.saturating_sub(totals.ok);
    let mut row = vec![
        name,
        Cell::plain(count(totals.sent)),
        Cell::plain(count(totals.ok)),
        Cell::new(if failed > 0 { Style::Bad } else { Style::Plain }, count(failed)),
        Cell::plain(number(totals.per_s)),
    ];
    row.extend(quantile_cells(&totals.latency_ms));
    if totals.dropped > 0 {
        row.push(Cell::new(Style::Bad, format!("{} not sent", count(totals.dropped))));
    }
    row
}

fn quantiles_row(what: &str, quantiles: &Quantiles) -> Vec<Cell> {
    let mut row = vec![Cell::new(Style::Faint, what)];
    row.extend(std::iter::repeat_n(Cell::none(), 4));
    row.extend(quantile_cells(quantiles));
    row
}

fn quantile_cells(quantiles: &Quantiles) -> Vec<Cell> {
    let Quantiles { p50, p90, p99, p999, max, .. } = *quantiles;
    if quantiles.count == 0 {
        return std::iter::repeat_n(Cell::new(Style::Faint, "–"), 5).collect();
    }
    [p50, p90, p99, p999, max].into_iter().map(|value| Cell::plain(number(value))).collect()
}

/// What else there is to say of a service's answers.
pub(crate) fn details(total: &Totals) -> Vec<(&'static str, &Quantiles)> {
    let all = [
        ("since it left", Some(&total.service_ms)),
        ("first token", total.first_token_ms.as_ref()),
        ("between tokens", total.token_gap_ms.as_ref()),
        ("tokens/s", total.tokens_per_s.as_ref()),
        ("round trip", total.round_trip_ms.as_ref()),
    ];
    all.into_iter().filter_map(|(what, q)| Some((what, q?))).filter(|(_, q)| q.count > 0).collect()
}

/// Lines below a service's rows.
fn remarks(service: &ServiceRun) -> Vec<(&'static str, String, Style)> {
    let mut lines = vec![("answers", answers(service), Style::Plain)];
    for (code, reason) in service.reasons.iter().take(CODES_MOST) {
        lines.push(("", format!("{}: {}", tame(code), tame(reason)), Style::Faint));
    }
    if let Some(text) = cold_starts(service) {
        lines.push(("cold starts", text, Style::Plain));
    }
    if let Some(replicas) = Replicas::of(&service.observed) {
        lines.push(("replicas", replicas_text(&replicas), Style::Plain));
    }
    for error in &service.observe_errors {
        lines.push(("not seen", tame(error), Style::Warning));
    }
    lines
}

/// By code, the most frequent first.
fn answers(service: &ServiceRun) -> String {
    let mut codes: Vec<_> = service.codes.iter().collect();
    codes.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let all: u64 = codes.iter().map(|(_, n)| **n).sum();
    if all == 0 {
        return "none".into();
    }
    let shown = codes.iter().take(CODES_MOST);
    let mut text = shown
        .map(|(code, n)| format!("{} {} ({})", tame(code), count(**n), share(**n, all)))
        .collect::<Vec<_>>()
        .join(" · ");
    if codes.len() > CODES_MOST {
        let _ = write!(text, " · {} other codes", codes.len() - CODES_MOST);
    }
    text
}

/// How many, and where their time went.
pub(crate) fn cold_starts(service: &ServiceRun) -> Option<String> {
    let starts = &service.starts;
    if starts.is_empty() {
        return None;
    }
    let of = |part: fn(&crate::run::ColdStart) -> Option<f64>| {
        let mut values: Vec<f64> = starts.iter().filter_map(part).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let most = starts.iter().map(|start| start.latency_ms).fold(0.0, f64::max);
    let mut text = format!(
        "{} requests waited for one: median {}, longest {}",
        count(service.starts_count.max(starts.len() as u64)),
        ms(of(|start| Some(start.latency_ms)).unwrap_or(0.0)),
        ms(most)
    );
    let parts = [
        ("queue", of(|start| start.queue_ms)),
        ("start", of(|start| start.start_ms)),
        ("ready", of(|start| start.ready_ms)),
    ];
    let parts: Vec<_> =
        parts.into_iter().filter_map(|(what, value)| Some(format!("{what} {}", ms(value?)))).collect();
    if !parts.is_empty() {
        let _ = write!(text, " (medians: {})", parts.join(", "));
    }
    Some(text)
}

/// How many there were, and what they came to.
pub(crate) fn replicas_text(replicas: &Replicas) -> String {
    let mut text = format!(
        "{} to {} ready; {} replica-seconds",
        replicas.ready_least,
        replicas.ready_most,
        number(replicas.ready_s)
    );
    if replicas.starting_s > 0.0 {
        let _ = write!(text, " and {} starting", number(replicas.starting_s));
    }
    if let Some(most) = replicas.queued_most {
        let _ = write!(text, "; at most {} waiting", count(most));
    }
    if let Some(most) = replicas.in_flight_most {
        let _ = write!(text, ", {} in flight", count(most));
    }
    text
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::super::samples::Sample;
    use super::*;

    #[test]
    fn fits_a_terminal_and_reads_without_colour() {
        let mut run = Sample::default().run();
        run.services[0].observe_errors.push("http://127.0.0.1:8081/api: nobody there ".repeat(6));
        run.generator.warnings.push("the generator was late".into());
        let plain = render(&run, Paint::off());
        for expected in [
            "burst at zero",
            "warm-up *",
            "* warm-up: not in \"all\"",
            "503",
            "FAIL  iris first",
            "pass  iris p99",
            "warning: the generator",
            "not seen",
            "5 requests waited",
            "replica-seconds",
            "1 of 2 thresholds",
        ] {
            assert!(plain.contains(expected), "{expected}: {plain}");
        }
        let widest = plain.lines().map(UnicodeWidthStr::width).max().unwrap();
        assert!(widest <= WIDTH, "{widest}: {plain}");
        let mut colourless = String::new();
        let coloured = render(&run, Paint::on());
        assert!(coloured.contains("\u{1b}[31;1m"));
        for piece in coloured.split('\u{1b}') {
            colourless
                .push_str(piece.strip_prefix('[').map_or(piece, |code| code.split_once('m').unwrap().1));
        }
        assert_eq!(colourless, plain);
    }

    #[test]
    fn many_services_are_rows() {
        let run = Sample {
            services: (0..40).map(|i| format!("wake-{i}")).collect(),
            seconds: 5,
            ..Sample::default()
        }
        .run();
        let lines = render(&run, Paint::off());
        assert_eq!(
            lines.lines().filter(|line| line.starts_with("wake-") && line.contains("  ")).count(),
            40,
            "{lines}"
        );
        assert!(lines.contains("cold starts: 200"), "{lines}");
    }
}
