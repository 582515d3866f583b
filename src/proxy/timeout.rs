//! The clocks of one request: until the head of its response, without a byte, and in all.
//!
//! A response's body is not polled while its client reads nothing, so a timer inside the body would never be asked.
//! The task that drives the response has it instead: the connection's for HTTP/1, the stream's for HTTP/2. Everything
//! that sees bytes pass notes it in that task's [`Watch`]; [`Watched`] looks at it whenever the task has to wait, and
//! drops the connection or the stream when a bound has passed: a reset of either, never a clean end.
//!
//! Most responses come whole, in one poll: they arm and disarm the watch, and no timer is made. Bytes read the clock
//! only while a timer runs.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pin_project::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::{Sleep, sleep_until};

use super::error::Stage;
use crate::clock;
use crate::config::spec::Timeouts;

tokio::task_local! {
    static CURRENT: Arc<Watch>;
}

/// When bytes last passed for the request that a task answers, and how long it may go without.
#[derive(Debug)]
pub struct Watch {
    base: Instant,
    /// Nanoseconds since `base` of the last byte in either direction; kept while `timed`.
    last: AtomicU64,
    /// Whether a timer runs, so that a byte's time is worth reading.
    timed: AtomicBool,
    /// Whether it is the client whose bytes are waited for, not the app.
    on_client: AtomicBool,
    bounds: Mutex<Option<Bounds>>,
}

/// When a request is over, and which bound says so.
pub type Deadline = (Instant, Stage);

/// What applies after the response's head.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    idle: Duration,
    total: Option<Deadline>,
}

/// The bounds of a response's body, in force until this is dropped.
#[derive(Debug)]
pub struct Armed(Arc<Watch>);

/// A task with a watch: ends with the stage whose bound has passed, and drops what it drove.
#[pin_project]
#[derive(Debug)]
pub struct Watched<F: Future> {
    #[pin]
    task: TaskLocalFuture<Arc<Watch>, F>,
    watch: Arc<Watch>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// Spawns hyper's tasks with a watch each: an HTTP/2 stream is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchedExecutor;

// === impl Watch ===

impl Watch {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            base: clock::now(),
            last: AtomicU64::new(0),
            timed: AtomicBool::new(false),
            on_client: AtomicBool::new(false),
            bounds: Mutex::new(None),
        })
    }

    /// The watch of the task that runs; outside of any, one that nobody looks at.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Self::new())
    }

    /// Bytes passed.
    pub fn touch(&self) {
        if self.timed.load(Relaxed) {
            self.note(clock::now());
        }
    }

    /// Whether the next bytes are the client's to send.
    pub fn waits_for_client(&self, waits: bool) {
        self.on_client.store(waits, Relaxed);
    }

    /// From now on a response's body is bounded. `total` is the whole request's.
    pub fn arm(self: Arc<Self>, idle: Duration, total: Option<Deadline>) -> Armed {
        if idle > Duration::ZERO || total.is_some() {
            *self.bounds.lock() = Some(Bounds { idle, total });
        }
        Armed(self)
    }

    fn note(&self, now: Instant) {
        self.last.store(now.saturating_duration_since(self.base).as_nanos() as u64, Relaxed);
    }

    fn last(&self) -> Instant {
        self.base + Duration::from_nanos(self.last.load(Relaxed))
    }

    /// When the body's bounds pass, and which does first.
    fn expiry(&self, bounds: Bounds) -> (Instant, Stage) {
        let idle = (bounds.idle > Duration::ZERO).then(|| (self.last() + bounds.idle, Stage::Idle));
        match (idle, bounds.total) {
            (Some(idle), Some(total)) if idle.0 <= total.0 => idle,
            (_, Some(total)) => total,
            (Some(idle), None) => idle,
            (None, None) => unreachable!("bug: armed without a bound"),
        }
    }
}

/// `task` with the watch of the task that runs now: what it arms bounds this one.
pub fn for_current<F: Future>(task: F) -> TaskLocalFuture<Arc<Watch>, F> {
    CURRENT.scope(Watch::current(), task)
}

// === impl Armed ===

impl Drop for Armed {
    fn drop(&mut self) {
        *self.0.bounds.lock() = None;
        self.0.timed.store(false, Relaxed);
    }
}

// === impl Watched ===

