//! The queue-proxy's admin port: health, metrics, and the wait for what is in flight.
//!
//! No [`Guard`](super::guard::Guard) on names here: probes and scrapers come with whatever `Host` the cluster gives
//! them, nothing can be changed, and the port is the pod's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use prometheus::proto::MetricFamily;
use prost::Message;
use serde_json::{Value, json};

use super::error::AdminError;
use super::metrics::{self, Exposition, Process};
use super::{guard, healthz, with_fallbacks};
use crate::clock;
use crate::drain::Drain;
use crate::stat::{Stat, wire};

/// How often `/drain` looks.
const DRAIN_EVERY: Duration = Duration::from_millis(5);

/// What the queue-proxy's admin port reads from.
#[derive(Clone)]
pub struct QueueProxyState {
    /// Whether the app answers.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The program's: once begun, `/readyz` says no.
    pub drain: Drain,
    /// Requests that execute or wait.
    pub in_flight: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// Its load in the last second.
    pub stat: Arc<dyn Fn() -> Stat + Send + Sync>,
    /// What it counts; [`metrics::gauge`] makes the rest. Process metrics are added here.
    pub metrics: Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>,
}

/// The admin API of a queue-proxy.
pub fn router(state: QueueProxyState) -> Router {
    let process = Arc::new(Process::new());
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async move |State(state)| exposition(&state, &process)))
        .route("/stats", get(stats))
        .route("/drain", get(drained));
    guard::seal(with_fallbacks(router)).with_state(state)
}

async fn readyz(State(state): State<QueueProxyState>) -> Result<&'static str, AdminError> {
    if state.drain.is_announced() {
        return Err(AdminError::NotReady("the queue-proxy is draining"));
    }
    if !(state.ready)() {
        return Err(AdminError::NotReady("the app does not answer yet"));
    }
    Ok("ok\n")
}

fn exposition(state: &QueueProxyState, process: &Process) -> impl IntoResponse + use<> {
    let mut exposition = Exposition::default();
    exposition.add((state.metrics)());
    exposition.process(process);
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], exposition.encode())
}

/// Load for an autoscaler, in Knative's form.
async fn stats(State(state): State<QueueProxyState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, wire::CONTENT_TYPE)], (state.stat)().encode_to_vec())
}

/// Returns when nothing is in flight. Bounded by whoever asks, who may go away at any time.
async fn drained(State(state): State<QueueProxyState>) -> Json<Value> {
    let begun = clock::now();
    let at_first = (state.in_flight)();
    let mut left = at_first;
    while left > 0 {
        tokio::time::sleep(DRAIN_EVERY).await;
        left = (state.in_flight)();
    }
    let waited = clock::now().saturating_duration_since(begun).as_millis() as u64;
    Json(json!({"in_flight": left, "in_flight_at_first": at_first, "waited_ms": waited}))
}

// === impl QueueProxyState ===

impl fmt::Debug for QueueProxyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueProxyState").field("drain", &self.drain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::stat::Meter;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_while_the_app_answers_and_the_program_stays() {
        let (answers, drain) = (Arc::new(AtomicBool::new(false)), Drain::new());
        let ready = answers.clone();
        let router = router(QueueProxyState {
            ready: Arc::new(move || ready.load(Ordering::Relaxed)),
            drain: drain.clone(),
            in_flight: Arc::new(|| 0),
            stat: Arc::new(Stat::default),
            metrics: Arc::new(|| vec![metrics::gauge("pilotlight_in_flight", "Help.", &[], 3.0)]),
        });
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
        let (status, text) = get(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("the app does not answer yet"), "{text}");
        answers.store(true, Ordering::Relaxed);
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::OK);
        drain.begin();
        assert!(get(&router, "/readyz").await.1.contains("draining"));
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
        let (status, text) = get(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("\npilotlight_in_flight 3\n") && text.contains("process_open_fds "), "{text}");
        let (status, text) = get(&router, "/nothing").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(text.contains("no_such_path"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn drain_returns_when_nothing_is_in_flight() {
        let meter = Arc::new(Meter::new(clock::now()));
        let request = meter.enter(clock::now());
        let count = meter.clone();
        let router = router(QueueProxyState {
            ready: Arc::new(|| true),
            drain: Drain::new(),
            in_flight: Arc::new(move || count.current()),
            stat: Arc::new(Stat::default),
            metrics: Arc::new(Vec::new),
        });
        let waiting = tokio::spawn(async move { get(&router, "/drain").await });
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!waiting.is_finished());
        drop(request);
        let (status, text) = waiting.await.unwrap();
        assert_eq!(status, StatusCode::OK);
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["in_flight"], &json["in_flight_at_first"]), (&json!(0), &json!(1)));
        assert!(json["waited_ms"].as_u64().unwrap() < 3_020, "{json}");
    }
}
