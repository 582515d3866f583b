//! Leaving in order: everybody is told once, and whoever must finish something says when it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Told to all who serve. Cheap to clone; clones are the same drain.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
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

    /// Tells everybody to finish.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether it has begun.
    pub fn is_draining(&self) -> bool {
        self.begun.is_cancelled()
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
