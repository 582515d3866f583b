//! Requests that reached no service, counted by reason.

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Opts};

/// The counters.
#[derive(Debug, Default)]
pub struct Unrouted {
    /// By [`ProxyError::code`](crate::proxy::error::ProxyError::code), a fixed set.
    by_reason: Mutex<Vec<(&'static str, IntCounter)>>,
}

// === impl Unrouted ===

impl Unrouted {
    /// One more.
    pub fn count(&self, reason: &'static str) {
        let mut counters = self.by_reason.lock();
        if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == reason) {
            counter.inc();
            return;
        }
        let help = "Requests answered here because no service could be found for them.";
        let opts = Opts::new("pilotlight_unrouted_total", help).const_label("reason", reason);
        let counter = IntCounter::with_opts(opts).expect("constant names");
        counter.inc();
        counters.push((reason, counter));
    }

    /// All of them, for an exposition.
    pub fn collect(&self) -> Vec<MetricFamily> {
        self.by_reason.lock().iter().flat_map(|(_, counter)| counter.collect()).collect()
    }
}
