//! The data plane as its clients meet it: queue-proxy, activator, and both in a row.
#![allow(clippy::unwrap_used, reason = "a test panics with the place; that is its report")]
#![allow(clippy::float_cmp, reason = "counts: whole numbers in metrics")]

#[path = "../support/mod.rs"]
mod support;

mod fairness;
mod hop;
mod overload;
mod probing;
mod retries;
mod stats;
