//! One service's decisions: strings `policy/` together. Time and what is present are arguments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::activator::service::Service;
use crate::clock;
use crate::config::spec::{Metric, ServiceSpec};
use crate::policy::backlog::{Backlog, first_scale};
use crate::policy::zero::{Idleness, scale_to_zero};
use crate::policy::{Decider, Decision, Knobs, Observation, Reason, WakeFloor, Window, Zero};
use crate::stat::Reading;

/// Knative decides every 2 s (reference/knative.md §3).
const DECIDE_EVERY: Duration = Duration::from_secs(2);

const TICK_SLACK: Duration = Duration::from_millis(500);

/// Decides for one service.
#[derive(Debug)]
pub struct Scaler {
    service: Arc<Service>,
    spec: Arc<ServiceSpec>,
    stable: Window,
    panic: Window,
    decider: Decider,
    floor: WakeFloor,
    desired: u32,
    /// When a replica first became ready in this run up from zero; the last request counts from there at the least.
    ready_since: Option<Instant>,
    next_decision: Instant,
    resting: bool,
    last: Option<Last>,
    epoch: Instant,
}

/// The last decision, as the admin API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Last {
    /// Replicas to have.
    pub desired: u32,
    /// Why, in words.
    pub reason: String,
    /// Why, for programs.
    pub code: Reason,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What it was decided from; nothing for a start from zero, which looks at the line alone.
    pub inputs: Option<Decision>,
    /// Requests that waited.
    pub waiting: usize,
}

// === impl Scaler ===

impl Scaler {
    /// A service that has just been loaded. `epoch` is the process's own, from which windows count seconds.
    pub fn new(service: Arc<Service>, epoch: Instant, now: Instant) -> Self {
        let spec = service.spec();
        let scaling = &spec.scaling;
        let mut scaler = Self {
            stable: Window::new(epoch, scaling.window, scaling.aggregation),
            panic: Window::new(epoch, scaling.panic_window, scaling.aggregation),
            decider: Decider::new(epoch, Knobs::from(scaling), now, 0),
            floor: WakeFloor::default(),
            desired: 0,
            ready_since: None,
            next_decision: now,
            resting: true,
            last: None,
            epoch,
            service,
            spec,
        };
        let (initial, min) = (scaler.spec.scaling.initial, scaler.spec.scaling.min);
        if initial > 0 {
            scaler.floor.wake(now, initial);
            scaler.set(initial.max(min).min(scaler.spec.scaling.ceiling()), Reason::Wake, None);
        } else if min > 0 {
            scaler.set(min, Reason::Minimum, None);
        }
        scaler
    }

    /// Takes a changed spec.
    pub fn update(&mut self, now: Instant) {
        let spec = self.service.spec();
        let scaling = &spec.scaling;
        if scaling.aggregation != self.spec.scaling.aggregation {
            self.stable = Window::new(self.epoch, scaling.window, scaling.aggregation);
            self.panic = Window::new(self.epoch, scaling.panic_window, scaling.aggregation);
        }
        self.stable.resize(now, scaling.window);
        self.panic.resize(now, scaling.panic_window);
        self.decider.update(Knobs::from(scaling));
        let bounded = self.desired.max(scaling.min).min(scaling.ceiling());
        if bounded != self.desired {
            let reason = if bounded > self.desired { Reason::Minimum } else { Reason::Maximum };
            self.set(bounded, reason, None);
        }
        self.spec = spec;
    }

    /// Somebody waits. Asks at once for what the line needs, if nothing is ready.
    /// `present` replicas start or are there, `starting` of them start.
    pub fn woken(&mut self, now: Instant, present: u32, starting: u32) {
        self.begin(now);
        let waiting = self.service.line.waiting() as u32;
        // Replicas that are only being looked at again are back in a moment, or replaced: no backlog to start for.
        let looked_at = present > 0 && starting == 0 && self.desired >= present;
        if waiting == 0 || looked_at || self.service.line.replicas() > 0 {
            return;
        }
        let limit = self.spec.concurrency.limit;
        let backlog = Backlog { waiting, present, limit };
        let wanted = first_scale(&backlog, &self.service.learned(), &self.spec.scaling);
        self.floor.wake(now, wanted);
        if wanted > self.desired {
            self.set(wanted, Reason::Backlog, None);
        }
    }

