//! How many requests may be sent to another replica: a share of what comes in, over a sliding window.
//!
//! A retry is safe (nothing reached an app), but not free: when replicas fail as fast as they are found, every request
//! would be tried again and again. Beyond the budget a request is refused with the reason instead.
//!
//! The window slides by decay: credit from a moment ago counts whole, from `WINDOW` ago `1/e` of it. So nothing is
//! kept per second, and nothing happens per request: what came in is read off a counter when a retry is asked for.

use std::time::{Duration, Instant};

/// Retries for each request that came in.
const SHARE: f64 = 0.2;
/// Retries per second that are allowed whatever comes in, so that a service with little load has some too.
const LEAST_PER_SECOND: f64 = 10.0;
/// How far back credit reaches.
const WINDOW: Duration = Duration::from_secs(10);

/// One service's budget.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    credit: f64,
    /// When, and at which count of requests, the credit was last brought up to date.
    at: Instant,
    seen: u64,
}

// === impl RetryBudget ===

impl RetryBudget {
    /// As after a long time without load.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { credit: LEAST_PER_SECOND * WINDOW.as_secs_f64(), at: now, seen: 0 }
    }

    /// Whether one more is allowed. `total`: requests that came in so far, ever.
    pub fn take(&mut self, now: Instant, total: u64) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let window = WINDOW.as_secs_f64();
        let came = total.saturating_sub(self.seen) as f64;
        // Exact for an even inflow: dc/dt = inflow − c/window.
        let kept = (-passed / window).exp();
        let filled = if passed > 0.0 { window * (1.0 - kept) / passed } else { 1.0 };
        self.credit = self.credit * kept + (SHARE * came + LEAST_PER_SECOND * passed) * filled;
        self.at = self.at.max(now);
        self.seen = total;
        if self.credit < 1.0 {
            return false;
        }
        self.credit -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(budget: &mut RetryBudget, now: Instant, total: u64) -> usize {
        (0..1_000_000).take_while(|_| budget.take(now, total)).count()
    }

    #[test]
    fn without_load_there_are_ten_a_second() {
        let start = crate::clock::now();
        let mut budget = RetryBudget::new(start);
        assert_eq!(allowed(&mut budget, start, 0), 100);
        assert_eq!(
            allowed(&mut budget, start + Duration::from_secs(1), 0),
            9,
            "10, less what decayed meanwhile"
        );
        assert_eq!(
            allowed(&mut budget, start + Duration::from_hours(1), 0),
            100,
            "never more than a window's"
        );
    }

    #[test]
    fn under_load_a_fifth_of_what_came_in_lately() {
        let start = crate::clock::now();
        let mut budget = RetryBudget::new(start);
        let mut total = 0;
        for second in 1..=100 {
            total += 1_000;
            let now = start + Duration::from_secs(second);
            let got = allowed(&mut budget, now, total);
            assert!(second == 1 || (195..=210).contains(&got), "{got} in second {second}");
        }
        assert!(allowed(&mut budget, start + Duration::from_hours(1), total) <= 100, "old load is no credit");
    }

    proptest! {
        /// A dead replica that fails every attempt at once cannot multiply the load.
        #[test]
        fn never_more_than_the_share(steps in proptest::collection::vec((0u64..3_000, 0u64..500), 1..100)) {
            let start = crate::clock::now();
            let mut budget = RetryBudget::new(start);
            let (mut now, mut total, mut retried) = (start, 0, 0);
            for (millis, requests) in steps {
                now += Duration::from_millis(millis);
                total += requests;
                retried += allowed(&mut budget, now, total);
                let most = 0.2 * total as f64 + 10.0 * (now - start).as_secs_f64() + 100.0;
                prop_assert!(retried as f64 <= most + 1.0, "{} of {}", retried, most);
            }
        }
    }
}
