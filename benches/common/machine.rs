//! Where it is measured: figures without their machine say little.

use std::fs;

/// Prints processor, kernel and load, and a warning when others use the processors.
pub(crate) fn print() {
    println!("machine: {}; load {}", name(), load());
    if load().split(' ').next().and_then(|one| one.parse().ok()).is_some_and(|load: f64| load > 0.5) {
        println!(
            "warning: other programs are busy, or were a minute ago; figures are worse than they could be"
        );
    }
}

/// Processor and kernel.
pub(crate) fn name() -> String {
    // Not how many this program may use: it may have been given only some.
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {cores} cores, Linux {}", model(), kernel.trim())
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
