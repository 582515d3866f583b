//! `policy: kpa`: Knative's pod autoscaler, decision for decision.

use std::time::{Duration, Instant};

use super::decision::{Decision, Reason};
use super::max_window::MaxWindow;
use super::windows::Window;
use crate::config::spec::Scaling;

/// The knobs of the decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Knobs {
    /// Load per replica that is aimed at.
    pub target: f64,
    /// Load that one replica can take.
    pub total: f64,
    /// How long a panic lasts after the threshold was last passed.
    pub stable_window: Duration,
    /// Factor over the ready replicas that starts a panic.
    pub panic_threshold: f64,
    /// At most this factor up in one decision.
    pub max_up_rate: f64,
    /// At most this factor down in one decision.
    pub max_down_rate: f64,
    /// Any load asks for this many at least; 0 or 1 = off.
    pub activation: u32,
    /// A lower count must have been right for this long.
    pub scale_down_delay: Duration,
    /// Burst that the ready replicas should have room for; 0 = not asked, below 0 = the activator is always needed.
    pub burst_capacity: f64,
    /// Whether anything is routed to the service. If not, it may shrink at once.
    pub reachable: bool,
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Average over the stable window; `None` = no data, so no decision.
    pub stable: Option<f64>,
    /// Average over the panic window; `None` counts as zero.
    pub panic: Option<f64>,
    /// Replicas that are ready.
    pub ready: u32,
}

/// Makes the decisions for one service. To be asked every 2 s, and when that is worth it in between.
#[derive(Clone, Debug)]
pub struct Decider {
    knobs: Knobs,
    /// In panic, and when the threshold was last passed.
    panic_since: Option<Instant>,
    /// The most that was decided in this panic.
    panic_max: u32,
    recent: MaxWindow,
}

// === impl Knobs ===

impl From<&Scaling> for Knobs {
    fn from(scaling: &Scaling) -> Self {
        Self {
            target: scaling.target,
            total: scaling.total,
            stable_window: scaling.window,
            panic_threshold: scaling.panic_threshold,
            max_up_rate: scaling.max_up_rate,
            max_down_rate: scaling.max_down_rate,
            activation: scaling.activation,
            scale_down_delay: scaling.scale_down_delay,
            burst_capacity: scaling.burst_capacity as f64,
            reachable: true,
        }
    }
}

// === impl Observation ===

impl Observation {
    /// Reads both windows.
    #[must_use]
    pub fn read(now: Instant, stable: &Window, panic: &Window, ready: u32) -> Self {
        Self { stable: stable.average(now), panic: panic.average(now), ready }
    }
}

// === impl Decider ===

impl Decider {
    /// A decider for a service that has `ready` replicas. With more than one it starts in panic: nothing is known of
    /// the load that brought them about, so none is taken away until a stable window has been seen.
    #[must_use]
    pub fn new(epoch: Instant, knobs: Knobs, now: Instant, ready: u32) -> Self {
        let recent = MaxWindow::new(epoch, knobs.scale_down_delay);
        Self { knobs, panic_since: (ready > 1).then_some(now), panic_max: ready, recent }
    }

    /// Changes the knobs and keeps the state.
    pub fn update(&mut self, knobs: Knobs) {
        self.recent.resize(knobs.scale_down_delay);
        self.knobs = knobs;
    }

    /// Whether nothing is scaled down for now.
    #[must_use]
    pub fn in_panic(&self) -> bool {
        self.panic_since.is_some()
    }

