//! Places for clients' connections, and who gives one up when all are taken: one that rests between two requests.
//!
//! Without this, clients that keep connections for later would keep others out for as long as those may rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How many connections are asked for one newcomer, one after the other, those that were not asked for longest first.
/// What is asked is a connection's task: it must not be a whole herd of them.
const ASKED: u32 = 64;
/// When to ask again, while none rested or none has gone yet.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Places for the connections of all listeners together.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    asked: Notify,
    /// How many more may be asked.
    left: AtomicU32,
}

// === impl Places ===

impl Places {
    /// So many.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(most)), asked: Notify::new(), left: AtomicU32::new(0) })
    }

    /// Takes one, as soon as there is one. Safe to cancel.
    pub async fn take(&self) -> OwnedSemaphorePermit {
        const NEVER_CLOSED: &str = "the semaphore is never closed";
        let mut place = std::pin::pin!(self.free.clone().acquire_owned());
        if self.free.available_permits() > 0 {
            return place.await.expect(NEVER_CLOSED);
        }
        loop {
            self.left.store(ASKED, Relaxed);
            self.ask();
            if let Ok(taken) = tokio::time::timeout(ASK_AGAIN, place.as_mut()).await {
                return taken.expect(NEVER_CLOSED);
            }
        }
    }

    /// Waits until it is this connection's to go, as it `rests`.
    pub async fn wanted(&self, rests: impl Fn() -> bool) {
        loop {
            self.asked.notified().await;
            if self.free.available_permits() > 0 {
                continue;
            }
            if rests() {
                return;
            }
            self.ask();
        }
    }

    fn ask(&self) {
        if self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            self.asked.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_rests_makes_room() {
        let places = Places::new(3);
        let rest: Vec<Arc<AtomicBool>> = (0..3).map(|_| Arc::new(AtomicBool::new(false))).collect();
        let mut connections = Vec::new();
        for rests in &rest {
            let (place, places, rests) = (places.take().await, places.clone(), rests.clone());
            connections.push(tokio::spawn(async move {
                places.wanted(|| rests.load(Relaxed)).await;
                drop(place);
            }));
        }
        let newcomer = tokio::spawn({
            let places = places.clone();
            async move { places.take().await }
        });
        tokio::time::sleep(10 * ASK_AGAIN).await;
        assert!(!newcomer.is_finished(), "nobody rests");
        rest[1].store(true, Relaxed);
        let place = newcomer.await.unwrap();
        let gone: Vec<bool> = connections.iter().map(tokio::task::JoinHandle::is_finished).collect();
        assert_eq!(gone, [false, true, false]);
        // Once there is room, nobody is asked any more.
        drop(place);
        rest[0].store(true, Relaxed);
        drop(places.take().await);
        tokio::time::sleep(10 * ASK_AGAIN).await;
        assert!(!connections[0].is_finished());
    }
}
