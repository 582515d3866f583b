//! The average of a measurement over the last seconds.
//!
//! Same figures as Knative's `TimedFloat64Buckets` and `WeightedFloat64Buckets`, to the last of the 6 decimals that
//! it rounds to. For that the total is kept running, as there: summing afresh differs in the last bits, and averages
//! of round numbers often lie exactly between two roundings.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use crate::config::spec::Aggregation;

/// Decimals that a linear average keeps. Rounding takes out what adding and subtracting leaves behind, so that a
/// window of zeros averages to zero.
const ROUND: f64 = 1e6;
/// Share of the whole weight that an exponential average gives to what is older than its window. Not written as
/// `1.0 - 0.9999`, which is another number here than in Go, where constants are exact.
const WEIGHT_LOST: f64 = 0.0001;
/// Slowest decay: slower ones, for long windows, hardly differ from the linear average.
const MIN_DECAY: f64 = 0.2;

/// Sums per second over a sliding window, and their average.
///
/// Silence is not zero: seconds after the last record do not count, until the whole window has passed and there is
/// no data at all. An owner that knows that the load is zero must record zeros.
///
/// A record older than the newest is added to its own second while that is in the window, and dropped after.
#[derive(Clone, Debug)]
pub struct Window {
    epoch: Instant,
    span: Duration,
    /// Seconds per bucket.
    granularity: u64,
    /// Ring: bucket `i` lies at `i % len`. Slots after the last record's hold what leaves the window next.
    buckets: Box<[f64]>,
    /// Sum of all slots.
    total: f64,
    /// First and last bucket recorded to, since data began or began anew after a whole window of silence.
    ends: Option<(u64, u64)>,
    aggregation: Aggregation,
}

// === impl Window ===

impl Window {
    /// An empty window of 1 s buckets. Seconds begin at `epoch` and every full second after it; all that was before
    /// counts as its first second. A part of a second in `span` takes a whole bucket.
    #[must_use]
    pub fn new(epoch: Instant, span: Duration, aggregation: Aggregation) -> Self {
        Self::with_granularity(epoch, span, 1, aggregation)
    }

    /// The same with buckets of `granularity` seconds.
    #[must_use]
    pub fn with_granularity(
        epoch: Instant,
        span: Duration,
        granularity: u64,
        aggregation: Aggregation,
    ) -> Self {
        let granularity = granularity.max(1);
        let buckets = zeros(span, granularity);
        Self { epoch, span, granularity, buckets, total: 0.0, ends: None, aggregation }
    }

