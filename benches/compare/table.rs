//! What was measured, beside what it should be, as a table of Markdown.

use std::fmt::Write as _;

use crate::common::samples::Samples;
use crate::loads::Load;
use crate::rounds::{Direct, Figures};
use crate::rows::Row;

/// "1.25 × or +100 µs": the better of the two.
const P99_SHARE: f64 = 1.25;
const P99_MORE: f64 = 100.0;

pub(crate) fn of(row: Row, load: &Load, direct: &Direct, figures: &[Figures]) -> String {
    let mut text = String::new();
    if let Load::Paced { per_second, .. } = load {
        let _ = writeln!(text, "{per_second:.0} requests/s.\n");
    }
    text.push_str(
        "| way | CPU/request | least–most | × HAProxy | at most | aim | | requests/s | p50 | p99 | failed | memory before → after |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    let [rate, p50, p99] = [&direct.per_second, &direct.p50, &direct.p99].map(Samples::median);
    let _ = writeln!(text, "| direct | | | | | | | {rate:.0} | {p50:.0} µs | {p99:.0} µs | | |");
    for one in figures {
        let ratio = one.ratio.median();
        let (cpu, least, most) = (one.cpu.median(), one.cpu.min(), one.cpu.max());
        let _ = write!(text, "| {} | {cpu:.1} µs | {least:.1}–{most:.1} | {ratio:.2} |", one.kind.name());
        let _ = match row.cpu_bound(one.kind) {
            Some((most, aim)) => write!(text, " {most:.2} | {aim:.2} | {} |", verdict(ratio, most, aim)),
            None => write!(text, " | | |"),
        };
        let [rate, p50, p99] = [&one.per_second, &one.p50, &one.p99].map(Samples::median);
        let [before, after] = one.memory;
        let _ = write!(text, " {rate:.0} | {p50:.0} µs | {p99:.0} µs | {} |", failed(one));
        let _ = writeln!(text, " {before} → {after} MiB |");
    }
    match row {
        Row::Half => added(&mut text, figures),
        Row::Overload => at_once(&mut text, figures),
        _ => {}
    }
    text
}

fn failed(one: &Figures) -> String {
    match one.failed {
        0 => "0".to_owned(),
        failed => format!("{failed} of {}", one.requests),
    }
}

/// What a proxy adds to the 99th percentile.
fn added(text: &mut String, figures: &[Figures]) {
    text.push_str("\nOver direct, in the median tenth of a second (the p99 above is of all):\n");
    text.push_str("\n| way | p99 added | least–most | at most | aim | |\n|---|---|---|---|---|---|\n");
    let of_rival = |one: &Figures| {
        let rival = figures.iter().find(|other| other.kind == one.kind.rival());
        rival.map(|rival| rival.calm_added.median())
    };
    for one in figures {
        let added = &one.calm_added;
        let (is, least, most) = (added.median(), added.min(), added.max());
        let _ = write!(text, "| {} | {is:.0} µs | {least:.0}–{most:.0} |", one.kind.name());
        let _ = match of_rival(one) {
            Some(rival) if one.kind.is_ours() => {
                let most = (rival * P99_SHARE).max(rival + P99_MORE);
                writeln!(text, " {most:.0} µs | {rival:.0} µs | {} |", verdict(is, most, rival))
            }
            _ => writeln!(text, " | | |"),
        };
    }
}

/// Whether the limits held.
fn at_once(text: &mut String, figures: &[Figures]) {
    let each: Vec<String> = figures
        .iter()
        .map(|one| {
            let of = if one.kind.replicas() > 1 { " each" } else { "" };
            format!("{} {}{of}", one.kind.name(), one.at_once)
        })
        .collect();
    let _ = writeln!(text, "\nThe most requests that a replica had at once: {}.", each.join(" · "));
    text.push_str("nginx has no queue: what is beyond its limit is answered 502, and its p50 and p99 are of those too.\n");
}

/// In words: NaN is a miss.
pub(crate) fn verdict(is: f64, most: f64, aim: f64) -> &'static str {
    if is <= aim {
        "**aim**"
    } else if is <= most {
        "pass"
    } else {
        "MISS"
    }
}