    /// What Knative would want, before `min` and `max` ([`Decision::bounded`]). `None`: no data, leave things alone.
    pub fn decide(&mut self, now: Instant, seen: &Observation) -> Option<Decision> {
        let (stable, panic) = (seen.stable?, seen.panic.unwrap_or(0.0));
        let (for_stable, for_panic) = (self.replicas_for(stable), self.replicas_for(panic));
        self.watch_panic(now, for_panic, at_least_one(seen.ready));

        let (mut desired, mut reason) = self.within_rates(for_stable, seen.ready, Reason::Stable);
        if self.in_panic() {
            let (more, why) = self.within_rates(for_panic, seen.ready, Reason::Panic);
            if more > desired {
                (desired, reason) = (more, why);
            }
            if desired < self.panic_max {
                reason = Reason::PanicHeld;
            }
            self.panic_max = self.panic_max.max(desired);
            desired = self.panic_max;
        }
        // Without a delay a window of one step would still hold the greatest count of the step.
        if self.knobs.reachable && !self.knobs.scale_down_delay.is_zero() {
            let delayed = self.recent.record(now, desired);
            if delayed != desired {
                (desired, reason) = (delayed, Reason::ScaleDownDelay);
            }
        }
        Some(Decision {
            desired,
            reason,
            in_panic: self.in_panic(),
            excess_burst: self.excess_burst(seen.ready, panic),
            stable,
            panic,
            ready: seen.ready,
            target: self.knobs.target,
        })
    }

    fn replicas_for(&self, load: f64) -> f64 {
        (load / self.knobs.target).ceil()
    }

    fn watch_panic(&mut self, now: Instant, wanted: f64, ready: f64) {
        if wanted / ready >= self.knobs.panic_threshold {
            self.panic_since = Some(now);
        } else if self.panic_since.is_some_and(|since| since + self.knobs.stable_window < now) {
            self.panic_since = None;
            self.panic_max = 0;
        }
    }

    /// `wanted` within what one step may change, then raised to the activation scale, which no rate holds back.
    fn within_rates(&self, wanted: f64, ready: u32, plain: Reason) -> (u32, Reason) {
        let ready = at_least_one(ready);
        // Rounded outwards: a rate that allows less than one replica's change would never let it change.
        let most = (self.knobs.max_up_rate * ready).ceil();
        let least = if self.knobs.reachable { (ready / self.knobs.max_down_rate).floor() } else { 0.0 };
        let desired = wanted.max(least).min(most) as u32;
        if wanted > 0.0 && self.knobs.activation > 1 && self.knobs.activation > desired {
            (self.knobs.activation, Reason::Activation)
        } else if wanted < least {
            (desired, Reason::MaxDownRate)
        } else if wanted > most {
            (desired, Reason::MaxUpRate)
        } else if desired == 0 {
            (desired, Reason::Idle)
        } else {
            (desired, plain)
        }
    }

    /// By the panic average, though it jumps: a burst is over before the stable one has noticed.
    fn excess_burst(&self, ready: u32, panic: f64) -> i64 {
        let burst = self.knobs.burst_capacity;
        if burst > 0.0 {
            (f64::from(ready) * self.knobs.total - burst - panic).floor() as i64
        } else if burst < 0.0 {
            -1
        } else {
            0
        }
    }
}

