//! What people and programs see of a running pilotlight: health, metrics, state and logs as JSON and text, events.
//!
//! What flows in: the fleet's state, read when somebody asks. What flows out: answers, and two commands (wake, sleep)
//! to the autoscaler. Nothing here is on the way of a request, and nothing here is kept.
//!
//! ```text
//! server ── guard ──┬─ health, metrics
//!                   ├─ services (view) · logs · config
//!                   └─ events (SSE)
//! ```

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::autoscaler;
use crate::drain::Drain;
use crate::events::Events;
use crate::fleet::Fleet;

mod config;
pub mod error;
mod events;
pub mod guard;
mod logs;
pub mod metrics;
pub mod queue_proxy;
pub mod server;
mod services;
#[cfg(test)]
pub(crate) mod tests;
pub mod view;

use error::AdminError;
use guard::Guard;
use metrics::{Exposition, Process};

/// Streams (events, followed logs) at once: fewer than connections, so that probes always get through.
const STREAMS: usize = 64;

/// What `serve`'s admin API reads from.
pub struct ServeState {
    /// The services.
    pub fleet: Arc<Fleet>,
    /// Takes wake and sleep.
    pub autoscaler: autoscaler::Handle,
    /// What happens.
    pub events: Arc<Events>,
    /// The program's: once begun, `/readyz` says no and streams end.
    pub drain: Drain,
    /// Set once everything is loaded.
    pub ready: Arc<AtomicBool>,
    /// The program's part of `/api/config`, a JSON object: listeners, state directory, files. No secrets.
    pub config: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

/// What handlers share.
#[derive(Clone)]
struct Shared {
    state: Arc<ServeState>,
    process: Arc<Process>,
    streams: Arc<Semaphore>,
}

/// The admin API of `serve`. `guard` knows where it is reached.
pub fn router(state: Arc<ServeState>, guard: Guard) -> Router {
    let shared =
        Shared { state, process: Arc::new(Process::new()), streams: Arc::new(Semaphore::new(STREAMS)) };
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .route("/api/services", get(services::list))
        .route("/api/services/{namespace}/{name}", get(services::one))
        .route("/api/services/{namespace}/{name}/logs", get(logs::logs))
        .route("/api/services/{namespace}/{name}/wake", post(services::wake))
        .route("/api/services/{namespace}/{name}/sleep", post(services::sleep))
        .route("/api/config", get(config::config))
        .route("/api/events", get(events::events));
    guard.protect(with_fallbacks(router)).with_state(shared)
}

/// Answers what no route matches in the common error shape.
fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(|| async { AdminError::NoPath })
        .method_not_allowed_fallback(|| async { AdminError::Method })
}

/// The process lives, or this would not be answered.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(shared): State<Shared>) -> Result<&'static str, AdminError> {
    if shared.drain.is_draining() {
        return Err(AdminError::NotReady("pilotlight is draining"));
    }
    if !shared.ready.load(Ordering::Acquire) {
        return Err(AdminError::NotReady("the configuration is still being loaded"));
    }
    Ok("ok\n")
}

async fn exposition(State(shared): State<Shared>) -> impl IntoResponse {
    // Some milliseconds with hundreds of busy services: not on a thread that starts replicas.
    let text = tokio::task::spawn_blocking(move || {
        let mut exposition = Exposition::default();
        for member in shared.fleet.members().values() {
            exposition.service(&member.managed);
        }
        exposition.add(shared.fleet.unrouted());
        exposition.process(&shared.process);
        exposition.encode()
    });
    // It is never cancelled, and a panic there is a bug that this request may show.
    text.await
        .map(|text| ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
        .map_err(|_| AdminError::Bug("metrics could not be collected"))
}

// === impl ServeState ===

impl fmt::Debug for ServeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeState").field("ready", &self.ready).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// A place for a stream, held as long as it lasts.
    fn stream(&self) -> Result<OwnedSemaphorePermit, AdminError> {
        self.streams.clone().try_acquire_owned().map_err(|_| AdminError::TooManyStreams(STREAMS))
    }
}

impl Deref for Shared {
    type Target = ServeState;

    fn deref(&self) -> &ServeState {
        &self.state
    }
}
