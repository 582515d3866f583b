//! What `/proc` says about processes. Everything read here may be gone a moment later.

use std::fs;
use std::path::PathBuf;

/// The fields of `/proc/PID/stat` that are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(super) pid: i32,
    pub(crate) name: String,
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Field 22, ticks since boot: with the pid and the boot it identifies a process.
    pub(crate) start: u64,
}

/// The process's, or none when there is no such process.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&String::from_utf8_lossy(&bytes))
}

pub(crate) fn parse(text: &str) -> Option<Stat> {
    // The name is in parentheses and may itself hold spaces and parentheses: the last `)` ends it.
    let (head, tail) = text.rsplit_once(')')?;
    let (pid, name) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    Some(Stat {
        pid: pid.trim().parse().ok()?,
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

/// Every process id, in no order.
pub(super) fn pids() -> Vec<i32> {
    let Ok(dir) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    dir.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Every process that is not a zombie.
pub(super) fn living() -> Vec<Stat> {
    pids().into_iter().filter_map(stat).filter(Stat::alive).collect()
}

/// Whether the process's environment, as it was at `exec`, has this `NAME=value`. False where it may not be read.
pub(super) fn environ_has(pid: i32, entry: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|e| e == entry.as_bytes()))
}

/// A number of this boot; process ids and start times mean nothing in another.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The directory of open files.
pub(super) fn fd_dir(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/fd"))
}

/// What one of this process's own open files is, such as `pipe:[4242]`.
pub(super) fn fd_link(fd: i32) -> String {
    let link = fs::read_link(format!("/proc/self/fd/{fd}"));
    link.ok().and_then(|link| link.into_os_string().into_string().ok()).unwrap_or_default()
}

// === impl Stat ===

impl Stat {
    /// Neither a zombie nor about to vanish.
    pub(super) fn alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = "42 (a) b (c) S 1 41 40 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 987 11 12";
        let got = parse(text).unwrap();
        assert_eq!(
            (got.pid, got.name.as_str(), got.parent, got.group, got.start),
            (42, "a) b (c", 1, 41, 987)
        );
        assert_eq!(parse("42 (x"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn knows_this_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        let got = stat(own).unwrap();
        assert!(got.alive() && got.start > 0);
        assert!(pids().contains(&own) && living().iter().any(|s| s.pid == own));
        assert_eq!(stat(i32::MAX), None);
        assert!(!boot_id().is_empty());
    }
}
