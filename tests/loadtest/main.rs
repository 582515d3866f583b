//! The `loadtest` program as a user runs it, against testapp and against `pilotlight serve`.
//!
//! Nothing here asserts how fast something is: only what was sent, what came of it, and what the user is told.
#![allow(clippy::unwrap_used, reason = "a test panics with the place; that is its report")]

#[path = "../support/mod.rs"]
mod support;

mod cold;
mod ends;
mod https;
mod kinds;
mod mistakes;
mod observe;
mod open_loop;
mod ran;
mod reports;
mod verdicts;
