//! Leaving in order: everybody is told once, and whoever must finish something says when it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Told to all who serve. Cheap to clone; clones are the same drain.
///
/// It has three stages. [`announce`](Self::announce): not ready any more, and every answer sends its client away, but
/// work is taken as before, because whoever sends it has yet to hear. [`begin`](Self::begin): nothing new, and what
/// runs finishes. [`abort`](Self::abort): what still runs is cut off.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    announced: Arc<AtomicBool>,
    /// Requests since the announcement.
    arrived: AtomicUsize,
    aborted: CancellationToken,
    open: AtomicUsize,
    closed: Notify,
}

/// Something that must finish before the process may go.
#[derive(Debug)]
pub struct Open {
    inner: Arc<Inner>,
}

// === impl Drain ===

impl Drain {
    /// Not begun, nothing open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A part that can be told to finish by itself, and is when the whole is. What it holds open, the whole waits for.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { begun: self.begun.child_token(), inner: self.inner.clone() }
    }

    /// Not ready any more; still working.
    pub fn announce(&self) {
        self.inner.announced.store(true, Ordering::Release);
    }

    /// Whether it was announced, or has begun.
    pub fn is_announced(&self) -> bool {
        self.inner.announced.load(Ordering::Acquire) || self.is_draining()
    }

    /// Turns true when it is announced: for whoever asks once per answer.
    pub fn announced(&self) -> Arc<AtomicBool> {
        self.inner.announced.clone()
    }

    /// A request came.
    pub fn arrived(&self) {
        if self.inner.announced.load(Ordering::Relaxed) {
            self.inner.arrived.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Resolves once no request has come for this long.
    pub async fn quiet(&self, quiet: Duration) {
        loop {
            let before = self.inner.arrived.load(Ordering::Relaxed);
            tokio::time::sleep(quiet).await;
            if self.inner.arrived.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    /// Tells everybody to finish.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether it has begun.
    pub fn is_draining(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Cuts off what has not finished.
    pub fn abort(&self) {
        self.inner.aborted.cancel();
    }

    /// Resolves when what runs is to be cut off.
    pub async fn aborted(&self) {
        self.inner.aborted.cancelled().await;
    }

    /// Resolves when it begins.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Holds the drain up until the guard is dropped.
    #[must_use]
    pub fn open(&self) -> Open {
        self.inner.open.fetch_add(1, Ordering::AcqRel);
        Open { inner: self.inner.clone() }
    }

    /// Resolves when nothing is open.
    pub async fn finished(&self) {
        loop {
            let closed = self.inner.closed.notified();
            if self.inner.open.load(Ordering::Acquire) == 0 {
                return;
            }
            closed.await;
        }
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        if self.inner.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inner.closed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test]
    async fn a_part_ends_alone_but_the_whole_waits_for_it() {
        let whole = Drain::new();
        let part = whole.part();
        let open = part.open();
        part.begin();
        assert!(part.is_draining() && !whole.is_draining());
        assert!(futures_util::FutureExt::now_or_never(whole.finished()).is_none());
        drop(open);
        whole.finished().await;
        let other = whole.part();
        whole.begin();
        assert!(other.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_is_counted_from_the_last_request() {
        let drain = Drain::new();
        drain.announce();
        assert!(drain.announced().load(Ordering::Relaxed) && drain.is_announced() && !drain.is_draining());
        let start = clock::now();
        let quiet = tokio::spawn({
            let drain = drain.clone();
            async move { drain.quiet(Duration::from_secs(2)).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drain.arrived();
        quiet.await.unwrap();
        assert_eq!((clock::now() - start).as_secs(), 4);
    }

    #[tokio::test]
    async fn finishes_with_the_last_guard() {
        let drain = Drain::new();
        drain.finished().await;
        let (one, two) = (drain.open(), drain.open());
        drain.begin();
        drain.begun().await;
        let finished = tokio::spawn({
            let drain = drain.clone();
            async move { drain.finished().await }
        });
        drop(one);
        tokio::task::yield_now().await;
        assert!(!finished.is_finished());
        drop(two);
        finished.await.unwrap();
    }
}
