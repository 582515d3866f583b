//! The timers of a request once its head has been answered: idle, and the whole request.
//!
//! Most responses come whole, so a timer is made only when a body first has to wait, and moved only when it fires:
//! bytes note the time and nothing else.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::error::Stage;
use crate::clock;

/// Ends a body that makes no progress, or a request that takes too long.
#[derive(Debug)]
pub struct IdleTimer {
    idle: Option<Duration>,
    deadline: Option<Instant>,
    last: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

// === impl IdleTimer ===

impl IdleTimer {
    /// `idle` zero = none; `deadline` bounds the whole request.
    pub fn new(idle: Duration, deadline: Option<Instant>) -> Self {
        Self { idle: (idle > Duration::ZERO).then_some(idle), deadline, last: None, sleep: None }
    }

    /// A byte came.
    pub fn touch(&mut self) {
        if self.sleep.is_some() {
            self.last = Some(clock::now());
        }
    }

    /// Ready with the stage whose bound has passed.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Stage> {
        if self.idle.is_none() && self.deadline.is_none() {
            return Poll::Pending;
        }
        if self.sleep.is_none() {
            let now = clock::now();
            self.last = Some(now);
            let (at, _) = self.next(now);
            self.sleep = Some(Box::pin(tokio::time::sleep_until(at.into())));
        }
        loop {
            let sleep = self.sleep.as_mut().expect("set above");
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let (at, stage) = self.next(clock::now());
            let sleep = self.sleep.as_mut().expect("set above");
            if at <= sleep.deadline().into_std() {
                return Poll::Ready(stage);
            }
            sleep.as_mut().reset(at.into());
        }
    }

    fn next(&self, now: Instant) -> (Instant, Stage) {
        let idle = self.idle.map(|idle| (self.last.unwrap_or(now) + idle, Stage::Idle));
        let request = self.deadline.map(|at| (at, Stage::Request));
        match (idle, request) {
            (Some(idle), Some(request)) if idle.0 <= request.0 => idle,
            (_, Some(request)) => request,
            (Some(idle), None) => idle,
            (None, None) => unreachable!("bug: a timer without a bound"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn bytes_put_the_end_off() {
        let start = clock::now();
        let mut timer = IdleTimer::new(Duration::from_secs(10), None);
        let poll = |timer: &mut IdleTimer| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            timer.poll_expired(&mut cx)
        };
        assert_eq!(poll(&mut timer), Poll::Pending);
        tokio::time::advance(Duration::from_secs(6)).await;
        timer.touch();
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(poll(&mut timer), Poll::Pending, "a byte came 6 s ago");
        assert_eq!(poll_fn(|cx| timer.poll_expired(cx)).await, Stage::Idle);
        assert_eq!(clock::now() - start, Duration::from_secs(16) + Duration::from_millis(0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_request_is_bounded_too() {
        let deadline = clock::now() + Duration::from_secs(3);
        let mut timer = IdleTimer::new(Duration::from_secs(10), Some(deadline));
        assert_eq!(poll_fn(|cx| timer.poll_expired(cx)).await, Stage::Request);
    }
}
