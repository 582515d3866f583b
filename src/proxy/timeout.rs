//! How long the head of a response is waited for.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

use super::error::Stage;
use super::watch::{self, Deadline, Watch};
use crate::clock;
use crate::config::spec::Timeouts;

/// Wakes who waits for a response's head, until it is dropped.
#[derive(Debug)]
enum Alarm {
    /// By the timer of the task that waits.
    Watch(Arc<Watch>),
    /// By one of its own: the wait is in another task than the watch's (a stream that has begun with heartbeats), or in
    /// none that is watched.
    Own(Pin<Box<Sleep>>),
}

/// Waits for the head of a response to a request that is sent at `sent`.
///
/// "Response start" counts from the last byte that the app took: from `sent` for a request without a body, and anew
/// with every piece of an upload. While it is the client that sends nothing, "idle" counts instead, so that neither a
/// long upload nor an app that thinks long is cut. `answer` comes pinned, or every connection would hold its memory
/// twice. `uploading` is the watch of a request with a body. Uses the timer of the task that it runs in, if that is [`Watched`](watch::Watched).
pub async fn until_head<T>(
    mut answer: Pin<&mut impl Future<Output = T>>,
    timeouts: &Timeouts,
    sent: Instant,
    total: Option<Deadline>,
    uploading: Option<&Watch>,
) -> Result<T, Stage> {
    let some = |bound: Duration| (bound > Duration::ZERO).then_some(bound);
    let (start, idle) = (some(timeouts.response_start), some(timeouts.idle));
    if let Some(watch) = uploading {
        watch.timed.store(true, Relaxed);
        watch.note(sent);
    }
    // What bounds the request at this moment, and when to look again: who is waited for may change in between.
    let look = |now: Instant| {
        let bound = match uploading {
            Some(watch) if watch.on_client.load(Relaxed) => {
                idle.map(|idle| (watch.last() + idle, Stage::Idle))
            }
            Some(watch) => start.map(|start| (watch.last() + start, Stage::ResponseStart)),
            None => start.map(|start| (sent + start, Stage::ResponseStart)),
        };
        let passed = [total, bound].into_iter().flatten().find(|(at, _)| *at <= now);
        let step = uploading.and_then(|_| [start, idle].into_iter().flatten().min()).map(|step| now + step);
        let next = [total.map(|t| t.0), bound.map(|b| b.0), step].into_iter().flatten().min();
        (passed.map(|(_, stage)| stage), next)
    };
    let next = match look(sent) {
        // Before anything is sent.
        (Some(stage), _) => return Err(stage),
        (None, Some(next)) => next,
        (None, None) => return Ok(answer.await),
    };
    let mut alarm = Alarm::set(next);
    let answered = poll_fn(|cx| {
        if let Poll::Ready(output) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        while alarm.rings(cx) {
            match look(clock::now()) {
                (Some(stage), _) => return Poll::Ready(Err(stage)),
                (None, next) => alarm.reset(next.expect("bounds do not go away")),
            }
        }
        Poll::Pending
    })
    .await;
    uploading.inspect(|watch| watch.timed.store(false, Relaxed));
    answered
}

// === impl Alarm ===

impl Alarm {
    fn set(at: Instant) -> Self {
        let Some(watch) = watch::of_this_task() else { return Self::Own(Box::pin(sleep_until(at.into()))) };
        watch.rung.store(false, Relaxed);
        watch.set_alarm(Some(at));
        Self::Watch(watch)
    }

    fn reset(&mut self, at: Instant) {
        match self {
            Self::Watch(watch) => watch.set_alarm(Some(at)),
            Self::Own(timer) => timer.as_mut().reset(at.into()),
        }
    }

    fn rings(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Watch(watch) => watch.rung.swap(false, Relaxed),
            Self::Own(timer) => timer.as_mut().poll(cx).is_ready(),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Self::Watch(watch) = self {
            watch.set_alarm(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::watch::{Watched, for_current};
    use std::future::pending;
    use std::pin::pin;
    use tokio::time::sleep;

    const IDLE: Duration = Duration::from_secs(10);

    fn timeouts(response_start: u64, idle: u64) -> Timeouts {
        let (response_start, idle) = (Duration::from_secs(response_start), Duration::from_secs(idle));
        Timeouts { response_start, idle, ..Timeouts::default() }
    }

    /// In a task that is watched, as all are that wait for a head.
    async fn watched<T>(test: impl Future<Output = T>) -> T {
        Watched::new(test).await.expect("nothing is armed")
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_thinks_is_not_idle() {
        watched(async {
            let sent = clock::now();
            let answer = sleep(Duration::from_secs(50));
            assert!(until_head(pin!(answer), &timeouts(60, 10), sent, None, None).await.is_ok());
            let over = Some((clock::now(), Stage::Request));
            let late = async { panic!("it was sent after its deadline") };
            let late = until_head(pin!(late), &timeouts(0, 0), clock::now(), over, None).await;
            assert_eq!(late, Err(Stage::Request));
            for _ in 0..2 {
                let sent = clock::now();
                let never = until_head(pin!(pending::<()>()), &timeouts(60, 10), sent, None, None).await;
                assert_eq!((never, (clock::now() - sent).as_secs()), (Err(Stage::ResponseStart), 60));
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_a_task_of_its_own_is_bounded_too() {
        watched(async {
            let sent = clock::now();
            let wait = for_current(async move {
                until_head(pin!(pending::<()>()), &timeouts(60, 10), sent, None, None).await
            });
            assert_eq!(tokio::spawn(wait).await.unwrap(), Err(Stage::ResponseStart));
            assert_eq!((clock::now() - sent).as_secs(), 60);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_bounds_nothing() {
        let start = clock::now();
        let watched = Watched::new(async {
            let waits = pin!(pending::<()>());
            let bounds = timeouts(1000, 1000);
            let wait = until_head(waits, &bounds, clock::now(), None, None);
            assert!(tokio::time::timeout(Duration::from_secs(1), wait).await.is_err());
            let _armed = Watch::current().arm(IDLE, None);
            pending::<()>().await;
        });
        assert_eq!(watched.await, Err(Stage::Idle));
        assert_eq!((clock::now() - start).as_secs(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_bounded_by_whoever_is_waited_for() {
        watched(async {
            let watch = Watch::current();
            let sent = clock::now();
            let uploader = watch.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    uploader.waits_for_client(true);
                    sleep(Duration::from_secs(8)).await;
                    uploader.waits_for_client(false);
                    uploader.touch();
                }
            });
            let never = pin!(pending::<()>());
            let result = until_head(never, &timeouts(20, 30), sent, None, Some(&watch)).await;
            assert_eq!(result, Err(Stage::ResponseStart));
            assert_eq!((clock::now() - sent).as_secs(), 100, "20 s after the last piece");
            watch.waits_for_client(true);
            let sent = clock::now();
            let never = pin!(pending::<()>());
            let result = until_head(never, &timeouts(20, 30), sent, None, Some(&watch)).await;
            assert_eq!(result, Err(Stage::Idle));
            assert_eq!((clock::now() - sent).as_secs(), 30);
        })
        .await;
    }
}
