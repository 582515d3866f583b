//! What is counted about one service's requests.
//!
//! Handles are made once per service and carry its name as constant labels: nothing is looked up by label on the
//! way of a request, and the `prometheus` crate's label hash, under which `("ml","llama")` and `("mll","lama")`
//! collide, is never used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, Opts};

use super::fault::{AppFault, Telling};
use super::heartbeat::Outcome;
use crate::clock;
use crate::config::spec::ServiceKey;

/// Seconds, from half a millisecond to an hour: model servers answer within either.
const BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    1800.0, 3600.0,
];

/// Why a replica left the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejected {
    /// It cannot be connected to.
    Unreachable,
    /// It breaks exchanges.
    Broken,
    /// It says that it is not ready, or nothing at all.
    NotReady,
}

/// Why requests are refused before they are looked at: `ProxyError`'s codes, and what is no HTTP at all to hyper.
const INVALID: [&str; 4] = ["bad_request", "head_too_large", MALFORMED, "target_too_long"];
/// What hyper answers by itself.
pub const MALFORMED: &str = "malformed";

/// This process's client connections, those of all listeners together. The admin port's do not count.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    total: AtomicU64,
    invalid: [AtomicU64; INVALID.len()],
}

/// One open connection.
#[derive(Debug)]
pub struct OpenConnection(());

/// Of the process, as its descriptors are.
static CONNECTIONS: Connections = Connections {
    open: AtomicU64::new(0),
    total: AtomicU64::new(0),
    invalid: [const { AtomicU64::new(0) }; INVALID.len()],
};

/// One service's counters.
#[derive(Debug)]
pub struct ServiceMetrics {
    key: ServiceKey,
    /// By status code, in order of first appearance: at most one per code, 100–999.
    requests: Mutex<Vec<(u16, IntCounter)>>,
    /// By [`ProxyError::code`](super::error::ProxyError::code), a fixed set.
    refused: Mutex<Vec<(&'static str, IntCounter)>>,
    /// By kind, a fixed set; and when the log was last told of each.
    app_faults: Mutex<Vec<(AppFault, IntCounter, Telling)>>,
    duration: Histogram,
    first_byte: Histogram,
    queue_wait: Histogram,
    /// From a request that found nothing ready to its slot.
    cold_wait: Histogram,
    starts: IntCounter,
    failed_starts: IntCounter,
    start_time: Histogram,
    retries: IntCounter,
    /// By [`Outcome`], in its order.
    heartbeats: [IntCounter; 3],
    /// By [`Ejected`], in its order.
    ejections: [IntCounter; 3],
    request_bytes: IntCounter,
    response_bytes: IntCounter,
}

// === impl ServiceMetrics ===

impl ServiceMetrics {
    /// All zero.
    pub fn new(key: &ServiceKey) -> Self {
        let histogram = |name, help| {
            let opts = HistogramOpts::from(opts(key, name, help)).buckets(BUCKETS.to_vec());
            Histogram::with_opts(opts).expect("constant names and sorted buckets")
        };
        let counter = |name, help| IntCounter::with_opts(opts(key, name, help)).expect("constant names");
        let ejections = |reason: Ejected| {
            let opts = opts(key, "pilotlight_ejections_total", "Times that a replica left the set.");
            IntCounter::with_opts(opts.const_label("reason", reason.as_str())).expect("constant names")
        };
        let heartbeats = |outcome: Outcome| {
            let help = "Event streams that began before an app answered, by what came of them.";
            let opts = opts(key, "pilotlight_heartbeat_streams_total", help);
            IntCounter::with_opts(opts.const_label("outcome", outcome.as_str())).expect("constant names")
        };
        Self {
            key: key.clone(),
            requests: Mutex::default(),
            refused: Mutex::default(),
            app_faults: Mutex::default(),
            duration: histogram(
                "pilotlight_request_duration_seconds",
                "From a request's arrival to the end of its response.",
            ),
            first_byte: histogram(
                "pilotlight_response_start_seconds",
                "From a request sent to the head of the app's response.",
            ),
            queue_wait: histogram("pilotlight_queue_wait_seconds", "Waiting in line for a slot."),
            cold_wait: histogram(
                "pilotlight_cold_start_wait_seconds",
                "Waiting in line of requests that found no replica ready.",
            ),
            starts: counter("pilotlight_replica_starts_total", "Replicas that were started."),
            failed_starts: counter(
                "pilotlight_replica_start_failures_total",
                "Starts that never became ready.",
            ),
            start_time: histogram("pilotlight_replica_start_seconds", "From a replica's start to ready."),
            retries: counter(
                "pilotlight_retries_total",
                "Requests that were sent again because no app had read them.",
            ),
            heartbeats: [Outcome::Stream, Outcome::Aborted, Outcome::ClientGone].map(heartbeats),
            ejections: [Ejected::Unreachable, Ejected::Broken, Ejected::NotReady].map(ejections),
            request_bytes: counter(
                "pilotlight_request_bytes_total",
                "Bytes of request bodies sent to apps, and what upgraded connections sent.",
            ),
            response_bytes: counter(
                "pilotlight_response_bytes_total",
                "Bytes of response bodies that apps sent, and what upgraded connections got.",
            ),
        }
    }

