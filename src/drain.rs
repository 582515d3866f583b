//! Leaving in order: everybody is told once, and whoever must finish something says when it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Told to all who serve. Cheap to clone; clones are the same drain.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    begun: CancellationToken,
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

    /// Tells everybody to finish.
    pub fn begin(&self) {
        self.inner.begun.cancel();
    }

    /// Whether it has begun.
    pub fn is_draining(&self) -> bool {
        self.inner.begun.is_cancelled()
    }

    /// Resolves when it begins.
    pub async fn begun(&self) {
        self.inner.begun.cancelled().await;
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
