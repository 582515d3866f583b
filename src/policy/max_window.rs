//! The greatest of the replica counts that were right lately: what delays a scale-down.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Seconds in which counts are taken together, as in Knative: the time between two decisions there.
const GRANULARITY: u64 = 2;

/// Maximum over a sliding window, in steps of 2 s.
#[derive(Clone, Debug)]
pub struct MaxWindow {
    epoch: Instant,
    steps: u64,
    /// Step and count, steps rising and counts falling: a count below a later one can never be the maximum again.
    /// At most one entry for each step of the window.
    falling: VecDeque<(u64, u32)>,
}

// === impl MaxWindow ===

impl MaxWindow {
    /// An empty window whose steps begin at `epoch`. A part of a step in `span` counts as a whole one.
    #[must_use]
    pub fn new(epoch: Instant, span: Duration) -> Self {
        Self { epoch, steps: steps(span), falling: VecDeque::new() }
    }

    /// Records `count` and returns the maximum of the window that ends with the step of `now`.
    pub fn record(&mut self, now: Instant, count: u32) -> u32 {
        let newest = self.falling.back().map_or(0, |&(step, _)| step);
        let step = (now.saturating_duration_since(self.epoch).as_secs() / GRANULARITY).max(newest);
        while self.falling.front().is_some_and(|&(old, _)| step - old >= self.steps) {
            self.falling.pop_front();
        }
        while self.falling.back().is_some_and(|&(_, lower)| lower <= count) {
            self.falling.pop_back();
        }
        // Within one step the greatest count stands, not the latest.
        if self.falling.back().is_none_or(|&(last, _)| last != step) {
            self.falling.push_back((step, count));
        }
        self.falling.front().map_or(count, |&(_, max)| max)
    }

    /// Makes the window `span` long; takes effect with the next record.
    pub fn resize(&mut self, span: Duration) {
        self.steps = steps(span);
    }
}

fn steps(span: Duration) -> u64 {
    ((span.as_secs_f64() / GRANULARITY as f64).ceil() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    #[test]
    fn a_step_keeps_its_greatest_and_leaves_with_the_window() {
        let t0 = clock::now();
        let at = |s| t0 + Duration::from_secs(s);
        let mut w = MaxWindow::new(t0, Duration::from_secs(5));
        assert_eq!(w.record(at(0), 7), 7);
        assert_eq!(w.record(at(1), 3), 7);
        assert_eq!(w.record(at(4), 5), 7);
        assert_eq!(w.record(at(5), 4), 7);
        assert_eq!(w.record(at(6), 1), 5);
        w.resize(Duration::from_secs(2));
        assert_eq!(w.record(at(8), 0), 0);
    }

    proptest! {
        #[test]
        fn it_is_the_maximum_and_bounded(
            counts in proptest::collection::vec((0u64..5, 0u32..50), 1..100), span in 1u64..40,
        ) {
            let t0 = clock::now();
            let mut w = MaxWindow::new(t0, Duration::from_secs(span));
            let (mut at, mut seen) = (0, Vec::new());
            for (pause, count) in counts {
                at += pause;
                seen.push((at / 2, count));
                let max = seen.iter().filter(|(s, _)| at / 2 - s < span.div_ceil(2)).map(|&(_, c)| c).max();
                prop_assert_eq!(Some(w.record(t0 + Duration::from_secs(at), count)), max);
                prop_assert!(w.falling.len() as u64 <= span.div_ceil(2));
            }
        }
    }
}
