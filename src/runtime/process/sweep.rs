//! Finding and killing processes whose identity is proven.
//!
//! Each process is held by a pidfd *before* its identity is read, and the signal goes through that pidfd: if the number
//! was reused in between, the signal meets the dead process and nobody else. Only the group of a recorded leader is
//! signalled by number, right after the leader was seen alive or unreaped, which is what pins the number.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::sleep;

use super::children;
use super::kin::{Held, Kin};
use super::orphans::Identity;
use super::procfs;
use crate::clock;

/// A process that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub pid: i32,
    /// The program's name, as the kernel knows it.
    pub name: String,
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Killed and gone.
    pub killed: Vec<Found>,
    /// Killed, but still there at the deadline: in an uninterruptible wait, or another user's.
    pub left: Vec<Found>,
}

pub(super) struct Sweep {
    /// Entries of the environment that a process must have, all of them.
    marks: Vec<String>,
    pub(super) records: Vec<Identity>,
    /// This process and those that started it: a pilotlight may run inside of what an earlier one left.
    spared: HashSet<i32>,
    boot: String,
}

// === impl Report ===

impl Report {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self.killed.is_empty() && self.left.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |found: &[Found]| {
            let names: Vec<_> = found.iter().map(|one| format!("{} ({})", one.name, one.pid)).collect();
            names.join(", ")
        };
        write!(f, "{} processes: {}", self.killed.len(), list(&self.killed))?;
        if !self.left.is_empty() {
            write!(f, "; still there: {}", list(&self.left))?;
        }
        Ok(())
    }
}

// === impl Sweep ===

impl Sweep {
    pub(super) fn new(marks: Vec<String>) -> Self {
        let mut spared = HashSet::new();
        let mut next = i32::try_from(std::process::id()).unwrap_or(0);
        while next > 0 && spared.insert(next) {
            next = procfs::stat(next).map_or(0, |stat| stat.parent);
        }
        Self { marks, records: Vec::new(), spared, boot: procfs::boot_id() }
    }

    /// Passes over all processes until one finds nothing: what is killed may just have started another.
    pub(super) async fn run(self, at_most: Duration) -> Report {
        let deadline = clock::now() + at_most;
        let mut sweep = self;
        let mut all = BTreeMap::new();
        let mut pause = Duration::from_millis(1);
        loop {
            // Reads a few files per process of the machine: some milliseconds, not on the control thread.
            let pass = tokio::task::spawn_blocking(move || {
                let found = sweep.pass();
                (sweep, found)
            });
            let Ok((back, found)) = pass.await else {
                return Report::default();
            };
            sweep = back;
            let over = found.is_empty() || clock::now() >= deadline;
            all.extend(found.iter().map(|found| (found.pid, found.clone())));
            if over {
                let killed = all.into_values().filter(|one| !found.contains(one)).collect();
                return Report { killed, left: found };
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Kills what is there, and says what that was.
    fn pass(&self) -> Vec<Found> {
        let mut found = Vec::new();
        for record in &self.records {
            found.extend(self.kill_recorded(record));
        }
        for pid in procfs::pids() {
            if !found.iter().any(|f: &Found| f.pid == pid) {
                found.extend(self.kill_marked(pid));
            }
        }
        for held in children::abandoned() {
            if !found.iter().any(|f| f.pid == held.stat.pid) {
                held.signal(Signal::KILL);
                found.push(held.stat.into());
            }
        }
        found
    }

    fn kill_recorded(&self, record: &Identity) -> Vec<Found> {
        if record.boot != self.boot || record.boot.is_empty() || self.spared.contains(&record.pid) {
            return Vec::new();
        }
        let Identity { pid, start, pipe, .. } = record.clone();
        let kin = Kin { leader: pid, start, marks: Vec::new(), pipe };
        // Before anything is killed: afterwards it has other parents.
        let mut strays = kin.strays();
        strays.retain(|stray| !self.spared.contains(&stray.stat.pid));
        let mut found = self.kill_group(record);
        found.extend(strays.into_iter().map(kill));
        found
    }

    /// The leader and its group, if the leader is there.
    fn kill_group(&self, record: &Identity) -> Vec<Found> {
        let Some(leader) = procfs::stat(record.pid).filter(|stat| stat.start == record.start) else {
            return Vec::new();
        };
        if leader.group != record.pid {
            let held = Held::new(leader);
            return held.into_iter().map(kill).collect();
        }
        let Some(group) = Pid::from_raw(record.pid) else { return Vec::new() };
        let living = procfs::living();
        let (spared, members): (Vec<_>, Vec<_>) = living
            .into_iter()
            .filter(|stat| stat.group == record.pid)
            .partition(|stat| self.spared.contains(&stat.pid));
        if spared.is_empty() && !members.is_empty() {
            let _ = kill_process_group(group, Signal::KILL);
            members.into_iter().map(Found::from).collect()
        } else {
            members.into_iter().filter_map(Held::new).map(kill).collect()
        }
    }

    fn kill_marked(&self, pid: i32) -> Option<Found> {
        if self.spared.contains(&pid) {
            return None;
        }
        // A cheap look first: most processes are strangers and need no pidfd.
        if !self.is_marked(pid) {
            return None;
        }
        let held = Held::new(procfs::stat(pid)?)?;
        self.is_marked(pid).then(|| kill(held))
    }

    fn is_marked(&self, pid: i32) -> bool {
        self.marks.iter().all(|mark| procfs::environ_has(pid, mark))
    }
}

// === impl Found ===

impl From<procfs::Stat> for Found {
    fn from(stat: procfs::Stat) -> Self {
        Self { pid: stat.pid, name: stat.name }
    }
}

fn kill(held: Held) -> Found {
    held.signal(Signal::KILL);
    held.stat.into()
}
