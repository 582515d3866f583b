//! A future beside one that does the work.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use pin_project::pin_project;

/// Is polled only when it was it that asked to be. A connection's task runs with every piece of I/O; what it waits for
/// besides (a drain, its place) comes once, if ever, and need not be asked each time.
#[pin_project]
#[derive(Debug)]
pub struct Seldom<F> {
    #[pin]
    future: F,
    asked: Option<Arc<Asked>>,
}

#[derive(Debug)]
struct Asked {
    now: AtomicBool,
    task: Waker,
}

// === impl Seldom ===

impl<F> Seldom<F> {
    /// `future`, which is polled once at first.
    pub fn new(future: F) -> Self {
        Self { future, asked: None }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let asked = match this.asked {
            Some(asked) if asked.task.will_wake(cx.waker()) => {
                if !asked.now.swap(false, Ordering::Acquire) {
                    return Poll::Pending;
                }
                asked
            }
            moved => moved.insert(Arc::new(Asked { now: AtomicBool::new(false), task: cx.waker().clone() })),
        };
        let waker = Waker::from(asked.clone());
        this.future.poll(&mut Context::from_waker(&waker))
    }
}

// === impl Asked ===

impl Wake for Asked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.now.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn is_polled_when_it_asked_and_not_otherwise() {
        let (polls, notify) = (AtomicU32::new(0), Notify::new());
        let mut inner = Box::pin(notify.notified());
        let mut seldom = std::pin::pin!(Seldom::new(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            inner.as_mut().poll(cx)
        })));
        for _ in 0..5 {
            let polled = poll_fn(|cx| Poll::Ready(seldom.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        notify.notify_one();
        seldom.await;
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn wakes_the_task_that_it_moved_to() {
        let notify = Arc::new(Notify::new());
        let waits = notify.clone();
        let mut seldom = Box::pin(Seldom::new(async move { waits.notified().await }));
        assert!(seldom.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let task = tokio::spawn(seldom);
        tokio::task::yield_now().await;
        notify.notify_one();
        task.await.unwrap();
    }
}
