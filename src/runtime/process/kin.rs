//! Which processes belong to a replica besides its group.
//!
//! A process may leave the group, clear its environment and lose its parent. It is known by any of these, and each
//! outlives another one's loss:
//!
//! - it descends from the group, as long as those in between live;
//! - the marks in its environment, as that was at `exec`;
//! - its standard output or error is the replica's log, a pipe that nobody else has.
//!
//! What shows none of them is left to [`super::children`].

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::procfs::{self, Stat};

/// Strays that are held at a time; what is beyond is found by the next look.
const MOST_HELD: usize = 256;

/// What tells a replica's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kin {
    /// Also the group's id, for as long as the leader is not reaped.
    pub(super) leader: i32,
    /// The leader's; nothing of it is older.
    pub(super) start: u64,
    /// Entries of the environment, all of which a process must have; none: the environment says nothing.
    pub(super) marks: Vec<String>,
    /// What `/proc/PID/fd/N` of the log's write end links to; empty: unknown.
    pub(super) pipe: String,
}

/// A process that is held by a pidfd: what is signalled is this one, or nobody.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) stat: Stat,
    pidfd: OwnedFd,
}

// === impl Kin ===

impl Kin {
    /// Every living process of it but the leader. Looks at every process of the machine, so not on the control thread.
    pub(super) fn members(&self) -> Vec<Stat> {
        // A number means nothing once its process is reaped.
        let pinned = self.is_pinned();
        let all = procfs::living();
        let mut children: HashMap<i32, Vec<&Stat>> = HashMap::new();
        for stat in &all {
            children.entry(stat.parent).or_default().push(stat);
        }
        let grouped = |stat: &Stat| pinned && (stat.group == self.leader || stat.pid == self.leader);
        let mut found: Vec<&Stat> = all.iter().filter(|stat| grouped(stat) || self.shows(stat)).collect();
        let mut seen: HashSet<i32> = found.iter().map(|stat| stat.pid).collect();
        let mut next = 0;
        while let Some(parent) = found.get(next) {
            next += 1;
            let own = children.get(&parent.pid).into_iter().flatten().copied();
            found.extend(own.filter(|stat| seen.insert(stat.pid)).collect::<Vec<_>>());
        }
        found.into_iter().filter(|stat| stat.pid != self.leader).cloned().collect()
    }

    /// Those of them that a signal to the group does not reach.
    pub(super) fn strays(&self) -> Vec<Held> {
        let outside = self.members().into_iter().filter(|stat| stat.group != self.leader);
        outside.filter_map(Held::new).take(MOST_HELD).collect()
    }

    /// Whether the leader is there, as a zombie at least.
    pub(super) fn is_pinned(&self) -> bool {
        procfs::stat(self.leader).is_some_and(|stat| stat.start == self.start)
    }

    fn shows(&self, stat: &Stat) -> bool {
        stat.start >= self.start && (self.is_marked(stat.pid) || self.writes_our_log(stat.pid))
    }

    fn is_marked(&self, pid: i32) -> bool {
        !self.marks.is_empty() && self.marks.iter().all(|mark| procfs::environ_has(pid, mark))
    }

    fn writes_our_log(&self, pid: i32) -> bool {
        let is_ours = |fd: &str| {
            fs::read_link(procfs::fd_dir(pid).join(fd))
                .is_ok_and(|link| link.as_os_str() == self.pipe.as_str())
        };
        !self.pipe.is_empty() && (is_ours("1") || is_ours("2"))
    }
}

// === impl Held ===

impl Held {
    /// Holds the process that was seen, unless it is gone.
    pub(super) fn new(stat: Stat) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(stat.pid)?, PidfdFlags::empty()).ok()?;
        let held = Self { stat, pidfd };
        held.is_alive().then_some(held)
    }

    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    pub(super) fn is_alive(&self) -> bool {
        procfs::stat(self.stat.pid).is_some_and(|now| now.start == self.stat.start && now.alive())
    }
}
