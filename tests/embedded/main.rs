//! One machine, end to end: `pilotlight serve` and `pilotlight queue-proxy` as a user runs them, with testapp as the app.
//!
//! One binary, so that it links once. A module is one promise of the design; its tests are the ways to break it.
#![allow(clippy::unwrap_used, reason = "a test panics with the place; that is its report")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod blame;
mod bodies;
mod burst;
mod detached;
mod gone;
mod invalid;
mod iris;
mod killed;
mod many;
mod readme;
mod refused;
mod relative;
mod reload;
mod rollover;
mod routing;
mod sidecar;
mod sleep;
mod start_fails;
mod stop;
mod strays;
mod testapp;
