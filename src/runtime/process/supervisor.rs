//! Keeps as many replicas of one service as are wanted, of the spec that is in force.
//!
//! One task per service, woken by changes only. What is wanted is level-triggered: a number and a spec that the task
//! compares with what it has, so a missed or doubled notice does no harm. Each replica is a task of its own
//! ([`super::replica`]) that reports what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::logs::LogSink;
use super::machine::Machine;
use super::replica::{self, Report};
use crate::activator::service::{Service, Trouble};
use crate::clock;
use crate::config::spec::ServiceSpec;
use crate::events::Kind;
use crate::policy::Starts;
use crate::policy::dispatch::ReplicaId;

/// Reports that may wait for the supervisor; a replica waits for room.
const REPORTS: usize = 64;
/// Logs of replicas that are gone, kept for the admin API.
const PAST_LOGS: usize = 5;

/// What the rest of the program sees of a service's replicas.
#[derive(Debug, Default)]
pub struct Replicas {
    desired: AtomicU32,
    /// Starting or ready, and meant to stay.
    present: AtomicU32,
    /// Of these, those that start.
    starting: AtomicU32,
    /// Every process, leaving ones too.
    alive: AtomicU32,
    stopping: AtomicBool,
    changed: Notify,
    gone: CancellationToken,
    view: Mutex<View>,
}

#[derive(Debug, Default)]
struct View {
    replicas: Vec<ReplicaView>,
    past: Vec<(String, LogSink)>,
}

/// One replica, for the admin API.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaView {
    /// Its name: the service's and a number.
    pub id: String,
    /// In the line.
    #[serde(skip)]
    pub replica: ReplicaId,
    /// Its process; 0 before there is one.
    pub pid: u32,
    /// Where it listens; 0 before there is a port.
    pub port: u16,
    /// Where it is in its life.
    pub phase: Phase,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Its output.
    #[serde(skip)]
    pub log: Option<LogSink>,
}

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its environment is made, or its process starts.
    Starting,
    /// In the line.
    Ready,
    /// Was ready, and is being looked at again.
    Unready,
    /// Finishes what it has.
    Draining,
}

/// The task.
#[derive(Debug)]
pub struct Supervisor {
    machine: Arc<Machine>,
    service: Arc<Service>,
    shared: Arc<Replicas>,
    reports: mpsc::Receiver<(ReplicaId, Report)>,
    reporter: mpsc::Sender<(ReplicaId, Report)>,
    spec: Arc<ServiceSpec>,
    generation: u64,
    replicas: BTreeMap<ReplicaId, Entry>,
    starts: Starts,
    /// The generation that was last seen ready. While a newer one cannot start, its replicas are replaced when they
    /// die: a bad edit must not end a service that ran.
    good: Option<(u64, Arc<ServiceSpec>)>,
    good_starts: Starts,
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    spec: Arc<ServiceSpec>,
    view: ReplicaView,
    stop: CancellationToken,
}

// === impl Replicas ===

impl Replicas {
    /// Replicas wanted.
    pub fn desired(&self) -> u32 {
        self.desired.load(Ordering::Relaxed)
    }

    /// Replicas that start or are ready, and are meant to stay.
    pub fn present(&self) -> u32 {
        self.present.load(Ordering::Relaxed)
    }

    /// Replicas that start.
    pub fn starting(&self) -> u32 {
        self.starting.load(Ordering::Relaxed)
    }

    /// Replicas of any kind, leaving ones too.
    pub fn alive(&self) -> u32 {
        self.alive.load(Ordering::Relaxed)
    }

