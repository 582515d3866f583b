//! Runs model servers and other costly services on demand: 0 → 1 → N → 0.
//!
//! ```text
//!                         ┌──────────── autoscaler ───────────┐
//!                         │  windows → decision → scale       │
//!                         └───▲──────────────▲──────────┬─────┘
//!                       stats │        stats │          │ replicas
//! client ──► activator ───────┴──► queue-proxy ──► app  │
//!            route → admit →       breaker →            ▼
//!            wait for a slot →     forward          runtime (local processes | Kubernetes)
//!            forward
//! ```
//!
//! On one machine activator, autoscaler and runtime are one process, and the activator's slots are the concurrency
//! limit: a request crosses one hop. [`policy`] decides and touches nothing; [`proxy`] is what both hops share;
//! [`app`] puts the parts together. ARCHITECTURE.md has the page to read first.

pub mod activator;
pub mod admin;
pub mod app;

pub mod autoscaler;
pub mod clock;
pub mod config;
pub mod drain;
pub mod events;
pub mod fleet;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
pub mod inference;
pub mod net;
pub mod policy;
pub mod probe;
pub mod proxy;
pub mod queue_proxy;
pub mod runtime;
pub mod stat;
pub mod sync;
pub mod telemetry;

/// The data path on a simulated network that fails.
#[cfg(test)]
#[path = "../tests/turmoil/mod.rs"]
mod turmoil_tests;
