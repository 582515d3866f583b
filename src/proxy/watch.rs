//! The clocks of one response: without a byte, and in all.
//!
//! A response's body is not polled while its client reads nothing, so a timer inside the body would never be asked.
//! The task that drives the response has it instead: the connection's for HTTP/1, the stream's for HTTP/2. Everything
//! that sees bytes pass notes it in that task's [`Watch`]; [`Watched`] looks at it whenever the task has to wait, and
//! drops the connection or the stream when a bound has passed: a reset of either, never a clean end.
//!
//! Most responses come whole, in one poll: they arm and disarm the watch, and no timer is made. Bytes read the clock
//! only while a timer runs. The wait for a response's head ([`timeout`](super::timeout)), which ends in an answer and not in a reset, has the same
//! timer wake it: it is one a connection, and put off by the next request instead of being made anew for each.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pin_project::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::{Sleep, sleep_until};

use super::error::Stage;
use crate::clock;

tokio::task_local! {
    static CURRENT: Current;
}

/// The watch of a task.
#[derive(Debug)]
struct Current {
    watch: Arc<Watch>,
    /// The task is the one that looks at it.
    looks: bool,
}

/// When bytes last passed for the request that a task answers, and how long it may go without.
#[derive(Debug)]
pub struct Watch {
    base: Instant,
    /// Nanoseconds since `base` of the last byte in either direction; kept while `timed`.
    last: AtomicU64,
    /// Whether a timer runs, so that a byte's time is worth reading.
    pub(super) timed: AtomicBool,
    /// Whether it is the client whose bytes are waited for, not the app.
    pub(super) on_client: AtomicBool,
    bounds: Mutex<Option<Bounds>>,
    /// When whoever waits for a head wants to look at the time, in nanoseconds since `base`, or [`NEVER`].
    alarm: AtomicU64,
    /// It has rung.
    pub(super) rung: AtomicBool,
}

const NEVER: u64 = u64::MAX;

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
    task: TaskLocalFuture<Current, F>,
    watch: Arc<Watch>,
    timer: Option<Timer>,
}

/// A task's timer. A task's waker stays the same, so a timer that has once been polled knows whom to wake.
#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: bool,
}

/// A timer that has fired is set to some time that is far off.
const AFTER_ALARM: Duration = Duration::from_hours(1);

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
            alarm: AtomicU64::new(NEVER),
            rung: AtomicBool::new(false),
        })
    }

    /// The watch of the task that runs; outside of any, one that nobody looks at.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(|current| current.watch.clone()).unwrap_or_else(|_| Self::new())
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

    pub(super) fn note(&self, now: Instant) {
        self.last.store(self.since_base(now), Relaxed);
    }

    fn since_base(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    pub(super) fn set_alarm(&self, at: Option<Instant>) {
        self.alarm.store(at.map_or(NEVER, |at| self.since_base(at)), Relaxed);
    }

    /// What is due next: the alarm, which has no stage, or one of the body's bounds.
    fn due(&self) -> Option<(Instant, Option<Stage>)> {
        let alarm = self.alarm.load(Relaxed);
        if alarm != NEVER {
            return Some((self.base + Duration::from_nanos(alarm), None));
        }
        let bounds = (*self.bounds.lock())?;
        if !self.timed.swap(true, Relaxed) {
            self.note(clock::now());
        }
        let (at, stage) = self.expiry(bounds);
        Some((at, Some(stage)))
    }

    pub(super) fn last(&self) -> Instant {
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

/// The watch of the task that runs, if it is this task that looks at it.
pub(super) fn of_this_task() -> Option<Arc<Watch>> {
    CURRENT.try_with(|current| current.looks.then(|| current.watch.clone())).ok().flatten()
}

/// `task` with the watch of the task that runs now: what it arms bounds this one.
pub fn for_current<F: Future>(task: F) -> impl Future<Output = F::Output> + use<F> {
    CURRENT.scope(Current { watch: Watch::current(), looks: false }, task)
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
        let current = Current { watch: watch.clone(), looks: true };
        Self { task: CURRENT.scope(current, task), watch, timer: None }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = Result<F::Output, Stage>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        'task: loop {
            if let Poll::Ready(output) = this.task.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            while let Some((at, stage)) = this.watch.due() {
                let timer = this.timer.get_or_insert_with(|| Timer::new(at));
                // Left from an earlier response on this connection. Bytes only put the end off: the timer finds that out.
                if at < timer.at() {
                    timer.set(at);
                }
                ready!(timer.poll(cx));
                if at <= timer.at() {
                    let Some(stage) = stage else {
                        this.watch.set_alarm(None);
                        this.watch.rung.store(true, Relaxed);
                        timer.set(at + AFTER_ALARM);
                        continue 'task;
                    };
                    return Poll::Ready(Err(stage));
                }
                timer.set(at);
            }
            return Poll::Pending;
        }
    }
}

// === impl Timer ===

impl Timer {
    fn new(at: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(at.into())), armed: false }
    }

    fn at(&self) -> Instant {
        self.sleep.deadline().into_std()
    }

    fn set(&mut self, at: Instant) {
        self.sleep.as_mut().reset(at.into());
        self.armed = false;
    }

    /// Asks tokio only when that may change something.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.armed && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        self.armed = true;
        self.sleep.as_mut().poll(cx)
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
}