impl<F: Future> Watched<F> {
    /// `task` with a watch of its own.
    pub fn new(task: F) -> Self {
        let watch = Watch::new();
        Self { task: CURRENT.scope(watch.clone(), task), watch, sleep: None }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = Result<F::Output, Stage>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.task.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let Some(bounds) = *this.watch.bounds.lock() else { return Poll::Pending };
        if !this.watch.timed.swap(true, Relaxed) {
            this.watch.note(clock::now());
        }
        let (mut at, mut stage) = this.watch.expiry(bounds);
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(at.into())));
        // Left from an earlier response on this connection. Bytes only put the end off: the timer finds that out.
        if at < sleep.deadline().into_std() {
            sleep.as_mut().reset(at.into());
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if at <= sleep.deadline().into_std() {
                return Poll::Ready(Err(stage));
            }
            sleep.as_mut().reset(at.into());
            (at, stage) = this.watch.expiry(bounds);
        }
        Poll::Pending
    }
}

// === impl WatchedExecutor ===

impl<F> hyper::rt::Executor<F> for WatchedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        tokio::spawn(async move {
            if let Err(stage) = Watched::new(task).await {
                tracing::debug!("a stream was reset: the {stage} timeout passed");
            }
        });
    }
}

/// Waits for the head of a response to a request that is sent at `sent`.
///
/// "Response start" counts from the last byte that the app took: from `sent` for a request without a body, and anew
/// with every piece of an upload. While it is the client that sends nothing, "idle" counts instead, so that neither a
/// long upload nor an app that thinks long is cut. `answer` comes pinned, or every connection would hold its memory
/// twice. `uploading` is the watch of a request with a body.
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
    let mut sleep = pin!(sleep_until(next.into()));
    loop {
        tokio::select! {
            biased;
            output = answer.as_mut() => {
                uploading.inspect(|watch| watch.timed.store(false, Relaxed));
                return Ok(output);
            }
            () = &mut sleep => match look(clock::now()) {
                (Some(stage), _) => return Err(stage),
                (None, next) => {
                    let next = next.expect("bounds do not go away");
                    sleep.as_mut().reset(next.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::sleep;

    const IDLE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn bytes_put_the_end_off_although_nobody_polls() {
        let start = clock::now();
        let watched = Watched::new(async {
            let watch = Watch::current();
            let _armed = watch.clone().arm(IDLE, None);
            tokio::spawn(async move {
                sleep(Duration::from_secs(6)).await;
                watch.touch();
            });
            pending::<()>().await;
        });
        assert_eq!(watched.await, Err(Stage::Idle));
        assert_eq!((clock::now() - start).as_secs(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_request_is_bounded_too() {
        let total = (clock::now() + Duration::from_secs(3), Stage::Request);
        let watched = Watched::new(async {
            let _armed = Watch::current().arm(IDLE, Some(total));
            pending::<()>().await;
        });
        assert_eq!(watched.await, Err(Stage::Request));
    }

    #[tokio::test(start_paused = true)]
    async fn each_response_of_a_connection_has_its_own_bounds() {
        let start = clock::now();
        let watched = Watched::new(async {
            let long = Watch::current().arm(Duration::from_secs(100), None);
            sleep(Duration::from_secs(20)).await;
            drop(long);
            // Between responses a connection rests as long as it likes.
            sleep(Duration::from_secs(1000)).await;
            let _short = Watch::current().arm(Duration::from_secs(5), None);
            pending::<()>().await;
        });
        assert_eq!(watched.await, Err(Stage::Idle));
        assert_eq!((clock::now() - start).as_secs(), 1025);
    }

    fn timeouts(response_start: u64, idle: u64) -> Timeouts {
        let (response_start, idle) = (Duration::from_secs(response_start), Duration::from_secs(idle));
        Timeouts { response_start, idle, ..Timeouts::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_thinks_is_not_idle() {
        let sent = clock::now();
        let answer = sleep(Duration::from_secs(50));
        assert!(until_head(pin!(answer), &timeouts(60, 10), sent, None, None).await.is_ok());
        let over = Some((clock::now(), Stage::Request));
        let late = async { panic!("it was sent after its deadline") };
        assert_eq!(
            until_head(pin!(late), &timeouts(0, 0), clock::now(), over, None).await,
            Err(Stage::Request)
        );
        let never = until_head(pin!(pending::<()>()), &timeouts(60, 10), clock::now(), None, None).await;
        assert_eq!(never, Err(Stage::ResponseStart));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_bounded_by_whoever_is_waited_for() {
        let watch = Watch::new();
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
        let result = until_head(pin!(pending::<()>()), &timeouts(20, 30), sent, None, Some(&watch)).await;
        assert_eq!(result, Err(Stage::ResponseStart));
        assert_eq!((clock::now() - sent).as_secs(), 100, "20 s after the last piece");
        watch.waits_for_client(true);
        let sent = clock::now();
        let result = until_head(pin!(pending::<()>()), &timeouts(20, 30), sent, None, Some(&watch)).await;
        assert_eq!(result, Err(Stage::Idle));
        assert_eq!((clock::now() - sent).as_secs(), 30);
    }
}
