//! One request between its admission and the end of its response: what must be given back, in order.

use std::sync::Arc;
use std::time::Instant;

use super::Permit;
use super::fault::AppFault;
use super::metrics::ServiceMetrics;
use crate::clock;
use crate::stat::Counted;

/// Holds what a request occupies, but for its connection ([`Download`](super::download::Download)). Drop it at the response's end, whatever end
/// that is, and after the connection was given back.
#[derive(Debug)]
pub struct Exchange {
    permit: Option<Permit>,
    counted: Option<Counted>,
    metrics: Arc<ServiceMetrics>,
    started: Instant,
    /// When it got its slot.
    bound: Instant,
    status: u16,
    /// Of the response's body.
    bytes: u64,
    /// When it ended, if that is known.
    ended: Option<Instant>,
}

// === impl Exchange ===

impl Exchange {
    /// A request that came at `started`, got its slot at `bound`, was answered with `status` and holds these.
    pub fn new(
        permit: Permit,
        counted: Option<Counted>,
        metrics: Arc<ServiceMetrics>,
        started: Instant,
        bound: Instant,
        status: u16,
    ) -> Self {
        Self { permit: Some(permit), counted, metrics, started, bound, status, bytes: 0, ended: None }
    }

    /// So many more bytes of the response's body have come.
    pub fn came(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// It has ended, at `now`.
    pub fn end(mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// An upgraded connection has carried this.
    pub fn passed(&mut self, from_client: u64, from_app: u64) {
        self.metrics.request_bytes().inc_by(from_client);
        self.bytes += from_app;
    }

    /// The app broke off its response.
    pub fn cut_short(self, detail: &dyn std::fmt::Display) {
        self.metrics.app_fault(AppFault::CutShort, detail);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        drop(self.permit.take());
        let now = self.ended.unwrap_or_else(clock::now);
        if let Some(counted) = self.counted.take() {
            counted.served(now, now.saturating_duration_since(self.bound));
        }
        self.metrics.answered(self.status, now.saturating_duration_since(self.started), self.bytes);
    }
}
