//! From the data path to the autoscaler: "somebody waits". An event, not a tick.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::spec::ServiceKey;

/// Services that want the autoscaler's attention now. Holds each at most once, so it is as bounded as they are.
#[derive(Debug, Default)]
pub struct Wakeups {
    pending: Mutex<Vec<ServiceKey>>,
    posted: Notify,
}

// === impl Wakeups ===

impl Wakeups {
    /// Adds a service. The caller sees to it that one service is not in here twice (`Service::poke`).
    pub fn post(&self, key: ServiceKey) {
        self.pending.lock().push(key);
        self.posted.notify_one();
    }

    /// Waits until there are some, and takes them all. Safe to cancel.
    pub async fn next(&self) -> Vec<ServiceKey> {
        loop {
            let pending = std::mem::take(&mut *self.pending.lock());
            if !pending.is_empty() {
                return pending;
            }
            self.posted.notified().await;
        }
    }
}
