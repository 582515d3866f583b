//! Waiting for conditions.

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use pilotlight::clock;

/// For what takes a moment on a good machine: two slow cores shared by several tests are not a good machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// For what takes seconds by design: windows, back-off, big bodies.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// Polls until the condition is `Ok`. Panics after the deadline with the caller's place, `what` and the last state.
#[track_caller]
pub(crate) fn wait_until<T, E: Display>(
    deadline: Duration,
    what: impl Display,
    mut condition: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let place = Location::caller();
    async move {
        let start = clock::now();
        loop {
            // A condition that hangs must not outlive the deadline either.
            let left = deadline.saturating_sub(start.elapsed()).max(Duration::from_millis(100));
            let state = match tokio::time::timeout(left, condition()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(state)) => state.to_string(),
                Err(_) => "the condition itself did not return".to_owned(),
            };
            assert!(start.elapsed() < deadline, "{place}: not in {deadline:?}: {what}; last seen: {state}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// For conditions: `true`, or what was seen instead.
pub(crate) fn holds(is: bool, seen: impl Display) -> Result<(), String> {
    if is { Ok(()) } else { Err(seen.to_string()) }
}
