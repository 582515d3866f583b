//! Load in → replicas out: runs `policy/` for every service.
//!
//! What flows in: pokes from the data path when somebody waits, each service's meter once a second while it is
//! awake, commands from the configuration and the admin API. What flows out: a number of replicas to the runtime.
//! A service at zero costs nothing: no timer runs for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};

use crate::activator::service::Service;
use crate::activator::wake::Wakeups;
use crate::clock;
use crate::config::spec::ServiceKey;
use crate::events::{Events, Kind};
use crate::runtime::process::supervisor::Replicas;

pub mod scaler;
#[cfg(test)]
mod tests;

use scaler::{Last, Scaler};

/// The meters are read once a second, as Knative's queue-proxies report.
const TICK: Duration = Duration::from_secs(1);
/// Ticks fall into the middle of the windows' one-second buckets, so that a late one cannot land in the next.
const PHASE: Duration = Duration::from_millis(500);
/// Commands that may wait for the autoscaler; senders are few (one configuration, people).
const COMMANDS: usize = 64;

/// One service with everything that its control loop needs.
#[derive(Debug)]
pub struct Managed {
    /// The data path's side.
    pub service: Arc<Service>,
    /// The runtime's side.
    pub replicas: Arc<Replicas>,
    /// The last decision.
    pub decision: ArcSwapOption<Last>,
}

/// Tells the autoscaler what to do.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    Add(Arc<Managed>),
    Update(ServiceKey),
    Remove(ServiceKey),
    Wake(ServiceKey, oneshot::Sender<bool>),
    Sleep(ServiceKey, oneshot::Sender<bool>),
}

/// The control loop of all services.
#[derive(Debug)]
pub struct Autoscaler {
    commands: mpsc::Receiver<Command>,
    wakeups: Arc<Wakeups>,
    events: Arc<Events>,
    entries: BTreeMap<ServiceKey, Entry>,
    /// Those that are not at rest.
    awake: BTreeSet<ServiceKey>,
    epoch: Instant,
}

#[derive(Debug)]
struct Entry {
    managed: Arc<Managed>,
    scaler: Scaler,
}

// === impl Handle ===

impl Handle {
    /// Takes a new service on.
    pub async fn add(&self, managed: Arc<Managed>) {
        self.send(Command::Add(managed)).await;
    }

    /// A service's spec has changed.
    pub async fn update(&self, key: ServiceKey) {
        self.send(Command::Update(key)).await;
    }

    /// Lets a service go. Its replicas are the remover's to stop.
    pub async fn remove(&self, key: ServiceKey) {
        self.send(Command::Remove(key)).await;
    }

    /// Starts a service as a request would. False when there is none of this name.
    pub async fn wake(&self, key: ServiceKey) -> bool {
        self.ask(|reply| Command::Wake(key, reply)).await
    }

    /// Sends a service to its minimum. False when something waits or runs there.
    pub async fn sleep(&self, key: ServiceKey) -> bool {
        self.ask(|reply| Command::Sleep(key, reply)).await
    }

    async fn send(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the autoscaler has ended");
        }
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<bool>) -> Command) -> bool {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await;
        answer.await.unwrap_or(false)
    }
}

// === impl Autoscaler ===

impl Autoscaler {
    /// No services yet.
    pub fn new(wakeups: Arc<Wakeups>, events: Arc<Events>, epoch: Instant) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (entries, awake) = (BTreeMap::new(), BTreeSet::new());
        (Self { commands, wakeups, events, entries, awake, epoch }, Handle { commands: sender })
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        let wakeups = self.wakeups.clone();
        let mut next_tick = self.tick_after(clock::now());
        loop {
            tokio::select! {
                biased;
                keys = wakeups.next() => {
                    for key in keys {
                        self.woken(&key);
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                () = tokio::time::sleep_until(next_tick.into()), if !self.awake.is_empty() => self.tick(),
            }
            let now = clock::now();
            if next_tick <= now {
                next_tick = self.tick_after(now);
            }
        }
    }

    fn tick_after(&self, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.epoch).as_secs();
        let this = self.epoch + TICK * passed as u32 + PHASE;
        if this > now { this } else { this + TICK }
    }

    fn woken(&mut self, key: &ServiceKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.managed.service.seen();
        entry.woken(clock::now());
        self.awake.insert(key.clone());
        entry.apply(&self.events);
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.awake.retain(|key| {
            let Some(entry) = self.entries.get_mut(key) else { return false };
            entry.scaler.tick(now);
            entry.apply(&self.events);
            !entry.scaler.may_rest(entry.managed.replicas.alive())
        });
    }

    fn obey(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::Add(managed) => {
                let key = managed.service.key.clone();
                let scaler = Scaler::new(managed.service.clone(), self.epoch, now);
                let mut entry = Entry { managed, scaler };
                // Somebody may have come before the first look, and poked for a service that was not known yet.
                entry.managed.service.seen();
                entry.woken(now);
                entry.apply(&self.events);
                self.entries.insert(key.clone(), entry);
                self.awake.insert(key);
            }
            Command::Update(key) => {
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.scaler.update(now);
                    entry.apply(&self.events);
                    self.awake.insert(key);
                }
            }
            Command::Remove(key) => {
                self.entries.remove(&key);
                self.awake.remove(&key);
            }
            Command::Wake(key, reply) => {
                let entry = self.entries.get_mut(&key);
                let known = entry.is_some();
                if let Some(entry) = entry {
                    entry.scaler.wake(now);
                    entry.apply(&self.events);
                    self.awake.insert(key);
                }
                let _ = reply.send(known);
            }
            Command::Sleep(key, reply) => {
                let entry = self.entries.get_mut(&key);
                let slept = entry.is_some_and(|entry| {
                    let slept = entry.scaler.sleep(now);
                    entry.apply(&self.events);
                    slept
                });
                let _ = reply.send(slept);
            }
        }
    }
}

// === impl Entry ===

impl Entry {
    fn woken(&mut self, now: Instant) {
        let replicas = &self.managed.replicas;
        self.scaler.woken(now, replicas.present(), replicas.starting());
    }

    /// Tells the runtime, and people, if the number has changed.
    fn apply(&mut self, events: &Events) {
        let managed = &self.managed;
        if let Some(last) = self.scaler.last() {
            managed.decision.store(Some(Arc::new(last.clone())));
        }
        let (before, desired) = (managed.replicas.desired(), self.scaler.desired());
        if before == desired {
            return;
        }
        let key = &managed.service.key;
        let reason = self.scaler.last().map(|last| last.reason.clone()).unwrap_or_default();
        let (kind, message) = if before == 0 {
            let waiting = managed.service.line.waiting();
            (Kind::Waking, format!("waking: 0 → {desired} ({waiting} waiting; {reason})"))
        } else {
            (Kind::Scaled, format!("scaling: {before} → {desired} ({reason})"))
        };
        events.emit(kind, Some(key), message);
        managed.replicas.scale(desired);
    }
}
