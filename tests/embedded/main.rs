//! One machine, end to end: `pilotlight serve` and `pilotlight queue-proxy` as a user runs them, with testapp as the app.
//!
//! One binary, so that it links once. A module is one promise of the design; its tests are the ways to break it.
#![allow(clippy::unwrap_used, reason = "a test panics with the place; that is its report")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod bodies;
mod burst;
mod gone;
mod invalid;
mod iris;
mod killed;
mod many;
mod readme;
mod refused;
mod reload;
mod routing;
mod sidecar;
mod start_fails;
mod stop;
mod testapp;