    /// Wants this many.
    pub fn scale(&self, desired: u32) {
        self.desired.store(desired, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// The service's spec has changed.
    pub fn update(&self) {
        self.changed.notify_one();
    }

    /// Stops all, for good. Resolves when the last process is gone.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_one();
        self.gone.cancelled().await;
    }

    /// What there is now, oldest first.
    pub fn view(&self) -> Vec<ReplicaView> {
        self.view.lock().replicas.clone()
    }

    /// Logs of those that are gone, newest last.
    pub fn past_logs(&self) -> Vec<(String, LogSink)> {
        self.view.lock().past.clone()
    }
}

// === impl Supervisor ===

impl Supervisor {
    /// Starts supervising; nothing is wanted yet.
    pub fn spawn(machine: Arc<Machine>, service: Arc<Service>) -> Arc<Replicas> {
        let shared = Arc::new(Replicas::default());
        let (reporter, reports) = mpsc::channel(REPORTS);
        let spec = service.spec();
        let supervisor = Self {
            machine,
            service,
            shared: shared.clone(),
            reports,
            reporter,
            spec,
            generation: 0,
            replicas: BTreeMap::new(),
            starts: Starts::default(),
            good: None,
            good_starts: Starts::default(),
        };
        tokio::spawn(supervisor.run());
        shared
    }

    async fn run(mut self) {
        let _vital = self.machine.vital();
        loop {
            let again = self.reconcile(clock::now());
            self.publish();
            if self.shared.stopping.load(Ordering::Relaxed) && self.replicas.is_empty() {
                break;
            }
            let due = again.unwrap_or_else(clock::now);
            tokio::select! {
                () = self.shared.changed.notified() => {}
                Some((id, report)) = self.reports.recv() => self.learn(id, report),
                () = tokio::time::sleep_until(due.into()), if again.is_some() => {}
            }
        }
        self.shared.gone.cancel();
    }

    /// Starts and stops what is needed. Returns when to look again, if time alone may change something.
    fn reconcile(&mut self, now: Instant) -> Option<Instant> {
        if self.shared.stopping.load(Ordering::Relaxed) {
            self.stop_where(|_| true, usize::MAX);
            return None;
        }
        self.take_spec();
        let wanted = self.shared.desired() as usize;
        let current = self.generation;
        let ready = self.count(|e| e.generation == current && e.view.phase == Phase::Ready);
        // The old ones serve until as many new ones can.
        let old = self.count(|e| e.generation != current && e.staying());
        self.stop_where(|e| e.generation != current, old.saturating_sub(wanted.saturating_sub(ready)));

        let present = self.count(|e| e.generation == current && e.staying());
        if present > wanted {
            self.stop_where(|e| e.generation == current, present - wanted);
            return None;
        }
        let missing = wanted - present;
        if missing == 0 {
            return None;
        }
        let fallback = if self.starts.given_up() && ready == 0 { self.fall_back(now, wanted) } else { None };
        if let Err(due) = self.starts.may_start(now) {
            return Some(fallback.map_or(due, |fallback| fallback.min(due)));
        }
        // After a failed start one is tried, not all of them.
        let starting = self.count(|e| e.generation == current && e.view.phase == Phase::Starting);
        let at_once = if self.starts.failures() == 0 { missing } else { 1usize.saturating_sub(starting) };
        for _ in 0..missing.min(at_once) {
            self.start(self.generation, self.spec.clone());
        }
        fallback
    }

    /// Keeps up the generation that ran, while the one in force cannot start. Returns when to look again.
    fn fall_back(&mut self, now: Instant, wanted: usize) -> Option<Instant> {
        let (generation, spec) = self.good.clone()?;
        let present = self.count(|e| e.generation != self.generation && e.staying());
        if generation == self.generation || present >= wanted {
            return None;
        }
        if let Err(due) = self.good_starts.may_start(now) {
            return Some(due);
        }
        self.start(generation, spec);
        None
    }

    /// Takes the spec in force. Only a change of what runs makes a new generation; limits and scaling do not.
    fn take_spec(&mut self) {
        let spec = self.service.spec();
        if Arc::ptr_eq(&spec, &self.spec) {
            return;
        }
        let same = spec.runs_as(&self.spec);
        self.spec = spec;
        if !same {
            self.generation += 1;
            self.starts = Starts::default();
            self.good_starts = Starts::default();
            self.service.clear_trouble();
        }
    }

