//! Prints what was measured, beside what it should be.

use crate::common::machine;
use crate::common::wrk::Run;
use crate::options::Options;
use crate::proxies::Kind;
use crate::rounds::Figures;
use crate::rows::Row;

/// At most, and aimed at: CPU per request, as a share of HAProxy's.
fn bound(row: Row, kind: Kind) -> Option<(f64, f64)> {
    match (row, kind) {
        (Row::H1x1, Kind::QueueProxy) => Some((1.05, 0.95)),
        (Row::H1x32, Kind::QueueProxy) => Some((1.10, 0.95)),
        (Row::H1x32, Kind::Serve4) => Some((1.25, 1.05)),
        _ => None,
    }
}

pub(crate) fn print(row: Row, options: &Options, direct: &Run, figures: &[Figures]) {
    println!("\n### {}: {}\n", row.name(), row.what());
    println!(
        "Medians of {} rounds of {} s; load at the end: {}\n",
        options.rounds,
        options.seconds,
        machine::load()
    );
    println!(
        "| way | CPU/request | min–max | × HAProxy | at most | aim | | requests/s | p50 | p99 | failed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    println!(
        "| direct | | | | | | | {:.0} | {:.0} µs | {:.0} µs | {} |",
        direct.per_second, direct.p50, direct.p99, direct.failed
    );
    for f in figures {
        let ratio = f.ratio.median();
        print!(
            "| {} | {:.1} µs | {:.1}–{:.1} | {ratio:.2} |",
            f.kind.name(),
            f.cpu.median(),
            f.cpu.min(),
            f.cpu.max()
        );
        match bound(row, f.kind) {
            Some((most, aim)) => print!(" {most:.2} | {aim:.2} | {} |", verdict(ratio, most, aim)),
            None => print!(" | | |"),
        }
        let [rate, p50, p99] = [&f.per_second, &f.p50, &f.p99].map(crate::common::samples::Samples::median);
        println!(" {rate:.0} | {p50:.0} µs | {p99:.0} µs | {} |", f.failed);
    }
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
