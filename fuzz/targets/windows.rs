//! Averages and maxima over sliding windows: those that a list of everything gives, at whatever times.
#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pilotlight::config::spec::Aggregation;
use pilotlight::policy::max_window::MaxWindow;
use pilotlight::policy::windows::Window;

#[derive(Arbitrary, Debug)]
struct Input {
    span_millis: u16,
    exponential: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Record(u16),
    Wait {
        millis: u16,
    },
    WaitLong {
        secs: u32,
    },
    /// A record of the past.
    Late {
        millis: u16,
        value: u8,
    },
    Look,
    Resize(u16),
}

/// Seconds' sums, for the average by hand.
struct Model {
    sums: Vec<(u64, f64)>,
    first: Option<u64>,
    last: u64,
}

fn span(millis: u16) -> Duration {
    Duration::from_millis(u64::from(millis).max(1))
}

fuzz_target!(|input: Input| {
    let epoch = pilotlight::clock::now();
    let aggregation = if input.exponential { Aggregation::WeightedExponential } else { Aggregation::Linear };
    let mut length = span(input.span_millis);
    let mut window = Window::new(epoch, length, aggregation);
    let mut maximum = MaxWindow::new(epoch, length);
    let mut model = Model { sums: Vec::new(), first: None, last: 0 };
    let mut counts: Vec<(u64, u32)> = Vec::new();
    let (mut now, mut greatest, mut resized) = (Duration::ZERO, 0.0_f64, false);
    let at = |since: Duration| -> Instant { epoch + since };
    for step in input.steps.iter().take(200) {
        match step {
            Step::Record(value) => {
                window.record(at(now), f64::from(*value));
                model.record(now, f64::from(*value), length);
                greatest = greatest.max(f64::from(*value));
                let count = u32::from(*value);
                counts.push((now.as_secs() / 2, count));
                let found = maximum.record(at(now), count);
                let most = counts.iter().map(|(_, count)| *count).max().unwrap_or_default();
                assert!((count..=most).contains(&found));
                if !resized {
                    let steps = (length.as_secs_f64() / 2.0).ceil().max(1.0) as u64;
                    let inside = counts.iter().filter(|(step, _)| now.as_secs() / 2 - step < steps);
                    assert_eq!(inside.map(|(_, count)| *count).max(), Some(found));
                }
            }
            Step::Wait { millis } => now += Duration::from_millis(u64::from(*millis)),
            Step::WaitLong { secs } => now += Duration::from_secs(u64::from(*secs)),
            Step::Late { millis, value } => {
                let then = now.saturating_sub(Duration::from_millis(u64::from(*millis)));
                window.record(at(then), f64::from(*value));
                model.record(then, f64::from(*value), length);
            }
            Step::Look => {
                let average = window.average(at(now));
                if let Some(average) = average {
                    assert!(average.is_finite() && average >= -1e-6, "{average}");
                    let all: f64 = model.sums.iter().map(|(_, sum)| sum).sum();
                    assert!(average <= all + 1e-6, "{average} of {all} in all");
                }
                if !resized && !input.exponential {
                    let expected = model.average(now, length);
                    let near = match (average, expected) {
                        (Some(average), Some(expected)) => (average - expected).abs() < 1e-5,
                        (found, expected) => found == expected,
                    };
                    assert!(near, "{average:?}, by hand {expected:?}");
                }
                assert_eq!(window.is_empty(at(now)), average.is_none());
                if let Some(clear) = window.clear_at() {
                    let later = clear.max(at(now));
                    assert!(
                        window.average(later).is_none_or(|rest| rest.abs() < 1e-6),
                        "not clear when it said"
                    );
                }
            }
            Step::Resize(millis) => {
                length = span(*millis);
                resized = true;
                window.resize(at(now), length);
                maximum.resize(length);
                assert_eq!(window.span(), length);
            }
        }
    }
});

// === impl Model ===

impl Model {
    fn record(&mut self, at: Duration, value: f64, length: Duration) {
        let second = at.as_secs();
        if let Some(first) = self.first {
            if second + 1 <= self.last && Duration::from_secs(self.last - second) >= length {
                return;
            }
            if second > self.last && Duration::from_secs(second - self.last) >= length {
                // A whole window of silence: it begins anew.
                self.sums.clear();
                self.first = Some(second);
            } else {
                self.first = Some(first.min(second));
            }
        } else {
            self.first = Some(second);
        }
        self.last = self.last.max(second);
        self.sums.push((second, value));
    }

    fn average(&self, now: Duration, length: Duration) -> Option<f64> {
        let first = self.first?;
        let silent = now.as_secs().saturating_sub(self.last);
        if Duration::from_secs(silent) > length {
            return None;
        }
        let buckets = length.as_secs_f64().ceil().max(1.0) as u64;
        if Duration::from_secs(silent) >= length {
            return Some(0.0);
        }
        let oldest = (self.last + silent + 1).saturating_sub(buckets);
        let inside = self.sums.iter().filter(|(second, _)| *second >= oldest);
        let counted = (self.last + 1 - first).min(buckets - silent);
        Some(inside.map(|(_, value)| value).sum::<f64>() / counted as f64)
    }
}
