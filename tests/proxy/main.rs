//! What both hops share, as its clients and apps see it: behind a queue-proxy, behind `serve`, and behind both.
#![allow(clippy::unwrap_used, reason = "a test panics with the place; that is its report")]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod clients;
mod drain;
mod streams;
mod timeouts;
mod upgrades;
