//! Where it is measured: figures without their machine say little.

use std::fs;

/// Prints processor, kernel and load, and a warning when others use the processors.
pub(crate) fn print() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("machine: {}, {cores} cores, Linux {}; load {}", model(), kernel.trim(), load());
    if load().split(' ').next().and_then(|one| one.parse().ok()).is_some_and(|load: f64| load > 0.5) {
        println!(
            "warning: other programs are busy, or were a minute ago; figures are worse than they could be"
        );
    }
}

/// The load averages of 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or_else(|| "?".to_owned(), |line| line.trim_start_matches([' ', '\t', ':']).to_owned())
}
