//! Sums and histograms of one service in one phase.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::record;

use crate::outcome::Answer;
use crate::run::{PER_UNIT, Quantiles, Totals};

/// Digits of every histogram: to a thousandth.
const DIGITS: u8 = 3;

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) sent: u64,
    pub(super) done: u64,
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) messages: Option<u64>,
    pub(super) latency: Distribution,
    pub(super) service: Distribution,
    pub(super) first_token: Distribution,
    pub(super) token_gap: Distribution,
    pub(super) tokens_per_s: Distribution,
    pub(super) round_trip: Distribution,
}

/// A histogram that takes no memory until it is needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Distribution(Option<Box<Histogram<u64>>>);

// === impl Sums ===

impl Sums {
    /// Counts an answer.
    pub(super) fn answer(
        &mut self,
        intended: Instant,
        latency: Duration,
        service: Duration,
        answer: &Answer,
    ) {
        self.done += 1;
        self.ok += u64::from(answer.ok);
        self.bytes_in += answer.bytes_in;
        self.latency.time(latency);
        self.service.time(service);
        let events = answer.events.map(|events| events.count);
        if let Some(messages) = answer.messages.or(events) {
            *self.messages.get_or_insert(0) += messages;
        }
        if let Some(events) = answer.events {
            self.first_token.time(events.first.saturating_duration_since(intended));
            if let Some(rate) = events.per_second() {
                self.tokens_per_s.record(rate * PER_UNIT);
            }
        }
    }

    /// Adds another phase's.
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.done += other.done;
        self.ok += other.ok;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        if let Some(messages) = other.messages {
            *self.messages.get_or_insert(0) += messages;
        }
        self.latency.add(&other.latency);
        self.service.add(&other.service);
        self.first_token.add(&other.first_token);
        self.token_gap.add(&other.token_gap);
        self.tokens_per_s.add(&other.tokens_per_s);
        self.round_trip.add(&other.round_trip);
    }

    /// As the run has it; `seconds` is how long its phases took.
    pub(super) fn totals(&self, seconds: f64) -> Totals {
        Totals {
            sent: self.sent,
            done: self.done,
            ok: self.ok,
            failed: self.failed,
            dropped: self.dropped,
            per_s: if seconds > 0.0 { self.sent as f64 / seconds } else { 0.0 },
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            latency_ms: self.latency.quantiles().unwrap_or_default(),
            service_ms: self.service.quantiles().unwrap_or_default(),
            first_token_ms: self.first_token.quantiles(),
            token_gap_ms: self.token_gap.quantiles(),
            tokens_per_s: self.tokens_per_s.quantiles(),
            messages: self.messages,
            round_trip_ms: self.round_trip.quantiles(),
        }
    }
}

// === impl Distribution ===

impl Distribution {
    /// Records a time, in microseconds.
    pub(super) fn time(&mut self, time: Duration) {
        self.record(time.as_secs_f64() * 1e3 * PER_UNIT);
    }

    /// Records a value in thousandths of its unit.
    fn record(&mut self, thousandths: f64) {
        let histogram = self.0.get_or_insert_with(|| Box::new(empty()));
        record(histogram, thousandths.round() as u64);
    }

    fn add(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            let histogram = self.0.get_or_insert_with(|| Box::new(empty()));
            histogram.add(other.as_ref()).expect("both grow as needed and have as many digits");
        }
    }

    /// Some if anything was recorded.
    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        self.0.as_deref().map(Quantiles::of)
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("a constant number of digits that is allowed")
}