/// With nothing ready the rates count from one, or nothing would ever start.
fn at_least_one(ready: u32) -> f64 {
    f64::from(ready.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn knobs() -> Knobs {
        Knobs { target: 1.0, total: 1.0, ..Knobs::from(&Scaling::default()) }
    }

    fn seen(stable: f64, panic: f64, ready: u32) -> Observation {
        Observation { stable: Some(stable), panic: Some(panic), ready }
    }

    fn decider(knobs: Knobs) -> (Instant, Decider) {
        let t0 = clock::now();
        (t0, Decider::new(t0, knobs, t0, 0))
    }

    #[test]
    fn no_data_no_decision_and_no_change_of_state() {
        let t0 = clock::now();
        let mut d = Decider::new(t0, knobs(), t0, 5);
        let nothing = Observation { stable: None, panic: Some(9.0), ready: 5 };
        assert_eq!(d.decide(t0 + secs(600), &nothing), None);
        assert!(d.in_panic());
    }

    #[test]
    fn replicas_of_unknown_origin_are_kept_for_a_stable_window() {
        let t0 = clock::now();
        let mut d = Decider::new(t0, knobs(), t0, 5);
        let held = d.decide(t0 + secs(60), &seen(1.0, 1.0, 5)).expect("data");
        assert_eq!((held.desired, held.reason, held.in_panic), (5, Reason::PanicHeld, true));
        let freed = d.decide(t0 + secs(62), &seen(1.0, 1.0, 5)).expect("data");
        assert_eq!((freed.desired, freed.reason, freed.in_panic), (2, Reason::MaxDownRate, false));
    }

    #[test]
    fn every_reason_says_which_rule_settled_the_number() {
        let (t0, mut d) = decider(Knobs { max_up_rate: 3.0, panic_threshold: 10.0, ..knobs() });
        let mut ask = |s, stable, panic, ready| {
            let d = d.decide(t0 + secs(s), &seen(stable, panic, ready)).expect("data");
            (d.desired, d.reason)
        };
        assert_eq!(ask(0, 0.0, 0.0, 1), (0, Reason::Idle));
        assert_eq!(ask(2, 1.5, 0.0, 1), (2, Reason::Stable));
        assert_eq!(ask(4, 9.0, 0.0, 2), (6, Reason::MaxUpRate));
        assert_eq!(ask(6, 0.0, 0.0, 6), (3, Reason::MaxDownRate));
        assert_eq!(ask(8, 4.0, 20.0, 2), (6, Reason::MaxUpRate));
        assert_eq!(ask(10, 4.0, 8.0, 6), (8, Reason::Panic));
        assert_eq!(ask(12, 4.0, 1.0, 8), (8, Reason::PanicHeld));

        let (t0, mut d) = decider(Knobs { activation: 3, scale_down_delay: secs(10), ..knobs() });
        let mut ask =
            |s, stable| d.decide(t0 + secs(s), &seen(stable, 0.0, 1)).map(|d| (d.desired, d.reason));
        assert_eq!(ask(0, 0.1), Some((3, Reason::Activation)));
        assert_eq!(ask(2, 0.0), Some((3, Reason::ScaleDownDelay)));
        assert_eq!(ask(10, 0.0), Some((0, Reason::Idle)));
    }

    #[test]
    fn spare_capacity_is_counted_by_the_panic_average() {
        for (burst, excess) in [(-1.0, -1), (0.0, 0), (3.0, -2)] {
            let (t0, mut d) = decider(Knobs { burst_capacity: burst, total: 2.0, ..knobs() });
            assert_eq!(d.decide(t0, &seen(0.0, 2.5, 2)).map(|d| d.excess_burst), Some(excess));
        }
    }

    proptest! {
        #[test]
        fn stays_within_the_rates_and_never_shrinks_in_panic(
            loads in proptest::collection::vec((0.0..300.0f64, 0.0..600.0f64, 0u32..40), 1..80),
            up in 1.01..20.0f64, down in 1.01..20.0f64, threshold in 1.1..10.0f64, reachable: bool,
        ) {
            let limits = Knobs { max_up_rate: up, max_down_rate: down, panic_threshold: threshold, ..knobs() };
            let (t0, mut d) = decider(Knobs { reachable, ..limits });
            let mut before = None;
            for (i, &(stable, panic, ready)) in loads.iter().enumerate() {
                let now = d.decide(t0 + secs(2 * i as u64), &seen(stable, panic, ready)).expect("data");
                let from = f64::from(ready.max(1));
                if now.in_panic {
                    prop_assert!(before.is_none_or(|least| now.desired >= least));
                } else {
                    prop_assert!(f64::from(now.desired) <= (from * up).ceil());
                }
                if reachable {
                    prop_assert!(f64::from(now.desired) >= (from / down).floor());
                }
                before = now.in_panic.then_some(now.desired);
                let bounded = now.bounded(2, 9).desired;
                prop_assert!((2..=9).contains(&bounded));
            }
        }
    }
}
