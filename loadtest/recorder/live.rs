//! What the progress display shows.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::record;

/// A window's age when the next one begins; what is shown is of one to two of them.
const WINDOW: Duration = Duration::from_secs(2);

/// Counts and recent latencies of all services.
pub(super) struct LiveSums {
    pub(super) sent: u64,
    pub(super) dropped: u64,
    pub(super) failed: u64,
    ok: u64,
    /// Answered, but not with success.
    bad: u64,
    windows: [Window; 2],
    begun: Option<Instant>,
}

struct Window {
    latency: Histogram<u64>,
    late: Histogram<u64>,
}

/// How it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Live {
    /// Requests that left.
    pub(crate) sent: u64,
    /// Requests that did not leave.
    pub(crate) dropped: u64,
    /// Answered with success.
    pub(crate) ok: u64,
    /// Anything else that is over.
    pub(crate) failed: u64,
    /// Median and 99 % of the last seconds, if anything was answered.
    pub(crate) latency_ms: Option<(f64, f64)>,
    /// 99 % of the last seconds' lateness.
    pub(crate) late_ms: f64,
}

// === impl LiveSums ===

impl Default for LiveSums {
    fn default() -> Self {
        let windows = [Window::new(), Window::new()];
        Self { sent: 0, dropped: 0, failed: 0, ok: 0, bad: 0, windows, begun: None }
    }
}

impl LiveSums {
    pub(super) fn late(&mut self, late: Duration) {
        record(&mut self.windows[0].late, late.as_micros() as u64);
    }

    pub(super) fn done(&mut self, latency: Duration, ok: bool) {
        *if ok { &mut self.ok } else { &mut self.bad } += 1;
        record(&mut self.windows[0].latency, latency.as_micros() as u64);
    }

    pub(super) fn look(&mut self, now: Instant) -> Live {
        let [new, old] = &self.windows;
        let both = |a: &Histogram<u64>, b: &Histogram<u64>| {
            let mut sum = a.clone();
            sum.add(b).expect("both grow as needed and have as many digits");
            sum
        };
        let (latency, late) = (both(&new.latency, &old.latency), both(&new.late, &old.late));
        let at = |h: &Histogram<u64>, q| h.value_at_quantile(q) as f64 / 1e3;
        let live = Live {
            sent: self.sent,
            dropped: self.dropped,
            ok: self.ok,
            failed: self.failed + self.bad,
            latency_ms: (!latency.is_empty()).then(|| (at(&latency, 0.5), at(&latency, 0.99))),
            late_ms: at(&late, 0.99),
        };
        if now.saturating_duration_since(*self.begun.get_or_insert(now)) >= WINDOW {
            self.begun = Some(now);
            self.windows.swap(0, 1);
            self.windows[0].latency.reset();
            self.windows[0].late.reset();
        }
        live
    }
}

// === impl Window ===

impl Window {
    fn new() -> Self {
        let empty = || Histogram::new(2).expect("a constant number of digits that is allowed");
        Self { latency: empty(), late: empty() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_seconds_are_shown() {
        let mut sums = LiveSums::default();
        let start = pilotlight::clock::now();
        let look = |sums: &mut LiveSums, seconds| sums.look(start + Duration::from_secs(seconds)).latency_ms;
        assert_eq!(look(&mut sums, 0), None);
        sums.done(Duration::from_millis(100), true);
        assert!(look(&mut sums, 2).is_some_and(|(p50, _)| (p50 - 100.0).abs() < 1.0));
        sums.done(Duration::from_millis(10), false);
        assert!(look(&mut sums, 4).is_some_and(|(p50, p99)| p50 < 11.0 && p99 > 90.0));
        assert!(look(&mut sums, 6).is_some_and(|(_, p99)| p99 < 11.0));
        assert_eq!(look(&mut sums, 8), None);
        let live = sums.look(start + Duration::from_secs(8));
        assert_eq!((live.ok, live.failed), (1, 1));
    }
}
