//! Counts what happens, while it happens. Many threads write, the progress display reads.

mod live;
mod seconds;
mod sums;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

pub(crate) use live::Live;

use self::live::LiveSums;
use self::seconds::{Count, Seconds};
use self::sums::{Distribution, Sums};
use crate::outcome::{Answer, Code, Failed, Failure};
use crate::run::{ColdStart, Quantiles, ServiceRun, Totals};

/// Cold starts of a service that are kept one by one.
const STARTS_MAX: usize = 1000;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shot {
    /// Whose.
    pub(crate) service: usize,
    /// Of all phases of all timelines.
    pub(crate) phase: usize,
    /// Its number within the service.
    pub(crate) index: u64,
    /// When it is to leave.
    pub(crate) intended: Instant,
}

/// When a phase began and ended, in seconds from the run's start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    /// Its beginning.
    pub(crate) from_s: f64,
    /// Its end.
    pub(crate) to_s: f64,
}

/// Everything that is counted.
pub(crate) struct Recorder {
    began: Instant,
    /// Of each phase, whether it is a warm-up.
    warm_ups: Vec<bool>,
    services: Vec<Mutex<ServiceSums>>,
    live: Mutex<LiveSums>,
    late: Mutex<Distribution>,
}

struct ServiceSums {
    phases: Vec<Sums>,
    seconds: Seconds,
    codes: BTreeMap<Code, u64>,
    starts: Vec<ColdStart>,
    starts_count: u64,
    /// The first one's words of each kind of failure.
    reasons: BTreeMap<Failure, String>,
}

/// Histograms grow as needed; a value that none can hold, some 500,000 years of microseconds, is left out.
fn record(histogram: &mut Histogram<u64>, value: u64) {
    let _ = histogram.record(value);
}

// === impl Recorder ===

impl Recorder {
    /// For a run that begins then.
    pub(crate) fn new(began: Instant, services: usize, warm_ups: Vec<bool>) -> Self {
        let sums = || ServiceSums {
            phases: vec![Sums::default(); warm_ups.len()],
            seconds: Seconds::default(),
            codes: BTreeMap::new(),
            starts: Vec::new(),
            starts_count: 0,
            reasons: BTreeMap::new(),
        };
        let services = (0..services).map(|_| Mutex::new(sums())).collect();
        Self { began, services, warm_ups, live: Mutex::default(), late: Mutex::default() }
    }

    /// Seconds from the run's start.
    pub(crate) fn since(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }

    /// The request's time has come, and it goes.
    pub(crate) fn sent(&self, shot: Shot) {
        let second = self.second(shot);
        let mut service = self.services[shot.service].lock();
        service.phases[shot.phase].sent += 1;
        service.seconds.count(second, &Count::Sent);
        drop(service);
        self.live.lock().sent += 1;
    }

    /// Its time has come, but too many are open.
    pub(crate) fn dropped(&self, shot: Shot) {
        self.services[shot.service].lock().phases[shot.phase].dropped += 1;
        self.live.lock().dropped += 1;
    }

    /// It is on its way.
    pub(crate) fn left(&self, shot: Shot, at: Instant, bytes_out: u64) {
        let late = at.saturating_duration_since(shot.intended);
        self.late.lock().time(late);
        self.live.lock().late(late);
        self.services[shot.service].lock().phases[shot.phase].bytes_out += bytes_out;
    }

    /// It was answered to the end.
    pub(crate) fn done(&self, shot: Shot, left: Instant, ended: Instant, answer: &Answer) {
        let latency = ended.saturating_duration_since(shot.intended);
        let second = self.second(shot);
        let mut service = self.services[shot.service].lock();
        let took = ended.saturating_duration_since(left);
        service.phases[shot.phase].answer(shot.intended, latency, took, answer);
        service.seconds.count(second, &Count::Done(latency, answer.ok, answer.code));
        if !self.warm_ups[shot.phase] {
            *service.codes.entry(answer.code).or_default() += 1;
        }
        if let Some(start) = answer.start {
            service.starts_count += 1;
            if service.starts.len() < STARTS_MAX {
                service.starts.push(ColdStart {
                    at_s: self.since(shot.intended),
                    latency_ms: latency.as_secs_f64() * 1e3,
                    queue_ms: start.queue,
                    start_ms: start.replica,
                    ready_ms: start.ready,
                });
            }
        }
        drop(service);
        self.live.lock().done(latency, answer.ok);
    }

    /// It was not.
    pub(crate) fn failed(&self, shot: Shot, failed: Failed) {
        let second = self.second(shot);
        let mut service = self.services[shot.service].lock();
        service.phases[shot.phase].failed += 1;
        let code = Code::Failed(failed.kind);
        service.seconds.count(second, &Count::Failed(code));
        if !self.warm_ups[shot.phase] {
            *service.codes.entry(code).or_default() += 1;
        }
        if let Some(why) = failed.why {
            service.reasons.entry(failed.kind).or_insert(why);
        }
        drop(service);
        self.live.lock().failed += 1;
    }

    /// Time between two events of its stream.
    pub(crate) fn gap(&self, shot: Shot, gap: Duration) {
        self.services[shot.service].lock().phases[shot.phase].token_gap.time(gap);
    }

    /// Time from a message to its answer.
    pub(crate) fn round_trip(&self, shot: Shot, time: Duration) {
        self.services[shot.service].lock().phases[shot.phase].round_trip.time(time);
    }

    /// How it goes.
    pub(crate) fn live(&self, now: Instant) -> Live {
        self.live.lock().look(now)
    }

    /// How late requests left.
    pub(crate) fn lateness(&self) -> Quantiles {
        self.late.lock().quantiles().unwrap_or_default()
    }

    /// All services together, without warm-ups; `seconds` is how long that was.
    pub(crate) fn together(&self, seconds: f64) -> Totals {
        let mut sum = Sums::default();
        for service in &self.services {
            service.lock().add_to(&mut sum, &self.warm_ups);
        }
        sum.totals(seconds)
    }

    /// What a service did. `spans`: when the phases were, and of those that were not its own nothing.
    pub(crate) fn take(&self, service: usize, spans: &[Option<Span>]) -> ServiceRun {
        let mut service = self.services[service].lock();
        let seconds = |span: &Option<Span>| span.map_or(0.0, |span| (span.to_s - span.from_s).max(0.0));
        let phases =
            service.phases.iter().zip(spans).map(|(sums, span)| sums.totals(seconds(span))).collect();
        let counted = spans.iter().zip(&self.warm_ups).filter(|(_, warm_up)| !**warm_up);
        let whole: f64 = counted.map(|(span, _)| seconds(span)).sum();
        let mut total = Sums::default();
        service.add_to(&mut total, &self.warm_ups);
        ServiceRun {
            phases,
            total: total.totals(whole),
            seconds: service.seconds.take(),
            codes: service.codes.iter().map(|(code, n)| (code.to_string(), *n)).collect(),
            starts: std::mem::take(&mut service.starts),
            starts_count: service.starts_count,
            reasons: service.reasons.iter().map(|(kind, why)| (kind.to_string(), why.clone())).collect(),
            ..ServiceRun::default()
        }
    }

    fn second(&self, shot: Shot) -> u64 {
        shot.intended.saturating_duration_since(self.began).as_secs()
    }
}

// === impl ServiceSums ===

impl ServiceSums {
    fn add_to(&self, sum: &mut Sums, warm_ups: &[bool]) {
        for (phase, _) in self.phases.iter().zip(warm_ups).filter(|(_, warm_up)| !**warm_up) {
            sum.add(phase);
        }
    }
}
