//! Processor time of other processes.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// What the threads of a process have done so far.
///
/// `utime` and `stime` of `/proc/PID/stat` count in ticks of 10 ms, which is too coarse for a program that does nothing;
/// this is exact, but what a thread did is gone when it ends.
pub(crate) struct Threads(BTreeMap<u32, Done>);

/// Since an earlier look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) ran: Duration,
    /// Context switches, voluntary or not.
    pub(crate) switches: u64,
}

// === impl Threads ===

impl Threads {
    pub(crate) fn look(pid: u32) -> Self {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives").flatten();
        let of_one = |thread: fs::DirEntry| {
            let id = thread.file_name().to_str()?.parse().ok()?;
            let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let ran = Duration::from_nanos(schedstat.split(' ').next()?.parse().ok()?);
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            let switches = status.lines().filter(|line| line.contains("ctxt_switches:"));
            let switches =
                switches.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum();
            Some((id, Done { ran, switches }))
        };
        Self(threads.filter_map(of_one).collect())
    }

    /// By those that are still there.
    pub(crate) fn since(&self, earlier: &Self) -> Done {
        let mut all = Done::default();
        for (id, now) in &self.0 {
            let before = earlier.0.get(id).copied().unwrap_or_default();
            all.ran += now.ran.saturating_sub(before.ran);
            all.switches += now.switches.saturating_sub(before.switches);
        }
        all
    }
}
