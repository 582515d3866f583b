//! `loadtest` as a user runs it, against real services.
#![allow(clippy::unwrap_used, reason = "a test panics with the place; that is its report")]

#[path = "../support/mod.rs"]
mod support;

mod observe;
mod reports;
mod runner;
