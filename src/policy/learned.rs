//! What a service has shown of itself: how long a start and a request take.

use std::time::Duration;

/// Weight of a start in the average. Starts are few, and change with the image or the model behind them.
const START: f64 = 0.3;
/// Weight of a request in the average. Requests are many, and vary.
const SERVICE: f64 = 0.05;

/// Averages of one service's start and service times. `None` until the first was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    start: Average,
    service: Average,
}

/// The plain mean of the first values, exponentially weighted from then on: the first value is no better than the
/// second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Average {
    mean: f64,
    /// Values so far; stands still once their mean has become weighted.
    seen: u32,
}

// === impl Learned ===

impl Learned {
    /// A replica became ready, `took` after its start was asked for.
    pub fn started(&mut self, took: Duration) {
        self.start.add(took, START);
    }

    /// A request held a slot for `took`; waiting for it does not count.
    pub fn served(&mut self, took: Duration) {
        self.service.add(took, SERVICE);
    }

    /// Average time from asking for a replica until it is ready.
    #[must_use]
    pub fn start(&self) -> Option<Duration> {
        self.start.get()
    }

    /// Average time that a request holds a slot.
    #[must_use]
    pub fn service(&self) -> Option<Duration> {
        self.service.get()
    }
}

// === impl Average ===

impl Average {
    fn add(&mut self, took: Duration, weight: f64) {
        let plain = 1.0 / f64::from(self.seen + 1);
        if plain > weight {
            self.seen += 1;
        }
        self.mean += (took.as_secs_f64() - self.mean) * plain.max(weight);
    }

    fn get(self) -> Option<Duration> {
        // Rounding may leave a mean of zeros a hair below zero.
        (self.seen > 0).then(|| Duration::try_from_secs_f64(self.mean).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_at_first_then_the_recent_count_more() {
        let mut learned = Learned::default();
        assert_eq!((learned.start(), learned.service()), (None, None));
        learned.started(Duration::from_secs(2));
        learned.started(Duration::from_secs(4));
        assert_eq!(learned.start(), Some(Duration::from_secs(3)));
        for _ in 0..20 {
            learned.started(Duration::from_secs(10));
        }
        assert!(learned.start().is_some_and(|t| t > Duration::from_millis(9900)));
    }

    proptest! {
        #[test]
        fn lies_among_what_was_seen(times in proptest::collection::vec(0u64..100_000, 1..200)) {
            let mut learned = Learned::default();
            for &t in &times {
                learned.served(Duration::from_millis(t));
            }
            let mean = learned.service().expect("some were seen").as_secs_f64() * 1e3;
            let (low, high) = (times.iter().min(), times.iter().max());
            prop_assert!(low.is_some_and(|&l| mean > l as f64 - 1e-3));
            prop_assert!(high.is_some_and(|&h| mean < h as f64 + 1e-3));
        }
    }
}
