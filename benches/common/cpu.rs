//! Processor time of other processes.

use std::fs;
use std::time::Duration;

/// Time that the live threads of a process have run, to the nanosecond. `utime` and `stime` of `/proc/PID/stat` count
/// in ticks of 10 ms, which is too coarse for a program that does nothing.
pub(crate) fn exact(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let ran = threads.flatten().filter_map(|thread| {
        let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(ran.sum())
}

/// Voluntary and other context switches of its live threads.
pub(crate) fn switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let of_one = |status: String| {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches:"));
        lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum::<u64>()
    };
    threads.flatten().filter_map(|t| fs::read_to_string(t.path().join("status")).ok()).map(of_one).sum()
}
