//! What people and programs see of a running pilotlight: health, metrics, state and logs as JSON and text, events.
//!
//! What flows in: the fleet's state, read when somebody asks. What flows out: answers, and two commands (wake, sleep)
//! to the autoscaler. Nothing here is on the way of a request, and nothing here is kept.
//!
//! ```text
//! server ── guard ──┬─ health, metrics
//!                   ├─ services (view) · logs · config
//!                   └─ events (SSE)
//! ```

pub mod error;
pub mod guard;
pub mod server;