    fn start(&mut self, generation: u64, spec: Arc<ServiceSpec>) {
        let id = self.machine.next_replica();
        // The number is the machine's, so that no two replicas of any services ever share a name.
        let name = format!("{}-{id}", self.service.key.name);
        let stop = CancellationToken::new();
        self.service.metrics.started();
        let view = ReplicaView {
            id: name.clone(),
            replica: id,
            pid: 0,
            port: 0,
            phase: Phase::Starting,
            started_ms: clock::wall_millis(),
            log: None,
        };
        self.replicas.insert(id, Entry { generation, spec: spec.clone(), view, stop: stop.clone() });
        let context = replica::Context {
            machine: self.machine.clone(),
            service: self.service.clone(),
            spec,
            id,
            name,
            stop,
            reports: self.reporter.clone(),
        };
        tokio::spawn(replica::run(context));
    }

    /// Stops up to `count` of those that match and stay: who is not ready first, then who has least to do, then the
    /// youngest.
    fn stop_where(&mut self, matches: impl Fn(&Entry) -> bool, count: usize) {
        let mut candidates: Vec<(bool, u32, std::cmp::Reverse<ReplicaId>)> = self
            .replicas
            .iter()
            .filter(|(_, entry)| entry.staying() && matches(entry))
            .map(|(id, entry)| {
                let ready = entry.view.phase == Phase::Ready;
                (ready, self.service.line.in_flight_at(*id), std::cmp::Reverse(*id))
            })
            .collect();
        candidates.sort_unstable();
        let served = self.count(|e| e.view.phase == Phase::Ready) > 0;
        for (_, _, std::cmp::Reverse(id)) in candidates.into_iter().take(count) {
            let entry = self.replicas.get_mut(&id).expect("it was listed above");
            entry.view.phase = Phase::Draining;
            // Out of the set now, not when its task runs: nothing new may reach it from here on.
            self.service.leave(id);
            entry.stop.cancel();
        }
        if served && self.count(|e| e.view.phase == Phase::Ready) == 0 {
            self.starts.last_one_left();
        }
    }

    fn learn(&mut self, id: ReplicaId, report: Report) {
        let now = clock::now();
        let key = self.service.key.clone();
        let events = self.machine.events.clone();
        let Some(entry) = self.replicas.get_mut(&id) else { return };
        let name = entry.view.id.clone();
        let current = entry.generation == self.generation;
        match report {
            Report::Spawned { pid, port, log } => {
                entry.view.pid = pid;
                entry.view.port = port;
                entry.view.log = Some(log);
                events.emit(
                    Kind::Started,
                    Some(&key),
                    format!("starting {name} (process {pid}, port {port})"),
                );
            }
            Report::Ready { took } => {
                if entry.staying() {
                    entry.view.phase = Phase::Ready;
                }
                if let Some(took) = took {
                    self.service.metrics.ready(took);
                    self.service.learn(|learned| learned.started(took));
                    let took = show(took);
                    events.emit(Kind::Ready, Some(&key), format!("{name} is ready in {took}"));
                } else {
                    events.emit(Kind::Ready, Some(&key), format!("{name} is ready again"));
                }
                // An old one that was looked at again does not make its generation the last good one.
                if self.good.as_ref().is_none_or(|(good, _)| *good <= entry.generation) {
                    self.good = Some((entry.generation, entry.spec.clone()));
                }
                if current {
                    self.starts.succeeded();
                    self.service.clear_trouble();
                } else {
                    self.good_starts.succeeded();
                }
            }
            Report::Unready { doubt, pause } => {
                if entry.staying() {
                    entry.view.phase = Phase::Unready;
                }
                self.service.metrics.ejected(doubt.kind);
                let again = if pause.is_zero() { "now".into() } else { format!("in {}", show(pause)) };
                let message = format!("{name} left the set: {}; it is asked again {again}", doubt.why);
                events.emit(Kind::Ejected, Some(&key), message);
            }
            Report::Stopped { exit } => {
                self.forget(id);
                events.emit(Kind::Stopped, Some(&key), format!("stopped {name} ({exit})"));
                if self.replicas.is_empty() && self.shared.desired() == 0 {
                    events.emit(Kind::Zero, Some(&key), "at zero: no process is left");
                }
            }
            Report::Died { exit, lived } => {
                self.forget(id);
                events.emit(
                    Kind::Died,
                    Some(&key),
                    format!("{name} died after {} ({exit}); restarting", show(lived)),
                );
                let starts = if current { &mut self.starts } else { &mut self.good_starts };
                starts.died_after_ready(now, lived);
                if self.count(|e| e.view.phase == Phase::Ready) == 0 {
                    // Those who wait behind it get the next start's outcome, not an older one's.
                    self.starts.last_one_left();
                    self.service.clear_trouble();
                }
            }
            Report::Failed { reason, fatal } => {
                // A command that cannot run leaves no output; the reason is what its log says then.
                if entry.view.log.is_none() {
                    entry.view.log.insert(LogSink::memory()).note(&format!("pilotlight: {reason}"));
                }
                self.forget(id);
                self.service.metrics.start_failed();
                events.emit(Kind::StartFailed, Some(&key), format!("{name} did not start: {reason}"));
                self.failed(now, current, &reason, fatal);
            }
        }
    }