    /// A person wants it up: as a request would, without one.
    pub fn wake(&mut self, now: Instant) {
        self.begin(now);
        let one = 1.max(self.spec.scaling.activation).min(self.spec.scaling.ceiling());
        self.floor.wake(now, one);
        if one > self.desired {
            self.set(one, Reason::Wake, None);
        }
    }

    /// A person wants it down: to `min`, unless something waits or runs.
    pub fn sleep(&mut self, now: Instant) -> bool {
        if self.service.meter.current() > 0 {
            return false;
        }
        // The load that was must not bring back what a person sends away.
        let scaling = &self.spec.scaling;
        self.stable = Window::new(self.epoch, scaling.window, scaling.aggregation);
        self.panic = Window::new(self.epoch, scaling.panic_window, scaling.aggregation);
        self.decider = Decider::new(self.epoch, Knobs::from(scaling), now, 0);
        self.service.meter.restart(now);
        self.floor.clear();
        self.set(self.spec.scaling.min, Reason::Idle, None);
        true
    }

    /// Once a second while there is something to watch.
    pub fn tick(&mut self, now: Instant) {
        self.begin(now);
        let reading = self.service.meter.read(now);
        let load = match self.spec.scaling.metric {
            Metric::Concurrency => reading.concurrency,
            Metric::Rps => reading.rate,
        };
        self.stable.record(now, load);
        self.panic.record(now, load);
        if let Some(took) = reading.service_time {
            self.service.learn(|learned| learned.served(took));
        }
        let ready = self.service.line.replicas() as u32;
        if ready > 0 {
            self.floor.ready(now);
            self.ready_since.get_or_insert(now);
        } else if self.desired == 0 {
            self.ready_since = None;
        }
        if self.service.trouble().is_some() && reading.current == 0 {
            // Those who asked for the start were refused.
            self.floor.clear();
        }
        // Half a tick of slack: a tick that is a millisecond early must not wait for the next one.
        if now + TICK_SLACK >= self.next_decision {
            self.next_decision = now + DECIDE_EVERY;
            self.decide(now, ready, &reading);
        }
    }

    /// Replicas to have.
    pub fn desired(&self) -> u32 {
        self.desired
    }

    /// The last decision.
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Whether nothing needs watching until somebody wakes it. `present`: replicas that start, run or leave.
    pub fn may_rest(&mut self, present: u32) -> bool {
        self.resting = self.desired == 0 && present == 0 && self.service.meter.current() == 0;
        self.resting
    }

    fn begin(&mut self, now: Instant) {
        if self.resting {
            self.resting = false;
            self.service.meter.restart(now);
            self.next_decision = now + DECIDE_EVERY;
        }
    }

    fn decide(&mut self, now: Instant, ready: u32, reading: &Reading) {
        let scaling = &self.spec.scaling;
        let seen = Observation::read(now, &self.stable, &self.panic, ready);
        let Some(decision) = self.decider.decide(now, &seen) else { return };
        let mut decision = decision
            .bounded(scaling.min, scaling.ceiling())
            .at_least(self.floor.floor(now, scaling.window).min(scaling.ceiling()), Reason::Wake);
        if decision.desired == 0 {
            let ended = reading.idle_since.unwrap_or(now);
            let idle = Idleness {
                busy: reading.current > 0,
                since: self.ready_since.map_or(ended, |ready| ready.max(ended)),
                clear_at: self.stable.clear_at(),
            };
            if self.desired > 0 && scale_to_zero(now, &idle, scaling.scale_to_zero_after) != Zero::Now {
                decision = decision.at_least(1, Reason::NotYetZero);
            }
        }
        self.set(decision.desired, decision.reason, Some(decision));
    }

    fn set(&mut self, desired: u32, code: Reason, inputs: Option<Decision>) {
        self.desired = desired;
        let waiting = self.service.line.waiting();
        let at_ms = clock::wall_millis();
        self.last = Some(Last { desired, reason: code.to_string(), code, at_ms, inputs, waiting });
    }
}
