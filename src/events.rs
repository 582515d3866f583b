//! What happens to services, for people and programs: one line in the log, one message on `/api/events`.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::clock;
use crate::config::spec::ServiceKey;

/// How many a slow listener may lag behind before it loses some.
const LISTENER_LAG: usize = 1024;
/// How many are kept for who asks later.
const KEPT: usize = 256;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Counts up from 1.
    pub id: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Whose it is; `None` for the program itself.
    pub service: Option<ServiceKey>,
    /// What kind.
    pub kind: Kind,
    /// In words.
    pub message: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A service was added.
    Loaded,
    /// A service was changed.
    Changed,
    /// A service was removed.
    Removed,
    /// Somebody waits and nothing is ready.
    Waking,
    /// A replica's process was started.
    Started,
    /// A replica can serve.
    Ready,
    /// The number of replicas changes.
    Scaled,
    /// A replica was stopped.
    Stopped,
    /// No replica is left.
    Zero,
    /// A replica that had been ready died.
    Died,
    /// A replica left the set: it cannot be reached, breaks exchanges, or says that it is not ready.
    Ejected,
    /// A start failed.
    StartFailed,
    /// Starts are given up for a while.
    Failing,
    /// An environment is being made.
    Preparing,
    /// New files were read.
    Reloaded,
    /// New files were refused; the old configuration stays in force.
    Refused,
    /// The program is leaving.
    Draining,
}

/// Takes events and tells whoever listens.
#[derive(Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    events: VecDeque<Arc<Event>>,
}

// === impl Events ===

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(LISTENER_LAG), kept: Mutex::default() }
    }
}

impl Events {
    /// Tells of something that happened to `service`.
    pub fn emit(&self, kind: Kind, service: Option<&ServiceKey>, message: impl Into<String>) {
        let message = message.into();
        let service_field = service.map(tracing::field::display);
        match kind {
            Kind::StartFailed | Kind::Failing | Kind::Died | Kind::Ejected | Kind::Refused => {
                tracing::warn!(service = service_field, "{message}");
            }
            _ => tracing::info!(service = service_field, "{message}"),
        }
        let mut kept = self.kept.lock();
        kept.next += 1;
        let event = Arc::new(Event {
            id: kept.next,
            at_ms: clock::wall_millis(),
            service: service.cloned(),
            kind,
            message,
        });
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Under the lock, so that a new listener misses none and gets none twice. No listener is no error.
        let _ = self.sender.send(event);
    }

    /// The latest events, and all that come from now on.
    pub fn listen(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.kept.lock();
        (kept.events.iter().cloned().collect(), self.sender.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_gets_what_was_and_what_comes_once() {
        let events = Events::default();
        for n in 0..KEPT + 10 {
            events.emit(Kind::Loaded, None, n.to_string());
        }
        let (past, mut coming) = events.listen();
        assert_eq!(past.len(), KEPT);
        events.emit(Kind::Zero, Some(&ServiceKey::new("default", "a")), "zero");
        assert_eq!(coming.recv().await.unwrap().id, past.last().unwrap().id + 1);
        assert!(coming.try_recv().is_err());
    }
}
