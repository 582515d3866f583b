//! Going to zero, and what a wake holds above it.

use std::time::{Duration, Instant};

/// How idle a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idleness {
    /// Whether a request waits or is in flight anywhere. Load that is averaged may have missed it.
    pub busy: bool,
    /// When the last request ended; if there was none yet, when the first replica became ready.
    pub since: Instant,
    /// When the stable window has let go of the last load ([`Window::clear_at`](super::Window::clear_at)).
    pub clear_at: Option<Instant>,
}

/// Whether a service may go to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// It may.
    Now,
    /// Not before this moment; ask again then, if no request came.
    At(Instant),
    /// Something waits or is in flight; ask again when that ends.
    Busy,
}

/// A wake's number of replicas, as a floor under every later decision: until the first is ready, as averages of
/// nothing would take the start back; and for a stable window after it, until they have seen what the load is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeFloor {
    /// Replicas asked for, and since when; none of them is ready yet.
    pending: Option<(u32, Instant)>,
    /// Replicas asked for by the wake that was last answered, and since when one is ready.
    answered: Option<(u32, Instant)>,
}

/// Whether a service that is this idle may go to zero: `after` (`scaleToZeroAfter`) has passed since the last request
/// ended **and** the stable window holds no load.
#[must_use]
pub fn scale_to_zero(now: Instant, idle: &Idleness, after: Duration) -> Zero {
    if idle.busy {
        return Zero::Busy;
    }
    let rested = idle.since + after;
    let at = idle.clear_at.map_or(rested, |clear| clear.max(rested));
    if now >= at { Zero::Now } else { Zero::At(at) }
}

// === impl WakeFloor ===

impl WakeFloor {
    /// Nothing is ready, and `replicas` are wanted. A wake that is not answered yet grows, and never shrinks.
    pub fn wake(&mut self, now: Instant, replicas: u32) {
        let (wanted, since) = self.pending.unwrap_or((0, now));
        self.pending = Some((wanted.max(replicas), since));
    }

    /// A replica is ready. Answers a wake if there is one; may be said as often as one likes.
    pub fn ready(&mut self, now: Instant) {
        if let Some((replicas, _)) = self.pending.take() {
            self.answered = Some((replicas, now));
        }
    }

    /// Takes the wake back: those who waited are gone or were refused.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The wake that is not answered yet: replicas, and since when.
    #[must_use]
    pub fn pending(&self) -> Option<(u32, Instant)> {
        self.pending
    }

    /// Replicas to have at least.
    #[must_use]
    pub fn floor(&self, now: Instant, stable_window: Duration) -> u32 {
        let pending = self.pending.map_or(0, |(replicas, _)| replicas);
        let answered = self.answered.filter(|&(_, ready)| now < ready + stable_window);
        pending.max(answered.map_or(0, |(replicas, _)| replicas))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::windows::Window;
    use super::*;
    use crate::clock;
    use crate::config::spec::Aggregation;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn both_must_hold_and_nothing_may_be_in_flight() {
        let t0 = clock::now();
        let mut idle = Idleness { busy: false, since: t0, clear_at: None };
        assert_eq!(scale_to_zero(t0 + secs(29), &idle, secs(30)), Zero::At(t0 + secs(30)));
        assert_eq!(scale_to_zero(t0 + secs(30), &idle, secs(30)), Zero::Now);
        idle.clear_at = Some(t0 + secs(60));
        assert_eq!(scale_to_zero(t0 + secs(30), &idle, secs(30)), Zero::At(t0 + secs(60)));
        assert_eq!(scale_to_zero(t0 + secs(60), &idle, secs(90)), Zero::At(t0 + secs(90)));
        idle.busy = true;
        assert_eq!(scale_to_zero(t0 + secs(900), &idle, secs(30)), Zero::Busy);
    }

    #[test]
    fn a_wake_holds_until_ready_and_a_window_after() {
        let (t0, window) = (clock::now(), secs(60));
        let mut wake = WakeFloor::default();
        wake.ready(t0);
        assert_eq!(wake.floor(t0, window), 0);
        wake.wake(t0, 3);
        wake.wake(t0 + secs(1), 2);
        assert_eq!((wake.pending(), wake.floor(t0 + secs(3600), window)), (Some((3, t0)), 3));
        let ready = t0 + secs(4000);
        wake.ready(ready);
        wake.ready(ready + secs(50));
        assert_eq!(wake.floor(ready + secs(59), window), 3);
        assert_eq!(wake.floor(ready + secs(60), window), 0);
        wake.wake(ready + secs(100), 1);
        assert_eq!(wake.floor(ready + secs(100), window), 1);
    }

    #[test]
    fn a_wake_soon_after_another_lowers_nothing_and_can_be_taken_back() {
        let (t0, window) = (clock::now(), secs(60));
        let mut wake = WakeFloor::default();
        wake.wake(t0, 5);
        wake.ready(t0 + secs(1));
        wake.wake(t0 + secs(10), 1);
        assert_eq!(wake.floor(t0 + secs(10), window), 5);
        assert_eq!(wake.floor(t0 + secs(61), window), 1);
        wake.clear();
        assert_eq!((wake.floor(t0 + secs(11), window), wake.pending()), (0, None));
    }

    proptest! {
        #[test]
        fn zero_only_after_rest_and_with_an_empty_window(
            loads in proptest::collection::vec((1u64..20, 0u32..3), 0..20), span in 1u64..90, after in 0u64..90, ask in 0u64..300,
        ) {
            let t0 = clock::now();
            let mut window = Window::new(t0, secs(span), Aggregation::Linear);
            let (mut at, mut since) = (t0, t0);
            for (pause, load) in loads {
                at += secs(pause);
                window.record(at, f64::from(load));
                since = if load > 0 { at } else { since };
            }
            let idle = Idleness { busy: false, since, clear_at: window.clear_at() };
            let now = at + secs(ask);
            let empty = |when| window.average(when).is_none_or(|load| load == 0.0);
            match scale_to_zero(now, &idle, secs(after)) {
                Zero::Now => prop_assert!(now >= since + secs(after) && empty(now)),
                Zero::At(then) => {
                    prop_assert!(then > now && (now < since + secs(after) || !empty(now)));
                    prop_assert_eq!(scale_to_zero(then, &idle, secs(after)), Zero::Now);
                }
                Zero::Busy => prop_assert!(false, "nothing is in flight"),
            }
        }
    }
}