    /// How long the window is.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.span
    }

    /// Adds `value` to the bucket of `now`. Buckets skipped since the last record become zeros.
    pub fn record(&mut self, now: Instant, value: f64) {
        let at = self.index(now);
        let (first, last) = self.ends.unwrap_or((at, at));
        self.ends = match at.cmp(&last) {
            Ordering::Less if self.covers(last - at) => Some((first.min(at), last)),
            Ordering::Less => return,
            Ordering::Equal => Some((first, last)),
            Ordering::Greater if self.covers(at - last) => {
                for skipped in last + 1..=at {
                    let slot = self.slot(skipped);
                    self.total -= self.buckets[slot];
                    self.buckets[slot] = 0.0;
                }
                Some((first, at))
            }
            Ordering::Greater => {
                self.buckets.fill(0.0);
                self.total = 0.0;
                Some((at, at))
            }
        };
        let slot = self.slot(at);
        self.buckets[slot] += value;
        self.total += value;
    }

    /// Average of a second in the window that ends with `now`'s; `None` when it holds no data.
    #[must_use]
    pub fn average(&self, now: Instant) -> Option<f64> {
        let (first, last) = self.ends?;
        let silent = self.index(now).saturating_sub(last);
        if self.time(silent) > self.span {
            return None;
        }
        // Exactly one window after the last record there is data still, of which nothing is left.
        if !self.covers(silent) {
            return Some(0.0);
        }
        Some(match self.aggregation {
            Aggregation::Linear => self.linear(first, last, silent),
            Aggregation::WeightedExponential => self.exponential(last, silent),
        })
    }

    /// Whether nothing was recorded for more than a window.
    #[must_use]
    pub fn is_empty(&self, now: Instant) -> bool {
        self.ends.is_none_or(|(_, last)| self.time(self.index(now).saturating_sub(last)) > self.span)
    }

    /// From when on the average is zero or none, if only zeros or nothing are recorded from now on. `None` when it
    /// is so already by the records alone: nothing but zeros.
    #[must_use]
    pub fn clear_at(&self) -> Option<Instant> {
        let (first, last) = self.ends?;
        let len = self.buckets.len() as u64;
        let oldest = first.max((last + 1).saturating_sub(len));
        let loaded = (oldest..=last).rev().find(|&i| self.buckets[self.slot(i)] != 0.0)?;
        Some(self.epoch + self.time(loaded + len))
    }

    /// Makes the window `span` long. What was recorded stays, as far as both the old and the new window reach.
    ///
    /// Knative counts a full old window as recorded here, even if data began later, and so divides a young service's
    /// load by too much; this does not.
    pub fn resize(&mut self, now: Instant, span: Duration) {
        if span == self.span {
            return;
        }
        let mut buckets = zeros(span, self.granularity);
        let mut total = 0.0;
        self.ends = if self.is_empty(now) { None } else { self.ends };
        if let Some((first, last)) = &mut self.ends {
            let (old, new) = (self.buckets.len() as u64, buckets.len() as u64);
            *first = (*first).max((*last + 1).saturating_sub(old));
            // No bucket lies before the epoch.
            for i in (0..=*last).rev().take(old.min(new) as usize) {
                let value = self.buckets[(i % old) as usize];
                buckets[(i % new) as usize] = value;
                total += value;
            }
        }
        (self.span, self.buckets, self.total) = (span, buckets, total);
    }

    fn linear(&self, first: u64, last: u64, silent: u64) -> f64 {
        let total = (last + 1..=last + silent).fold(self.total, |rest, i| rest - self.buckets[self.slot(i)]);
        let counted = (last - first + 1).min(self.buckets.len() as u64 - silent);
        (total / counted as f64 * ROUND).round() / ROUND
    }

    fn exponential(&self, last: u64, silent: u64) -> f64 {
        let len = self.buckets.len() as u64;
        // Written so that every bit is as in Go, whose `math.Pow` goes by logarithm for a broken exponent and by
        // squaring for a whole one: what exceeds a whole replica by one bit asks for one more.
        let decay = (1.0 - (WEIGHT_LOST.ln() * (1.0 / len as f64)).exp()).max(MIN_DECAY);
        let mut weight = decay * (1.0 - decay).powi(silent as i32);
        let mut average = 0.0;
        for i in (0..=last).rev().take((len - silent) as usize) {
            average += self.buckets[self.slot(i)] * weight;
            weight *= 1.0 - decay;
        }
        average
    }

    fn index(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs() / self.granularity
    }

    fn slot(&self, index: u64) -> usize {
        (index % self.buckets.len() as u64) as usize
    }

    fn time(&self, buckets: u64) -> Duration {
        Duration::from_secs(buckets.saturating_mul(self.granularity))
    }

    /// Whether a window holds two buckets that are this far apart.
    fn covers(&self, apart: u64) -> bool {
        self.time(apart) < self.span
    }
}

