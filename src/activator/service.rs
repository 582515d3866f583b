//! One service as the data path and the control loop share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderValue, Request};
use parking_lot::Mutex;

use super::limits::RateLimits;
use super::wake::Wakeups;
use crate::clock;
use crate::config::spec::{NoWake, ServiceKey, ServiceSpec};
use crate::policy::Learned;
use crate::policy::dispatch::ReplicaId;
use crate::policy::retries::RetryBudget;
use crate::proxy::Line;
use crate::proxy::error::{ProxyError, Refusal};
use crate::proxy::metrics::ServiceMetrics;
use crate::stat::Meter;

#[cfg(test)]
mod tests;

/// A service: its line, its load, and what its owner says of it. Lives as long as its key is configured; a changed
/// spec is swapped in.
#[derive(Debug)]
pub struct Service {
    /// Who it is.
    pub key: ServiceKey,
    /// The line in front of its replicas.
    pub line: Line,
    /// Its load.
    pub meter: Arc<Meter>,
    /// Its counters.
    pub metrics: Arc<ServiceMetrics>,
    /// When it was first loaded, for people.
    pub loaded: SystemTime,
    /// Its own name as a host, for requests on its port that name none.
    pub own_host: HeaderValue,
    spec: ArcSwap<ServiceSpec>,
    limits: ArcSwap<RateLimits>,
    retries: Mutex<RetryBudget>,
    /// Milliseconds between heartbeats, out of the spec: looked at for every request.
    heartbeat: AtomicU64,
    /// Bytes that waiting requests hold.
    buffered: AtomicU64,
    trouble: ArcSwapOption<Trouble>,
    /// How long starts and requests took lately: sizes the first start, and `Retry-After`.
    learned: Mutex<Learned>,
    wakeups: Arc<Wakeups>,
    poked: AtomicBool,
}

/// Why a service cannot start now.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// In words, with the last exit status.
    pub reason: Arc<str>,
    /// The code in the error's JSON.
    pub code: &'static str,
    /// Failed starts in a row.
    pub failures: u32,
    /// When the next start may be tried.
    pub until: Instant,
}

/// Bytes of a waiting request, counted against the service's buffer until this is dropped.
#[derive(Debug)]
pub struct Charge<'a> {
    service: &'a Service,
    limit: u64,
    bytes: u64,
}

// === impl Service ===

impl Service {
    /// At zero. `random` seeds the choice among unlimited replicas.
    pub fn new(spec: Arc<ServiceSpec>, wakeups: Arc<Wakeups>, random: u64) -> Self {
        let key = spec.key.clone();
        let host = format!("{}.{}.localhost", key.name, key.namespace);
        Self {
            line: Line::new(spec.concurrency.limit, spec.buffer.requests as usize, random),
            meter: Arc::new(Meter::new(clock::now())),
            metrics: Arc::new(ServiceMetrics::new(&key)),
            own_host: HeaderValue::try_from(host).expect("DNS labels are ASCII"),
            retries: Mutex::new(RetryBudget::new(clock::now())),
            limits: ArcSwap::from_pointee(RateLimits::new(&spec.limits)),
            heartbeat: AtomicU64::new(spec.heartbeat.as_millis() as u64),
            spec: ArcSwap::new(spec),
            loaded: clock::wall(),
            buffered: AtomicU64::new(0),
            trouble: ArcSwapOption::empty(),
            learned: Mutex::default(),
            wakeups,
            poked: AtomicBool::new(false),
            key,
        }
    }

    /// What is configured now.
    pub fn spec(&self) -> Arc<ServiceSpec> {
        self.spec.load_full()
    }

    /// Takes a changed spec, effective for the next request.
    pub fn update(&self, spec: Arc<ServiceSpec>) {
        if !self.spec.load().runs_as(&spec) {
            // The new limit is made for what comes, not for what is to be replaced.
            self.line.keep_limits();
        }
        self.line.resize(spec.concurrency.limit, spec.buffer.requests as usize);
        if self.spec.load().limits != spec.limits {
            self.limits.store(Arc::new(RateLimits::new(&spec.limits)));
        }
        self.heartbeat.store(spec.heartbeat.as_millis() as u64, Ordering::Relaxed);
        self.spec.store(spec);
    }

    /// How often a streaming request hears something while it waits; `None` = never.
    pub fn heartbeat(&self) -> Option<Duration> {
        let period = Duration::from_millis(self.heartbeat.load(Ordering::Relaxed));
        (!period.is_zero()).then_some(period)
    }

    /// The rate limiters.
    pub fn limits(&self) -> arc_swap::Guard<Arc<RateLimits>> {
        self.limits.load()
    }

