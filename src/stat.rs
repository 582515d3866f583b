//! What a service's load was: time-weighted concurrency and request counts, exact, without sampling.
//!
//! Every hop counts a request from its arrival to the end of its response's body. The autoscaler reads the meter
//! once a second and gets `Σ(concurrencyᵢ · Δtᵢ) / ΣΔtᵢ` since the last reading, as Knative's queue-proxy reports
//! it (reference/knative.md §1.9), but from one meter for executing and queued requests together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub mod wire;

pub use wire::{Stat, WireStatMessage, WireStatMessages};

/// Counts requests of one service.
#[derive(Debug)]
pub struct Meter {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: u32,
    peak: u32,
    total: u64,
    /// Concurrency-seconds since `read_at`.
    integral: f64,
    changed_at: Instant,
    read_at: Instant,
    read_total: u64,
    /// When `current` last fell to zero.
    idle_since: Instant,
    /// Time that requests held a slot, and how many did, since `read_at`.
    served: (Duration, u32),
}

/// Load since the last reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Time-weighted average of requests in the service.
    pub concurrency: f64,
    /// Requests that arrived, per second.
    pub rate: f64,
    /// Requests in the service now.
    pub current: u32,
    /// Most at once since the last reading.
    pub peak: u32,
    /// When the last request ended; `None` while one is in the service.
    pub idle_since: Option<Instant>,
    /// How long the requests that ended held their slots, on average.
    pub service_time: Option<Duration>,
}

/// One request in the service; it leaves when this is dropped.
#[derive(Debug)]
pub struct Counted {
    /// `None` when it has left.
    meter: Option<Arc<Meter>>,
}

// === impl Meter ===

impl Meter {
    /// Nothing in the service since `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let state = State {
            current: 0,
            peak: 0,
            total: 0,
            integral: 0.0,
            changed_at: now,
            read_at: now,
            read_total: 0,
            idle_since: now,
            served: (Duration::ZERO, 0),
        };
        Self { state: Mutex::new(state) }
    }

    /// A request arrives.
    #[must_use]
    pub fn enter(self: &Arc<Self>, now: Instant) -> Counted {
        let mut state = self.state.lock();
        state.advance(now);
        state.current += 1;
        state.total += 1;
        state.peak = state.peak.max(state.current);
        drop(state);
        Counted { meter: Some(self.clone()) }
    }

    /// Requests in the service now.
    pub fn current(&self) -> u32 {
        self.state.lock().current
    }

    /// Requests that ever arrived.
    pub fn total(&self) -> u64 {
        self.state.lock().total
    }

    /// Load since the last call; begins a new period.
    pub fn read(&self, now: Instant) -> Reading {
        let mut state = self.state.lock();
        state.advance(now);
        let period = now.saturating_duration_since(state.read_at).as_secs_f64();
        let (concurrency, rate) = if period > 0.0 {
            (state.integral / period, (state.total - state.read_total) as f64 / period)
        } else {
            (f64::from(state.current), 0.0)
        };
        let reading = Reading {
            concurrency,
            rate,
            current: state.current,
            peak: state.peak,
            idle_since: (state.current == 0).then_some(state.idle_since),
            service_time: state.served.0.checked_div(state.served.1),
        };
        state.served = (Duration::ZERO, 0);
        state.integral = 0.0;
        state.read_at = now;
        state.read_total = state.total;
        state.peak = state.current;
        reading
    }

    /// Forgets what was before `now`, so that a reading after a long rest does not average over the rest.
    pub fn restart(&self, now: Instant) {
        let mut state = self.state.lock();
        state.integral = 0.0;
        state.changed_at = now;
        state.read_at = now;
        state.read_total = state.total;
    }
}

// === impl State ===

impl State {
    fn advance(&mut self, now: Instant) {
        // Saturating: two threads may read the clock in one order and get the lock in the other.
        let passed = now.saturating_duration_since(self.changed_at);
        if passed > Duration::ZERO {
            self.integral += f64::from(self.current) * passed.as_secs_f64();
            self.changed_at = now;
        }
    }

    fn leave(&mut self, now: Instant) {
        self.advance(now);
        self.current -= 1;
        if self.current == 0 {
            self.idle_since = now;
        }
    }
}

// === impl Counted ===

impl Counted {
    /// The request leaves at `now`, after it held a slot for so long.
    pub fn served(mut self, now: Instant, took: Duration) {
        if let Some(meter) = self.meter.take() {
            let mut state = meter.state.lock();
            state.served.0 += took;
            state.served.1 += 1;
            state.leave(now);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(meter) = self.meter.take() {
            let now = crate::clock::now();
            meter.state.lock().leave(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn concurrency_is_weighted_by_time() {
        let meter = Arc::new(Meter::new(crate::clock::now()));
        let one = meter.enter(crate::clock::now());
        tokio::time::advance(Duration::from_millis(250)).await;
        let two = meter.enter(crate::clock::now());
        tokio::time::advance(Duration::from_millis(250)).await;
        drop((one, two));
        tokio::time::advance(Duration::from_millis(500)).await;
        let reading = meter.read(crate::clock::now());
        assert!((reading.concurrency - 0.75).abs() < 1e-9, "{reading:?}");
        assert!((reading.rate - 2.0).abs() < 1e-9);
        assert_eq!((reading.current, reading.peak), (0, 2));
        assert!(reading.idle_since.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_across_readings_counts_in_each() {
        let meter = Arc::new(Meter::new(crate::clock::now()));
        let request = meter.enter(crate::clock::now());
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            let reading = meter.read(crate::clock::now());
            assert!((reading.concurrency - 1.0).abs() < 1e-9);
            assert_eq!(reading.idle_since, None);
        }
        drop(request);
        assert_eq!(meter.current(), 0);
    }
}
