//! `/api/events`: what happened lately and what happens from now on, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::Shared;
use super::error::AdminError;
use crate::drain::Drain;
use crate::events;

/// Tells both ends that the other is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where one listener is.
struct Listener {
    past: VecDeque<Arc<events::Event>>,
    live: Receiver<Arc<events::Event>>,
    drain: Drain,
    /// The place is free again when the stream ends.
    _place: tokio::sync::OwnedSemaphorePermit,
}

/// The past ones after `Last-Event-ID`, then live ones until the program leaves.
pub(super) async fn events(
    State(shared): State<Shared>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, AdminError> {
    let place = shared.stream()?;
    let (past, live) = shared.events.listen();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let listener = Listener { past: after(past, last), live, drain: shared.drain.clone(), _place: place };
    let stream = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Those that a listener who has seen `last` has not. An id from the future is an earlier run's: nothing of this one
/// was seen then.
fn after(past: Vec<Arc<events::Event>>, last: Option<u64>) -> VecDeque<Arc<events::Event>> {
    let newest = past.last().map_or(0, |event| event.id);
    let seen = last.filter(|last| *last <= newest).unwrap_or(0);
    past.into_iter().filter(|event| event.id > seen).collect()
}

// === impl Listener ===

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.past.pop_front() {
            return Some(encode(&event));
        }
        tokio::select! {
            biased;
            event = self.live.recv() => match event {
                Ok(event) => Some(encode(&event)),
                Err(RecvError::Lagged(missed)) => Some(lagged(missed)),
                Err(RecvError::Closed) => None,
            },
            () = self.drain.begun() => match self.live.try_recv() {
                // What was said before the end is heard.
                Ok(event) => Some(encode(&event)),
                Err(TryRecvError::Lagged(missed)) => Some(lagged(missed)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => None,
            },
        }
    }
}

fn encode(event: &events::Event) -> Event {
    let kind = serde_json::to_value(event.kind).unwrap_or_default();
    let data = serde_json::to_string(event).unwrap_or_default();
    Event::default().id(event.id.to_string()).event(kind.as_str().unwrap_or_default()).data(data)
}

/// Without an id: it is no event of the program's, and a resumption goes on where the last one was.
fn lagged(missed: u64) -> Event {
    Event::default().event("lagged").data(json!({ "missed": missed }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Events, Kind};

    #[tokio::test]
    async fn resumes_after_what_was_seen() {
        let events = Events::default();
        for n in 0..5 {
            events.emit(Kind::Loaded, None, n.to_string());
        }
        let ids =
            |last| -> Vec<u64> { after(events.listen().0, last).iter().map(|event| event.id).collect() };
        assert_eq!(ids(None), [1, 2, 3, 4, 5]);
        assert_eq!(ids(Some(3)), [4, 5]);
        assert!(ids(Some(5)).is_empty());
        assert_eq!(ids(Some(99)), [1, 2, 3, 4, 5], "an earlier run's");
    }
}