fn zeros(span: Duration, granularity: u64) -> Box<[f64]> {
    let buckets = span.as_secs_f64() / granularity as f64;
    vec![0.0; (buckets.ceil() as usize).max(1)].into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const LINEAR: Aggregation = Aggregation::Linear;

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    fn window(span: u64) -> (Instant, Window) {
        let t0 = clock::now();
        (t0, Window::new(t0, Duration::from_secs(span), LINEAR))
    }

    #[test]
    fn counts_from_the_first_record_while_young() {
        let (t0, mut w) = window(60);
        assert_eq!(w.average(t0), None);
        w.record(t0 + secs(1.2), 4.0);
        w.record(t0 + secs(1.9), 2.0);
        assert_eq!(w.average(t0 + secs(1.99)), Some(6.0));
        w.record(t0 + secs(3.0), 0.0);
        assert_eq!(w.average(t0 + secs(3.0)), Some(2.0));
    }

    #[test]
    fn silence_counts_only_once_the_window_has_passed() {
        let (t0, mut w) = window(6);
        w.record(t0, 5.0);
        assert_eq!(w.average(t0 + secs(5.9)), Some(5.0));
        assert_eq!((w.average(t0 + secs(6.0)), w.is_empty(t0 + secs(6.0))), (Some(0.0), false));
        assert_eq!((w.average(t0 + secs(7.0)), w.is_empty(t0 + secs(7.0))), (None, true));
        w.record(t0 + secs(9.0), 1.0);
        assert_eq!(w.average(t0 + secs(9.0)), Some(1.0));
    }

    #[test]
    fn late_records_count_in_their_own_second_or_not_at_all() {
        let (t0, mut w) = window(6);
        w.record(t0 + secs(10.0), 6.0);
        w.record(t0 + secs(8.0), 3.0);
        assert_eq!(w.average(t0 + secs(10.0)), Some(3.0));
        w.record(t0 + secs(4.0), 99.0);
        assert_eq!(w.average(t0 + secs(10.0)), Some(3.0));
        w.record(t0 + secs(14.0), 0.0);
        assert_eq!(w.average(t0 + secs(14.0)), Some(1.0));
    }

    #[test]
    fn resizing_keeps_what_both_windows_hold() {
        let (t0, mut w) = window(6);
        for s in 0..20 {
            w.record(t0 + secs(f64::from(s)), f64::from(s));
        }
        let now = t0 + secs(19.0);
        w.resize(now, secs(3.0));
        assert_eq!(w.average(now), Some(18.0));
        w.resize(now, secs(60.0));
        assert_eq!(w.average(now), Some(18.0));
        w.resize(t0 + secs(300.0), secs(6.0));
        assert_eq!(w.average(t0 + secs(300.0)), None);
    }

    #[test]
    fn a_span_with_a_part_of_a_second_takes_a_whole_bucket() {
        let t0 = clock::now();
        for aggregation in [LINEAR, Aggregation::WeightedExponential] {
            let mut w = Window::new(t0, secs(2.5), aggregation);
            w.record(t0, 8.0);
            w.record(t0 + secs(1.0), 0.0);
            assert!(w.average(t0 + secs(2.0)).is_some_and(|a| a > 0.0));
            assert_eq!(w.average(t0 + secs(4.0)), None);
        }
    }

    proptest! {
        #[test]
        fn order_within_a_second_does_not_matter(
            values in proptest::collection::vec(0u32..1000, 1..20), weighted: bool,
        ) {
            let t0 = clock::now();
            let aggregation = if weighted { Aggregation::WeightedExponential } else { LINEAR };
            let mut forth = Window::new(t0, secs(6.0), aggregation);
            let mut back = forth.clone();
            for (forward, backward) in values.iter().zip(values.iter().rev()) {
                forth.record(t0 + secs(3.1), f64::from(*forward));
                back.record(t0 + secs(3.8), f64::from(*backward));
            }
            prop_assert_eq!(forth.average(t0 + secs(5.0)), back.average(t0 + secs(5.0)));
        }

        #[test]
        fn the_linear_average_lies_among_what_was_recorded(
            records in proptest::collection::vec((0u64..3, 0u32..1000), 1..200), span in 1u64..30,
        ) {
            let (t0, mut w) = window(span);
            let (mut at, mut sums) = (0, std::collections::BTreeMap::<u64, f64>::new());
            for (pause, value) in records {
                at += pause;
                let now = t0 + Duration::from_secs(at);
                w.record(now, f64::from(value));
                *sums.entry(at).or_default() += f64::from(value);
                let begin = (at + 1).saturating_sub(span).max(*sums.keys().next().expect("one was recorded"));
                let seen: Vec<f64> = (begin..=at).map(|s| sums.get(&s).copied().unwrap_or(0.0)).collect();
                let average = w.average(now).expect("just recorded");
                let (low, high) = seen.iter().fold((f64::MAX, 0.0f64), |(l, h), &v| (l.min(v), h.max(v)));
                prop_assert!(average >= low - 1e-6 && average <= high + 1e-6, "{average} not in {low}..{high}");
            }
        }

        #[test]
        fn clear_at_is_when_the_average_becomes_zero(
            records in proptest::collection::vec((0u64..4, 0u32..3), 1..40), span in 1u64..20, zeros: bool,
        ) {
            let (t0, mut w) = window(span);
            let mut at = 0;
            for (pause, value) in records {
                at += pause;
                w.record(t0 + Duration::from_secs(at), f64::from(value));
            }
            let from = w.clear_at();
            for s in at..at + span + 2 {
                let now = t0 + Duration::from_secs(s);
                let zero = w.average(now).is_none_or(|a| a == 0.0);
                prop_assert_eq!(zero, from.is_none_or(|from| now >= from), "{} s after the epoch", s);
                if zeros && s > at {
                    w.record(now, 0.0);
                }
            }
        }
    }
}
