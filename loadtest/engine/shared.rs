//! What the threads of a run share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use pilotlight::clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::outcome::{Answer, Failed, Failure};
use crate::recorder::{Recorder, Shot};
use crate::scenario::Scenario;

/// What the threads of a run share.
pub(crate) struct Shared {
    /// What is to be done.
    pub(crate) scenario: Arc<Scenario>,
    /// What was done.
    pub(crate) recorder: Recorder,
    /// The run's start.
    pub(crate) began: Instant,
    /// Nothing is sent any more.
    pub(super) halt: CancellationToken,
    /// What is open is cut off.
    pub(super) cut: CancellationToken,
    /// A limit of the scenario halted it.
    pub(super) limit_reached: AtomicBool,
    /// Requests that may still be sent.
    left: AtomicU64,
    open: AtomicUsize,
    open_max: AtomicUsize,
    /// Of each timeline.
    flights: Vec<Flights>,
}

/// Open requests of one timeline.
#[derive(Default)]
struct Flights {
    open: AtomicUsize,
    landed: Notify,
}

/// A request that was counted as sent. What came of it is counted exactly once, also when it is dropped.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    timeline: usize,
    shot: Shot,
    open: bool,
}

// === impl Shared ===

impl Shared {
    /// For a run that begins then.
    pub(crate) fn new(scenario: Arc<Scenario>, began: Instant) -> Self {
        let warm_ups = scenario.phases().map(|(_, phase)| phase.warm_up).collect();
        Self {
            recorder: Recorder::new(began, scenario.services.len(), warm_ups),
            began,
            halt: CancellationToken::new(),
            cut: CancellationToken::new(),
            limit_reached: AtomicBool::new(false),
            left: AtomicU64::new(scenario.limits.requests),
            open: AtomicUsize::new(0),
            open_max: AtomicUsize::new(0),
            flights: scenario.timelines.iter().map(|_| Flights::default()).collect(),
            scenario,
        }
    }

    /// Nothing is sent any more; what is open may end.
    pub(crate) fn halt(&self) {
        self.halt.cancel();
    }

    /// What is open is cut off.
    pub(crate) fn cut(&self) {
        self.halt.cancel();
        self.cut.cancel();
    }

    /// Requests that are open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The most that were open at a time.
    pub(crate) fn open_max(&self) -> usize {
        self.open_max.load(Ordering::Relaxed)
    }

    pub(super) fn limit_reached(&self) {
        self.limit_reached.store(true, Ordering::Relaxed);
        self.halt();
    }

    /// Counts a request as sent, if the scenario's limits allow.
    pub(super) fn ticket(self: &Arc<Self>, timeline: usize, shot: Shot) -> Option<Ticket> {
        let most = self.scenario.limits.open;
        let took =
            self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < most).then_some(n + 1));
        let Ok(before) = took else {
            self.recorder.dropped(shot);
            return None;
        };
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if left.is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.limit_reached();
            return None;
        }
        self.open_max.fetch_max(before + 1, Ordering::Relaxed);
        self.flights[timeline].open.fetch_add(1, Ordering::AcqRel);
        self.recorder.sent(shot);
        Some(Ticket { shared: self.clone(), timeline, shot, open: true })
    }

    /// Returns when no request of this timeline is open.
    pub(super) async fn landed(&self, timeline: usize) {
        let flights = &self.flights[timeline];
        loop {
            let landed = flights.landed.notified();
            if flights.open.load(Ordering::Acquire) == 0 {
                return;
            }
            landed.await;
        }
    }
}

// === impl Ticket ===

impl Ticket {
    pub(super) fn shot(&self) -> Shot {
        self.shot
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// Counts what came of it; it left at `left`.
    pub(super) fn end(mut self, left: Instant, came: Result<Answer, Failed>) {
        match came {
            Ok(answer) => self.recorder().done(self.shot, left, clock::now(), &answer),
            Err(failed) => self.recorder().failed(self.shot, failed),
        }
        self.open = false;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            self.recorder().failed(self.shot, Failure::CutOff.into());
        }
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        let flights = &self.shared.flights[self.timeline];
        if flights.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            flights.landed.notify_waiters();
        }
    }
}
