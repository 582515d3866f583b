//! Waits until an instant, within some ten microseconds. tokio's own timers are good to a millisecond, which would be most of
//! a fast service's latency.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pilotlight::clock;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's, which wakes the runtime as a socket does.
pub(super) struct Alarm {
    fd: AsyncFd<OwnedFd>,
}

// === impl Alarm ===

impl Alarm {
    /// Must be made inside the runtime that waits for it.
    pub(super) fn new() -> std::io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "unsound for types that close their descriptor early: an OwnedFd does not"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Self { fd })
    }

    /// Returns at once when it is that late already.
    pub(super) async fn until(&self, at: Instant) -> std::io::Result<()> {
        loop {
            let left = at.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval: zero, it_value: timespec(left) };
            timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            // Nobody reads the timer: setting it makes it unreadable again, and each of its ends is an event of its own. An
            // event may be of an earlier time that somebody stopped waiting for: then it is not yet time.
            self.fd.readable().await?.clear_ready();
        }
    }
}

fn timespec(d: Duration) -> Timespec {
    Timespec { tv_sec: d.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: d.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn never_early_and_not_confused_by_a_wait_that_was_given_up() {
        let alarm = Alarm::new().unwrap();
        let start = clock::now();
        let soon = start + Duration::from_millis(1);
        let late = start + Duration::from_millis(30);
        let given_up = tokio::time::timeout(Duration::from_millis(5), alarm.until(late)).await;
        assert!(given_up.is_err() || clock::now() >= late);
        alarm.until(soon).await.unwrap();
        alarm.until(late).await.unwrap();
        assert!(clock::now() >= late);
    }
}
