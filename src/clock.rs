//! The only file that reads a clock.
//!
//! Everything that decides takes `now` as an argument, so that tests and the simulator run on virtual time.
//! [`now`] is tokio's clock: inside a runtime whose time is paused, it stands still too.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime};

/// Monotonic time. Follows a paused tokio clock.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wall-clock time, for what people read (logs, events). Never used in a decision.
#[must_use]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since the Unix epoch, for the admin API.
#[must_use]
pub fn wall_millis() -> u64 {
    wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}

/// Processor time of this thread so far.
#[must_use]
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
