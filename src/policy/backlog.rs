//! How many replicas the requests ask for that wait while nothing is ready.
//!
//! A load average sees a burst of 100 short requests as a need for 100 slots, though a few replicas would have it
//! served before any further one has even started. Once start and service times are known, no more replicas are
//! started than drain the backlog within the time that one further start takes.

use super::learned::Learned;
use crate::config::spec::{Metric, Scaling};

/// What waits, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Requests that wait.
    pub waiting: u32,
    /// Replicas that start or are ready already.
    pub present: u32,
    /// Requests that one replica serves at once (`concurrency.limit`); 0 = unlimited.
    pub limit: u32,
}

/// Replicas to have in all, those already present included.
#[must_use]
pub fn first_scale(backlog: &Backlog, learned: &Learned, scaling: &Scaling) -> u32 {
    let needed = if backlog.waiting == 0 {
        0
    } else {
        let at_once = (f64::from(backlog.waiting) / scaling.target).ceil();
        let enough = replicas_to_drain(backlog, learned, scaling).unwrap_or(at_once);
        (enough.min(at_once).max(1.0) as u32).max(scaling.activation)
    };
    needed.max(backlog.present).max(scaling.min).min(scaling.ceiling())
}

/// Replicas that, once ready, serve what waits within a start's time. `None` while that is not known.
fn replicas_to_drain(backlog: &Backlog, learned: &Learned, scaling: &Scaling) -> Option<f64> {
    let (start, service) = (learned.start()?.as_secs_f64(), learned.service()?.as_secs_f64());
    let waiting = f64::from(backlog.waiting);
    // Work in replica-seconds. With neither a limit nor a target in requests at once, the rate is all that is known.
    let work = match (backlog.limit, scaling.metric) {
        (0, Metric::Rps) => waiting / scaling.target,
        (0, Metric::Concurrency) => waiting * service / scaling.target,
        (limit, _) => waiting * service / f64::from(limit),
    };
    // Nothing to do takes nobody, even where a start takes no time (0 / 0).
    Some(if work > 0.0 { (work / start).ceil() } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn learned(start_ms: u64, service_ms: u64) -> Learned {
        let mut learned = Learned::default();
        learned.started(Duration::from_millis(start_ms));
        learned.served(Duration::from_millis(service_ms));
        learned
    }

    fn scaling(target: f64, max: u32) -> Scaling {
        Scaling { max, target, ..Scaling::default() }
    }

    fn ask(waiting: u32, present: u32, limit: u32, learned: &Learned, scaling: &Scaling) -> u32 {
        first_scale(&Backlog { waiting, present, limit }, learned, scaling)
    }

    #[test]
    fn unknown_times_ask_for_a_slot_each() {
        let mut half = Learned::default();
        half.served(Duration::from_millis(50));
        for nothing in [Learned::default(), half] {
            assert_eq!(ask(100, 0, 1, &nothing, &scaling(0.7, 0)), 143);
            assert_eq!(ask(100, 0, 1, &nothing, &scaling(0.7, 10)), 10);
            assert_eq!(ask(1, 0, 0, &nothing, &scaling(70.0, 0)), 1);
        }
    }

    #[test]
    fn known_times_ask_for_what_drains_within_a_start() {
        // 5 s of work, 5 s to start another: one does.
        assert_eq!(ask(100, 0, 1, &learned(5000, 50), &scaling(0.7, 0)), 1);
        assert_eq!(ask(300, 0, 1, &learned(5000, 50), &scaling(0.7, 0)), 3);
        assert_eq!(ask(301, 0, 1, &learned(5000, 50), &scaling(0.7, 0)), 4);
        assert_eq!(ask(301, 0, 4, &learned(5000, 50), &scaling(2.8, 0)), 1);
        assert_eq!(ask(4000, 0, 0, &learned(1000, 1000), &scaling(70.0, 0)), 58);
        // A request that outlives a start: never more than a slot each.
        assert_eq!(ask(10, 0, 1, &learned(100, 60_000), &scaling(1.0, 0)), 10);
        assert_eq!(ask(10, 0, 1, &learned(0, 0), &scaling(1.0, 0)), 1);
        assert_eq!(ask(10, 0, 1, &learned(0, 5), &scaling(1.0, 0)), 10);
    }

    #[test]
    fn a_rate_needs_no_slots() {
        let rps = Scaling { metric: Metric::Rps, ..scaling(140.0, 0) };
        assert_eq!(ask(1400, 0, 0, &learned(2000, 50), &rps), 5);
        assert_eq!(ask(1400, 0, 0, &Learned::default(), &rps), 10);
    }

    #[test]
    fn present_ones_count_and_bounds_hold() {
        let nothing = Learned::default();
        assert_eq!(ask(3, 2, 1, &nothing, &scaling(1.0, 10)), 3);
        assert_eq!(ask(3, 5, 1, &nothing, &scaling(1.0, 10)), 5);
        assert_eq!(ask(0, 0, 1, &nothing, &scaling(1.0, 10)), 0);
        let activated = Scaling { activation: 4, min: 2, ..scaling(1.0, 10) };
        assert_eq!(ask(1, 0, 1, &nothing, &activated), 4);
        assert_eq!(ask(0, 0, 1, &nothing, &activated), 2);
    }

    proptest! {
        #[test]
        fn more_waiting_never_asks_for_less_and_never_passes_a_bound(
            a in 0u32..100_000, b in 0u32..100_000, present in 0u32..30, limit in 0u32..20, target in 0.01..200.0f64,
            known in proptest::option::of((0u64..100_000, 0u64..100_000)), max in 0u32..40, activation in 0u32..9, rps: bool,
        ) {
            let learned = known.map_or_else(Learned::default, |(start, service)| learned(start, service));
            let metric = if rps { Metric::Rps } else { Metric::Concurrency };
            let scaling = Scaling { activation, metric, ..scaling(target, max) };
            let (few, many) = (a.min(b), a.max(b));
            let less = ask(few, present, limit, &learned, &scaling);
            let more = ask(many, present, limit, &learned, &scaling);
            prop_assert!(less <= more);
            prop_assert!(more <= scaling.ceiling());
            let unlearned = ask(many, present, limit, &Learned::default(), &scaling);
            prop_assert!(more <= unlearned);
            prop_assert!(many == 0 || more >= activation.max(1).min(scaling.ceiling()));
        }
    }
}
