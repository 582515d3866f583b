//! The clocks of one request: until the head of its response, without a byte, and in all.
//!
//! A response's body is not polled while its client reads nothing, so a timer inside the body would never be asked.
//! The task that drives the response has it instead: the connection's for HTTP/1, the stream's for HTTP/2. Everything
//! that sees bytes pass notes it in that task's [`Watch`]; [`Watched`] looks at it whenever the task has to wait, and
//! drops the connection or the stream when a bound has passed: a reset of either, never a clean end.
//!
//! Most responses come whole, in one poll: they arm and disarm the watch, and no timer is made. Bytes read the clock
//! only while a timer runs. The wait for a response's head, which ends in an answer and not in a reset, has the same
//! timer wake it: it is one a connection, and put off by the next request instead of being made anew for each.

use std::future::{Future, poll_fn};
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
use crate::config::spec::Timeouts;

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
    timed: AtomicBool,
    /// Whether it is the client whose bytes are waited for, not the app.
    on_client: AtomicBool,
    bounds: Mutex<Option<Bounds>>,
    /// When whoever waits for a head wants to look at the time, in nanoseconds since `base`, or [`NEVER`].
    alarm: AtomicU64,
    /// It has rung.
    rung: AtomicBool,
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

/// Wakes who waits for a response's head, until it is dropped.
#[derive(Debug)]
struct Alarm {
    watch: Arc<Watch>,
    /// Of a wait in another task than the watch's (a stream that has begun with heartbeats), or in none that is watched.
    own: Option<Pin<Box<Sleep>>>,
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

    fn note(&self, now: Instant) {
        self.last.store(self.since_base(now), Relaxed);
    }

    fn since_base(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    fn set_alarm(&self, at: Option<Instant>) {
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
pub fn for_current<F: Future>(task: F) -> impl Future<Output = F::Output> + use<F> {
    CURRENT.scope(Current { watch: Watch::current(), looks: false }, task)
}

// === impl Alarm ===

impl Alarm {
    fn set(at: Instant) -> Self {
        let watch = Watch::current();
        if !CURRENT.try_with(|current| current.looks).unwrap_or_default() {
            return Self { watch, own: Some(Box::pin(sleep_until(at.into()))) };
        }
        watch.rung.store(false, Relaxed);
        watch.set_alarm(Some(at));
        Self { watch, own: None }
    }

    fn reset(&mut self, at: Instant) {
        match &mut self.own {
            Some(timer) => timer.as_mut().reset(at.into()),
            None => self.watch.set_alarm(Some(at)),
        }
    }

    fn rings(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.own {
            Some(timer) => timer.as_mut().poll(cx).is_ready(),
            None => self.watch.rung.swap(false, Relaxed),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.own.is_none() {
            self.watch.set_alarm(None);
        }
    }
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

/// Waits for the head of a response to a request that is sent at `sent`.
///
/// "Response start" counts from the last byte that the app took: from `sent` for a request without a body, and anew
/// with every piece of an upload. While it is the client that sends nothing, "idle" counts instead, so that neither a
/// long upload nor an app that thinks long is cut. `answer` comes pinned, or every connection would hold its memory
/// twice. `uploading` is the watch of a request with a body. Uses the timer of the task that it runs in, if that is [`Watched`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::pin::pin;
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