    /// A response by an app ended, after so many bytes of its body.
    pub fn answered(&self, status: u16, took: Duration, bytes: u64) {
        self.duration.observe(took.as_secs_f64());
        self.response_bytes.inc_by(bytes);
        self.count_status(status);
    }

    /// An answer was made here.
    pub fn refused(&self, code: &'static str, status: u16) {
        self.count_status(status);
        let mut refused = self.refused.lock();
        if let Some((_, counter)) = refused.iter().find(|(known, _)| *known == code) {
            counter.inc();
            return;
        }
        let opts =
            opts(&self.key, "pilotlight_refused_total", "Requests answered here instead of by an app.");
        let counter = IntCounter::with_opts(opts.const_label("reason", code)).expect("constant names");
        counter.inc();
        refused.push((code, counter));
    }

    /// The app broke an exchange. Tells the log, but not of every one.
    pub fn app_fault(&self, fault: AppFault, detail: &dyn std::fmt::Display) {
        let mut faults = self.app_faults.lock();
        let known = faults.iter().position(|(known, ..)| *known == fault);
        let at = known.unwrap_or_else(|| {
            let opts =
                opts(&self.key, "pilotlight_app_errors_total", "Exchanges that the app broke, by how.");
            let counter = IntCounter::with_opts(opts.const_label("kind", fault.name()));
            faults.push((fault, counter.expect("constant names"), Telling::default()));
            faults.len() - 1
        });
        let (_, counter, telling) = &mut faults[at];
        counter.inc();
        if let Some(untold) = telling.now(clock::now()) {
            tracing::warn!(service = %self.key, untold, "the app broke an exchange: {detail}");
        }
    }

    /// The app's head came.
    pub fn first_byte(&self, took: Duration) {
        self.first_byte.observe(took.as_secs_f64());
    }

    /// A request got its slot after waiting; `cold` when none was ready when it came.
    pub fn waited(&self, took: Duration, cold: bool) {
        self.queue_wait.observe(took.as_secs_f64());
        if cold {
            self.cold_wait.observe(took.as_secs_f64());
        }
    }

    /// A request is sent again.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// A replica left the set.
    pub fn ejected(&self, reason: Ejected) {
        self.ejections[reason as usize].inc();
    }

    /// Counts what request bodies send.
    pub fn request_bytes(&self) -> &IntCounter {
        &self.request_bytes
    }

    /// A replica was started.
    pub fn started(&self) {
        self.starts.inc();
    }

    /// A start never became ready.
    pub fn start_failed(&self) {
        self.failed_starts.inc();
    }

    /// A replica became ready.
    pub fn ready(&self, took: Duration) {
        self.start_time.observe(took.as_secs_f64());
    }

    /// A stream that had begun with heartbeats is over.
    pub fn heartbeat(&self, outcome: Outcome) {
        self.heartbeats[outcome as usize].inc();
    }

    /// All of it, for an exposition.
    pub fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        for (_, counter) in self.requests.lock().iter() {
            families.extend(counter.collect());
        }
        for (_, counter) in self.refused.lock().iter() {
            families.extend(counter.collect());
        }
        for (_, counter, _) in self.app_faults.lock().iter() {
            families.extend(counter.collect());
        }
        for histogram in
            [&self.duration, &self.first_byte, &self.queue_wait, &self.cold_wait, &self.start_time]
        {
            families.extend(histogram.collect());
        }
        let counters =
            [&self.starts, &self.failed_starts, &self.retries, &self.request_bytes, &self.response_bytes];
        // Hundreds of services at rest: what most never count is left out until they do.
        let rare = self.ejections.iter().chain(&self.heartbeats).filter(|counter| counter.get() > 0);
        for counter in counters.into_iter().chain(rare) {
            families.extend(counter.collect());
        }
        families
    }

    fn count_status(&self, status: u16) {
        let mut requests = self.requests.lock();
        if let Some((_, counter)) = requests.iter().find(|(known, _)| *known == status) {
            counter.inc();
            return;
        }
        let opts = opts(&self.key, "pilotlight_requests_total", "Requests answered, by status code.");
        let counter =
            IntCounter::with_opts(opts.const_label("code", status.to_string())).expect("constant names");
        counter.inc();
        requests.push((status, counter));
    }
}

// === impl Ejected ===

impl Ejected {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::NotReady => "not_ready",
        }
    }
}

// === impl Connections ===

impl Connections {
    /// This process's.
    pub fn of_process() -> &'static Self {
        &CONNECTIONS
    }

    /// Open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Accepted so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// A request on one of them was refused, for this reason, before it was looked at.
    pub fn refused(&self, reason: &str) {
        let counted = INVALID.iter().zip(&self.invalid).find(|(known, _)| **known == reason);
        debug_assert!(counted.is_some(), "bug: {reason} is not in the list");
        if let Some((_, count)) = counted {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests refused so far, by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        INVALID.into_iter().zip(&self.invalid).map(|(why, count)| (why, count.load(Ordering::Relaxed)))
    }
}

// === impl OpenConnection ===

impl OpenConnection {
    /// A connection was accepted.
    #[must_use]
    pub fn count() -> Self {
        CONNECTIONS.open.fetch_add(1, Ordering::Relaxed);
        CONNECTIONS.total.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        CONNECTIONS.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn opts(key: &ServiceKey, name: &str, help: &str) -> Opts {
    Opts::new(name, help).const_label("namespace", &*key.namespace).const_label("service", &*key.name)
}
