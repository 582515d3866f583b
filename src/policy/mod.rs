//! Everything that decides, and nothing that acts.
//!
//! The contract of this folder:
//! - **Pure.** No tokio, no I/O, no clock, no randomness. `now` and what was observed are arguments; state is the
//!   value's own. The simulator runs the very code that production runs, and a recorded input gives the recorded
//!   decision again (`tests/golden.rs`).
//! - **Time is an [`Instant`](std::time::Instant).** What is counted in whole seconds ([`Window`], [`MaxWindow`])
//!   is told an epoch when it is made, from which seconds are counted. One epoch per process will do.
//! - **Time goes forward.** An older `now` than the last one never panics, and is handled as each type says.
//! - **Bounded.** Memory is fixed by the knobs, never by the load.
//!
//! A service's owner (the autoscaler, the simulator) strings it together: load goes into two [`Window`]s, their
//! averages into [`Decider::decide`], its [`Decision`] through [`Decision::bounded`] and the [`WakeFloor`]; a zero is
//! taken only when [`zero::scale_to_zero`] says so. While nothing is ready, [`backlog::first_scale`] sizes the start
//! and [`Starts`] says when one may be tried.

pub mod backlog;
pub mod decision;
pub mod dispatch;
pub mod ejection;
pub mod kpa;
pub mod learned;
pub mod line;
pub mod max_window;
pub mod retries;
pub mod starts;
pub mod windows;
pub mod zero;

pub use decision::{Decision, Reason};
pub use kpa::{Decider, Knobs, Observation};
pub use learned::Learned;
pub use max_window::MaxWindow;
pub use starts::Starts;
pub use windows::Window;
pub use zero::{WakeFloor, Zero};