    fn failed(&mut self, now: Instant, current: bool, reason: &str, fatal: bool) {
        let starts = if current { &mut self.starts } else { &mut self.good_starts };
        starts.failed(now, fatal);
        if !starts.given_up() {
            return;
        }
        let until = starts.may_start(now).err().unwrap_or(now);
        let failures = starts.failures();
        let wait = show(until.saturating_duration_since(now));
        self.machine.events.emit(
            Kind::Failing,
            Some(&self.service.key),
            format!("cannot start ({failures} failed in a row); next attempt in {wait}"),
        );
        // Who waits is refused, unless something else may serve them soon.
        if self.service.line.replicas() > 0 || !self.another_may_serve() {
            let reason = format!("the service cannot start: {reason}").into();
            self.service.set_trouble(Trouble { reason, code: "cannot_start", failures, until });
        }
    }

    /// Whether there is hope besides starts of the spec in force: a replica that is only being looked at again
    /// (quietly at first, as `Ready`), or the generation that ran.
    fn another_may_serve(&self) -> bool {
        let ran = self.good.as_ref().is_some_and(|(good, _)| *good != self.generation);
        (ran && !self.good_starts.given_up())
            || self.count(|e| matches!(e.view.phase, Phase::Ready | Phase::Unready)) > 0
    }

    fn forget(&mut self, id: ReplicaId) {
        let Some(entry) = self.replicas.remove(&id) else { return };
        if let Some(log) = entry.view.log {
            let mut view = self.shared.view.lock();
            if view.past.len() == PAST_LOGS {
                view.past.remove(0);
            }
            view.past.push((entry.view.id, log));
        }
    }

    fn count(&self, matches: impl Fn(&Entry) -> bool) -> usize {
        self.replicas.values().filter(|entry| matches(entry)).count()
    }

    fn publish(&self) {
        let present = self.count(|e| e.generation == self.generation && e.staying());
        self.shared.present.store(present as u32, Ordering::Relaxed);
        let starting = self.count(|e| e.view.phase == Phase::Starting);
        self.shared.starting.store(starting as u32, Ordering::Relaxed);
        self.shared.alive.store(self.replicas.len() as u32, Ordering::Relaxed);
        self.shared.view.lock().replicas = self.replicas.values().map(|entry| entry.view.clone()).collect();
    }
}

// === impl Entry ===

impl Entry {
    fn staying(&self) -> bool {
        self.view.phase != Phase::Draining
    }
}

/// A duration as people say it.
pub(super) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}