    /// Whether a request that no app has seen may go to another replica, or the reason why not.
    pub fn may_retry(&self) -> Result<(), ProxyError> {
        if self.retries.lock().take(clock::now(), self.meter.total()) {
            return Ok(());
        }
        Err(ProxyError::Refused(Refusal {
            reason: "its replica could not be reached, and the service's retry budget is used up".into(),
            code: "retry_budget",
            retry_after: Duration::from_secs(1),
        }))
    }

    /// Takes a replica out of the line. If that was the last and somebody waits, the autoscaler is told: who joined
    /// the line before saw a replica and told nobody. Whoever comes now waits for what follows it; that other starts
    /// failed while it served is no reason to refuse them.
    pub fn leave(&self, replica: ReplicaId) {
        if self.line.leave(replica) && self.line.replicas() == 0 {
            self.clear_trouble();
        }
        self.poke_if_stuck();
    }

    /// Asks the autoscaler to look, if somebody waits and no replica is in the set. To be called after joining the
    /// line: either the last replica had left before and this sees it, or it leaves after and [`Service::leave`]
    /// sees who waits. No wake is lost (invariant 6).
    pub fn poke_if_stuck(&self) {
        if self.line.is_stuck() {
            self.poke();
        }
    }

    fn poke(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) {
            self.wakeups.post(self.key.clone());
        }
    }

    /// The autoscaler is about to look: a poke from now on counts again.
    pub fn seen(&self) {
        self.poked.store(false, Ordering::Release);
    }

    /// Why it cannot start now, if so.
    pub fn trouble(&self) -> Option<Arc<Trouble>> {
        self.trouble.load_full()
    }

    /// It cannot start: refuses those who wait, and newcomers until the next attempt is due.
    pub fn set_trouble(&self, trouble: Trouble) {
        let refusal = trouble.refusal(clock::now());
        self.trouble.store(Some(Arc::new(trouble)));
        // While older replicas serve, a changed service that cannot start keeps nobody from them.
        if self.line.replicas() == 0 {
            self.line.refuse_waiting(&refusal);
        }
    }

    /// It started, or may be about to.
    pub fn clear_trouble(&self) {
        self.trouble.store(None);
    }

    /// How long a start is expected to take, when one has been seen.
    pub fn expected_start(&self) -> Option<Duration> {
        self.learned.lock().start()
    }

    /// What was learned of its times.
    pub fn learned(&self) -> Learned {
        self.learned.lock().clone()
    }

    /// Takes a new observation.
    pub fn learn(&self, observe: impl FnOnce(&mut Learned)) {
        observe(&mut self.learned.lock());
    }

    /// When a request that was refused for lack of room may come back: after a start while there is no replica.
    pub fn retry_after(&self) -> Duration {
        let second = Duration::from_secs(1);
        if self.line.replicas() > 0 { second } else { self.expected_start().unwrap_or(second).max(second) }
    }

    /// Counts `bytes` of a request that has to wait, if they fit.
    pub fn charge(&self, bytes: u64) -> Result<Charge<'_>, ProxyError> {
        let limit = self.spec.load().buffer.bytes;
        let mut charge = Charge { service: self, limit, bytes: 0 };
        if charge.add(bytes) {
            return Ok(charge);
        }
        Err(ProxyError::Overflow { what: "the buffer's bytes", limit, retry_after: self.retry_after() })
    }

    /// Bytes that waiting requests hold.
    pub fn buffered(&self) -> u64 {
        self.buffered.load(Ordering::Relaxed)
    }

    /// Whether a request is of a kind that starts nothing and counts as no load.
    pub fn no_wake<B>(&self, request: &Request<B>) -> bool {
        self.spec.load().no_wake.iter().any(|rule| rule.matches(request))
    }
}

// === impl Trouble ===

impl Trouble {
    /// What waiters and newcomers are told.
    pub fn refusal(&self, now: Instant) -> Refusal {
        Refusal {
            reason: self.reason.clone(),
            code: self.code,
            retry_after: self.until.saturating_duration_since(now),
        }
    }
}

// === impl Charge ===

impl Charge<'_> {
    /// Counts more, if it fits.
    pub fn add(&mut self, bytes: u64) -> bool {
        let before = self.service.buffered.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.limit {
            self.service.buffered.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.service.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

// === impl NoWake ===

impl NoWake {
    pub(crate) fn matches<B>(&self, request: &Request<B>) -> bool {
        let path = self.path.as_deref().is_none_or(|rule| glob(rule, request.uri().path()));
        let agent = self.user_agent.as_deref().is_none_or(|rule| {
            let agent = request.headers().get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
            agent.is_some_and(|agent| glob(rule, agent))
        });
        path && agent
    }
}

fn glob(rule: &str, text: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => text == rule,
    }
}
