//! The data that a run leaves: what `--json` writes, and all that reports and comparisons are made of.
//!
//! Units are in the names. Times `_s` count from the run's start. A latency counts from the instant at which the
//! scenario wanted the request sent, so a generator or a server that stalls cannot hide it (coordinated omission).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// The form of this data; raised when a field changes its meaning.
pub(crate) const VERSION: u32 = 1;
/// A histogram counts whole thousandths of the unit: microseconds where the unit is a millisecond.
pub(crate) const PER_UNIT: f64 = 1000.0;

/// One run of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The scenario's name.
    pub(crate) scenario: String,
    /// The file, as it was read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) scenario_text: String,
    /// When it began: RFC 3339, UTC.
    pub(crate) started: String,
    /// From the start to the last answer (or the bound that ended it).
    pub(crate) duration_s: f64,
    /// How it ended.
    pub(crate) finished: Finished,
    /// What the scenario's arrivals were drawn from.
    #[serde(default)]
    pub(crate) seed: u64,
    /// How well the generator did its own work.
    pub(crate) generator: Generator,
    /// In the order of the scenario: the phases that services share, then those of services that have their own.
    pub(crate) phases: Vec<Phase>,
    /// In the order of the scenario.
    pub(crate) services: Vec<ServiceRun>,
    /// Each threshold with what was measured.
    #[serde(default)]
    pub(crate) thresholds: Vec<Verdict>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Finished {
    /// Everything that the scenario wanted was sent, and is over.
    #[default]
    Complete,
    /// By Ctrl-C.
    Interrupted,
    /// `limits.requests` or `limits.duration` was reached first.
    LimitReached,
}

/// How well the generator did its own work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generator {
    /// From the instant at which a request was to leave until it was on its way.
    pub(crate) late_ms: Quantiles,
    /// Requests that left, those of warm-up phases among them.
    pub(crate) sent: u64,
    /// Requests that did not leave at all, because `limits.open` was reached.
    pub(crate) dropped: u64,
    /// The most that were open at a time.
    pub(crate) open_max: u64,
    /// Why the results may be the generator's rather than the services'; mostly none.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// One phase of the load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// Its name; made of its load when the scenario gives none.
    pub(crate) name: String,
    /// When it began.
    pub(crate) from_s: f64,
    /// When it ended; requests may be answered later.
    pub(crate) to_s: f64,
    /// Not in the totals.
    pub(crate) warm_up: bool,
    /// The one service whose phase it is; none = every service that has no phases of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
}

/// What one service did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceRun {
    /// Its name.
    pub(crate) name: String,
    /// Where requests went.
    pub(crate) url: String,
    /// `http1`, `h2c`, `grpc`, `sse` or `websocket`.
    pub(crate) protocol: String,
    /// One for each of [`Run::phases`]; all zero where it had no part.
    pub(crate) phases: Vec<Totals>,
    /// Every phase but the warm-ups.
    pub(crate) total: Totals,
    /// One for each second from the start, in order; those in which nothing happened are left out.
    pub(crate) seconds: Vec<Second>,
    /// What came of the requests: `200`, `503`; `grpc 14`; `connect`, `timeout`, `reset`, `body` …
    /// Warm-ups are left out.
    pub(crate) codes: BTreeMap<String, u64>,
    /// What the first request of each kind of failure ran into, in words.
    #[serde(default)]
    pub(crate) reasons: BTreeMap<String, String>,
    /// Requests that waited for a start, as `Server-Timing` tells; the first thousand, warm-ups among them.
    pub(crate) starts: Vec<ColdStart>,
    /// How many there were.
    #[serde(default)]
    pub(crate) starts_count: u64,
    /// Replicas over time, where the scenario says how to see them.
    #[serde(default)]
    pub(crate) observed: Vec<Observed>,
    /// Why they could not be seen.
    #[serde(default)]
    pub(crate) observe_errors: Vec<String>,
}

/// Sums and latencies of a phase or of the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Requests that left. `sent = done + failed`, and `dropped` are besides.
    pub(crate) sent: u64,
    /// Requests that were answered to the end, with whatever code.
    pub(crate) done: u64,
    /// Of these, with a code that the scenario calls a success.
    pub(crate) ok: u64,
    /// Requests without a whole answer: no connection, a timeout, a reset, cut off by the end of the run.
    pub(crate) failed: u64,
    /// Requests that did not leave, because a bound was reached.
    #[serde(default)]
    pub(crate) dropped: u64,
    /// Sent, per second of its phases.
    pub(crate) per_s: f64,
    /// Bytes of answers' bodies.
    pub(crate) bytes_in: u64,
    /// Bytes of requests' bodies.
    pub(crate) bytes_out: u64,
    /// Of `done`: from the intended start to the end of the answer.
    pub(crate) latency_ms: Quantiles,
    /// Of `done`: from the actual send to the end of the answer.
    pub(crate) service_ms: Quantiles,
    /// Of streams: from the intended start to the first event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_token_ms: Option<Quantiles>,
    /// Of streams: between two events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_gap_ms: Option<Quantiles>,
    /// Of each stream: events after the first, per second since the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_s: Option<Quantiles>,
    /// Of streams: events. Of websockets: messages that came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) messages: Option<u64>,
    /// Of websockets: from a message sent to its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) round_trip_ms: Option<Quantiles>,
}

