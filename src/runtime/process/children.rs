//! The children of this process. The kernel keeps one table of them per process; this is its counterpart.
//!
//! `serve` adopts: what a replica's processes leave behind comes to it and not to init, so a daemon without a trace of
//! its origin still has a parent that knows what it did not start itself. Whose such a process is cannot be told, but
//! whose it is not can: those that started after it. Once none is alive that could have started it, it is ended.
//!
//! Adopted zombies are reaped by number, and only numbers that are not in the table: the status of a child that
//! somebody waits for is never taken (`waitpid(-1)` would).

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{
    Pid, Resource, Rlimit, WaitOptions, getpgrp, getpid, getrlimit, prlimit, set_child_subreaper, setrlimit,
    waitpid,
};
use tokio::signal::unix::{SignalKind, signal};

use super::kin::Held;
use super::procfs::{self, Stat};

/// From a child's death to the look for adopted zombies: many may die at once, and a look costs milliseconds.
const REAP_PAUSE: Duration = Duration::from_secs(1);

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

#[derive(Debug, Default)]
struct Table {
    /// Those that somebody waits for, each with a number of its own: the kernel gives ids out again.
    known: HashMap<i32, u64>,
    spawned: u64,
    /// What children may open; none: what this process may.
    files: Option<Rlimit>,
    /// There when this process adopts.
    before: Option<Before>,
}

/// What came with this process, such as `sh -c 'something & exec pilotlight …'`: nobody's replica.
#[derive(Debug)]
struct Before {
    pids: HashSet<i32>,
    groups: HashSet<i32>,
}

/// A child that somebody waits for, until this is dropped: do so once it is reaped.
#[derive(Debug)]
pub(crate) struct Known {
    child: Child,
    serial: u64,
}

/// The limit of open files is lowered for as long as this lives.
struct Lowered(Rlimit);

/// Starts a process. This is the only way to have a child here: others are taken for adopted ones.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Known> {
    let mut table = TABLE.lock();
    let table = table.get_or_insert_default();
    let lowered = table.files.as_ref().and_then(Lowered::new);
    let spawned = command.spawn();
    let was_lowered = lowered.is_some();
    drop(lowered);
    let child = spawned?;
    if let (Some(limit), false) = (&table.files, was_lowered) {
        // It may have looked already; that is better than to have no descriptors left here.
        let _ = prlimit(Some(Pid::from_child(&child)), Resource::Nofile, *limit);
    }
    table.spawned += 1;
    let serial = table.spawned;
    table.known.insert(child.id().cast_signed(), serial);
    Ok(Known { child, serial })
}

/// What children shall be able to open from now on, when this process has raised its own limit.
pub(crate) fn limit_files(limit: Rlimit) {
    TABLE.lock().get_or_insert_default().files = Some(limit);
}

/// From now on descendants that lose their parent become children of this process. Needs a tokio runtime.
pub(crate) fn adopt() -> io::Result<()> {
    let mut died = signal(SignalKind::child())?;
    let own = getpid();
    let all = procfs::living();
    let mut pids = HashSet::from([own.as_raw_pid()]);
    let mut groups = HashSet::from([getpgrp().as_raw_pid()]);
    // Until nothing is added: parents may come after their children.
    while let Some(stat) = all.iter().find(|stat| pids.contains(&stat.parent) && !pids.contains(&stat.pid)) {
        pids.insert(stat.pid);
        groups.insert(stat.group);
    }
    TABLE.lock().get_or_insert_default().before = Some(Before { pids, groups });
    set_child_subreaper(Some(own))?;
    tokio::spawn(async move {
        while died.recv().await.is_some() {
            tokio::time::sleep(REAP_PAUSE).await;
            let _ = tokio::task::spawn_blocking(reap).await;
        }
    });
    Ok(())
}

/// Adopted processes that nothing which is alive can have started.
pub(super) fn abandoned() -> Vec<Held> {
    let own = getpid().as_raw_pid();
    let all = procfs::living();
    let table = TABLE.lock();
    let Some(Table { known, before: Some(before), .. }) = &*table else { return Vec::new() };
    if own == 1 {
        return Vec::new(); // whatever enters the container comes to us, too
    }
    let oldest = all.iter().filter(|stat| known.contains_key(&stat.pid)).map(|stat| stat.start).min();
    let is_adopted = |stat: &Stat| {
        stat.parent == own
            && !known.contains_key(&stat.pid)
            && !before.pids.contains(&stat.pid)
            && !before.groups.contains(&stat.group)
    };
    let is_abandoned = |stat: &Stat| is_adopted(stat) && oldest.is_none_or(|oldest| stat.start < oldest);
    all.into_iter().filter(is_abandoned).filter_map(Held::new).collect()
}

/// Reaps what was adopted and has ended.
fn reap() {
    let own = getpid().as_raw_pid();
    let zombies = procfs::pids().into_iter().filter_map(procfs::stat);
    let zombies: Vec<i32> =
        zombies.filter(|stat| stat.parent == own && !stat.alive()).map(|stat| stat.pid).collect();
    // Under the lock no child is started, so none of these numbers becomes that of a known one.
    let table = TABLE.lock();
    for pid in zombies {
        if !table.as_ref().is_some_and(|table| table.known.contains_key(&pid)) {
            let _ = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
        }
    }
}

// === impl Known ===

impl Known {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let pid = self.child.id().cast_signed();
        if let Some(table) = &mut *TABLE.lock()
            && table.known.get(&pid) == Some(&self.serial)
        {
            table.known.remove(&pid);
        }
    }
}

// === impl Lowered ===

impl Lowered {
    /// A limit is the process's, not the thread's, and `pre_exec` would cost `posix_spawn`: so this process has it too
    /// while it spawns, for some 20 µs more. Only when more than half of it is free: the data path opens connections
    /// meanwhile. Setting the child's afterwards is the worse way: on a busy machine one shell in seven had looked before.
    fn new(limit: &Rlimit) -> Option<Self> {
        // The kernel gives the lowest free number.
        let next = File::open("/dev/null").ok()?.as_raw_fd();
        if limit.current.is_some_and(|most| u64::from(next.cast_unsigned()) >= most / 2) {
            return None;
        }
        let own = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, *limit).ok()?;
        Some(Self(own))
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        if let Err(error) = setrlimit(Resource::Nofile, self.0) {
            tracing::warn!(%error, "cannot raise the limit of open files again");
        }
    }
}
