//! Leads one timeline through its phases: says to every thread when each begins, and finds out when it is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilotlight::clock;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::shared::Shared;
use super::worker::Order;
use crate::recorder::Span;
use crate::scenario::{Ends, Phase};

/// Threads hear of a phase so long before it begins.
const AHEAD: Duration = Duration::from_millis(20);
/// Between two looks whether replicas are gone.
const LOOK: Duration = Duration::from_millis(50);

/// Whether a service was seen without replicas at or after this second of the run.
pub(crate) type IsZero<'a> = dyn Fn(usize, f64) -> bool + 'a;

/// Where a run stands, for the progress display and for the report.
#[derive(Debug)]
pub(crate) struct Stage {
    spans: Mutex<Vec<Option<Span>>>,
    /// Of each timeline, the phase that it is in.
    current: Mutex<Vec<Option<usize>>>,
    warnings: Mutex<Vec<String>>,
}

/// Leads one timeline.
pub(super) struct Conductor<'a> {
    pub(super) shared: Arc<Shared>,
    pub(super) stage: &'a Stage,
    pub(super) timeline: usize,
    /// The number of its first phase of all.
    pub(super) first: usize,
    pub(super) threads: Vec<mpsc::Sender<Order>>,
    pub(super) is_zero: &'a IsZero<'a>,
}

// === impl Stage ===

impl Stage {
    pub(crate) fn new(phases: usize, timelines: usize) -> Self {
        Self {
            spans: Mutex::new(vec![None; phases]),
            current: Mutex::new(vec![None; timelines]),
            warnings: Mutex::default(),
        }
    }

    /// The phases that are being gone through.
    pub(crate) fn current(&self) -> Vec<usize> {
        self.current.lock().iter().flatten().copied().collect()
    }

    /// When each phase was; nothing of those that never began.
    pub(crate) fn spans(&self) -> Vec<Option<Span>> {
        self.spans.lock().clone()
    }

    /// What went otherwise than the scenario says.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock())
    }
}

// === impl Conductor ===

impl Conductor<'_> {
    /// Returns when the last phase is over, or the run is halted.
    pub(super) async fn run(self) {
        let shared = self.shared.clone();
        tokio::select! {
            biased;
            () = shared.halt.cancelled() => {}
            () = self.phases() => {}
        }
        self.end(clock::now());
    }

    async fn phases(&self) {
        let phases = &self.shared.scenario.timelines[self.timeline].phases;
        let (mut at, mut unsent) = (self.shared.began, Vec::new());
        for (number, phase) in phases.iter().enumerate() {
            sleep_until(at.checked_sub(AHEAD).unwrap_or(at).into()).await;
            let sent = self.announce(number, at).await;
            sleep_until(at.into()).await;
            self.begin(number, at);
            at = match phase.ends {
                Ends::After(lasts) => {
                    unsent.push(sent);
                    at + lasts
                }
                Ends::Answered => {
                    all_sent(sent).await;
                    self.shared.landed(self.timeline).await;
                    clock::now() + AHEAD
                }
                Ends::AtZero(most) => {
                    self.zero(phase, at, at + most).await;
                    clock::now() + AHEAD
                }
            };
        }
        sleep_until(at.into()).await;
        self.end(at);
        // A thread may be late.
        for sent in unsent {
            all_sent(sent).await;
        }
    }

    /// Tells every thread. What comes back ends when all of them have sent everything.
    async fn announce(&self, number: usize, at: Instant) -> mpsc::Receiver<()> {
        let (sending, sent) = mpsc::channel(1);
        for thread in &self.threads {
            let order = Order { number, phase: self.first + number, at, _sending: sending.clone() };
            // A thread that is gone has told its error.
            let _ = thread.send(order).await;
        }
        sent
    }

    /// Returns when none of its services has a replica any more.
    async fn zero(&self, phase: &Phase, began: Instant, latest: Instant) {
        let services = &self.shared.scenario.timelines[self.timeline].services;
        // What was seen before may be the zero before the last phase's requests.
        let since = self.shared.recorder.since(began);
        let not_at_zero = |service: &&usize| !(self.is_zero)(**service, since);
        while let Some(service) = services.iter().find(not_at_zero) {
            if clock::now() >= latest {
                let name = &self.shared.scenario.services[*service].name;
                let text = format!("{}: {name} was not at zero in time; the run went on", phase.name);
                self.stage.warnings.lock().push(text);
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn begin(&self, number: usize, at: Instant) {
        self.end(at);
        let from_s = self.shared.recorder.since(at);
        self.stage.spans.lock()[self.first + number] = Some(Span { from_s, to_s: f64::INFINITY });
        self.stage.current.lock()[self.timeline] = Some(self.first + number);
    }

    /// Ends the phase that it is in.
    fn end(&self, at: Instant) {
        if let Some(phase) = self.stage.current.lock()[self.timeline].take()
            && let Some(span) = &mut self.stage.spans.lock()[phase]
        {
            span.to_s = self.shared.recorder.since(at).max(span.from_s);
        }
    }
}

/// Returns when every thread has sent its share.
async fn all_sent(mut sent: mpsc::Receiver<()>) {
    // No message ever comes: the channel ends with its last sender.
    let _ = sent.recv().await;
}