/// One second of a service: requests are counted in the second of their intended start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Its beginning.
    pub(crate) at_s: u64,
    /// As in [`Totals`].
    pub(crate) sent: u64,
    /// As in [`Totals`].
    pub(crate) done: u64,
    /// As in [`Totals`].
    pub(crate) ok: u64,
    /// As in [`Totals`].
    pub(crate) failed: u64,
    /// As in [`Totals`], without the histogram itself.
    pub(crate) latency_ms: Quantiles,
    /// What came of them, as [`ServiceRun::codes`], warm-ups among them.
    #[serde(default)]
    pub(crate) codes: BTreeMap<String, u64>,
}

/// A request that waited for a start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ColdStart {
    /// Its intended start.
    pub(crate) at_s: f64,
    /// From then to the end of the answer.
    pub(crate) latency_ms: f64,
    /// `queue` of `Server-Timing`: it waited for a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) queue_ms: Option<f64>,
    /// `start`: of it, for a replica's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_ms: Option<f64>,
    /// `ready`: of it, from the process's start until it was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready_ms: Option<f64>,
}

/// A service's replicas at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Observed {
    /// When.
    pub(crate) at_s: f64,
    /// How many there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) desired: Option<u64>,
    /// How many can take requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<u64>,
    /// How many are on their way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) starting: Option<u64>,
    /// Requests at replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_flight: Option<u64>,
    /// Requests that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) queued: Option<u64>,
}

/// A threshold and what was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Such as `iris p99`.
    pub(crate) what: String,
    /// What it may be at most.
    pub(crate) limit: f64,
    /// `limit` is the least instead.
    #[serde(default)]
    pub(crate) at_least: bool,
    /// Of `limit` and `measured`: `ms`, `%`, `requests`, `requests/s`, `tokens/s`.
    pub(crate) unit: String,
    /// None: nothing was measured, and the threshold does not hold.
    pub(crate) measured: Option<f64>,
    /// Whether it holds.
    pub(crate) passed: bool,
}

/// A distribution, in the unit of the field's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// How many values; with 0 everything else is 0 too.
    pub(crate) count: u64,
    /// Their mean.
    pub(crate) mean: f64,
    /// Half of them are at most this, and so on.
    pub(crate) p50: f64,
    /// 75 %.
    pub(crate) p75: f64,
    /// 90 %.
    pub(crate) p90: f64,
    /// 95 %.
    pub(crate) p95: f64,
    /// 99 %.
    pub(crate) p99: f64,
    /// 99.9 %.
    pub(crate) p999: f64,
    /// The largest.
    pub(crate) max: f64,
    /// All of it: an HDR histogram (V2, deflated, base64) of thousandths of the unit. Seconds go without.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) hdr: String,
}

// === impl Quantiles ===

impl Quantiles {
    /// The distribution in `histogram`, which counts thousandths of the unit.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let mut hdr = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram, &mut hdr)
            .expect("a histogram that counts fits into memory twice");
        Self { hdr: STANDARD.encode(hdr), ..Self::summary(histogram) }
    }

    /// The same without the histogram itself.
    pub(crate) fn summary(histogram: &Histogram<u64>) -> Self {
        let at = |q| histogram.value_at_quantile(q) as f64 / PER_UNIT;
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            mean: histogram.mean() / PER_UNIT,
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / PER_UNIT,
            hdr: String::new(),
        }
    }

    /// The histogram itself, in thousandths of the unit. `None` when it is not there or damaged.
    #[allow(dead_code, reason = "for the report")]
    pub(crate) fn histogram(&self) -> Option<Histogram<u64>> {
        let bytes = STANDARD.decode(&self.hdr).ok()?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut histogram = Histogram::new(3).unwrap();
        for us in [1_000, 2_000, 3_000, 250_000] {
            histogram.record(us).unwrap();
        }
        let latency_ms = Quantiles::of(&histogram);
        assert_eq!(latency_ms.count, 4);
        assert!((latency_ms.p50 - 2.0).abs() < 0.01, "{latency_ms:?}");
        assert_eq!(latency_ms.histogram().unwrap(), histogram);

        let total = Totals { sent: 4, done: 4, ok: 4, latency_ms, ..Totals::default() };
        let service = ServiceRun { name: "iris".into(), total, ..ServiceRun::default() };
        let run = Run { version: VERSION, services: vec![service], ..Run::default() };
        let text = serde_json::to_string(&run).unwrap();
        let back: Run = serde_json::from_str(&text).unwrap();
        assert_eq!(back.services[0].name, "iris");
        assert_eq!(back.services[0].total.latency_ms.histogram().unwrap(), histogram);
    }

    #[test]
    fn nothing_is_all_zero() {
        assert_eq!(Quantiles::of(&Histogram::new(3).unwrap()).count, 0);
    }
}
