//! Eyes on `/proc`.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A live process that belongs to a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proc {
    pub(crate) pid: u32,
    /// Arguments joined by blanks.
    pub(crate) command: String,
}

/// All live processes with `mark` in their environment or arguments. Zombies have neither and do not show.
pub(crate) fn marked(mark: &Path) -> Vec<Proc> {
    let mark = mark.as_os_str().as_encoded_bytes();
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            // Not ours, or gone meanwhile: unreadable.
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let command = String::from_utf8_lossy(&arguments).replace('\0', " ").trim_end().to_owned();
            (contains(&arguments, mark) || contains(&environment, mark)).then_some(Proc { pid, command })
        })
        .collect()
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|part| part == needle)
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Neither gone nor a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields[0].as_str(), "Z" | "X"))
}

/// Children of `pid` that ended and were not waited for.
pub(crate) fn zombies(pid: u32) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = pid.to_string();
    pids.filter_map(stat).filter(|fields| fields[0] == "Z" && fields[1] == parent).count()
}

/// Resident memory.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// User and system time so far. The kernel counts in ticks of 10 ms.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let fields = stat(pid).unwrap();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Fields of `/proc/PID/stat` from the state on (proc(5) counts it as 3): the name before it may hold blanks.
fn stat(pid: u32) -> Option<Vec<String>> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = line.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

// === impl Proc ===

impl fmt::Display for Proc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.command)
    }
}

/// Lets this test have as many open files as the system allows it: a shell's usual 1,024 are few.
pub(crate) fn raise_open_files(needed: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    assert!(most.is_none_or(|most| most >= needed), "needs {needed} open files; `ulimit -Hn` says {most:?}");
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}
