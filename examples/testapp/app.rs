//! Who is in flight: every request is counted from its head until its response's body has ended.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde_json::json;

use crate::body::{Body, Guarded, full};
use crate::flags::Flags;
use crate::pages;
use crate::record::Record;

/// The state that all connections share.
pub(crate) struct App {
    pub(crate) flags: Flags,
    pub(crate) record: Record,
    started: Instant,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    total: AtomicUsize,
}

/// One request in flight; its drop ends it.
pub(crate) struct Flight {
    app: Arc<App>,
    id: Option<String>,
    complete: bool,
}

/// Answers one request.
pub(crate) async fn serve(
    app: Arc<App>,
    port: u16,
    req: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    // Probes are not load.
    if let Some(answer) = pages::probe(&app, &req) {
        return Ok(answer);
    }
    let flight = app.enter(port, &req);
    if app.flags.delay > 0 {
        tokio::time::sleep(Duration::from_millis(app.flags.delay)).await;
    }
    if req.uri().path() == "/ws-echo" {
        return Ok(pages::upgrade(req, flight));
    }
    if req.uri().path() == "/ws" {
        return Ok(pages::websocket(req, flight));
    }
    let head = req.method() == Method::HEAD;
    let mut answer = pages::answer(&app, req).await;
    if head {
        // hyper leaves it out over HTTP/1 only.
        *answer.body_mut() = full("");
    }
    Ok(answer.map(|body| Guarded::new(body, flight).boxed_unsync()))
}

/// Returns once the file is there.
pub(crate) async fn until_exists(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

// === impl App ===

impl App {
    pub(crate) fn new(flags: Flags, record: Record) -> Self {
        Self {
            flags,
            record,
            started: Instant::now(),
            in_flight: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(0),
            total: AtomicUsize::new(0),
        }
    }

    /// What a real app does before it listens: loads a model.
    pub(crate) async fn start(&self) {
        tokio::time::sleep(Duration::from_millis(self.flags.start_delay)).await;
        if let Some(gate) = &self.flags.start_gate {
            until_exists(gate).await;
        }
    }

    /// Counts and records the request.
    fn enter(self: &Arc<Self>, port: u16, req: &Request<Incoming>) -> Flight {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.max_in_flight.fetch_max(now, Ordering::SeqCst);
        self.total.fetch_add(1, Ordering::SeqCst);
        let id = req.headers().get("x-request-id").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (method, path) = (req.method().as_str(), req.uri().path());
        let what = json!({ "id": id, "in_flight": now, "method": method, "path": path, "port": port });
        self.record.write("request", what);
        if self.flags.limit > 0 && now > self.flags.limit {
            self.record.write("violation", json!({ "id": id, "in_flight": now }));
        }
        Flight { app: self.clone(), id, complete: false }
    }

    pub(crate) fn ready(&self) -> bool {
        self.started.elapsed() >= Duration::from_millis(self.flags.ready_delay)
            && self.flags.ready_gate.as_ref().is_none_or(|gate| gate.exists())
    }

    /// In flight, the most that ever were, all so far.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let get = |n: &AtomicUsize| n.load(Ordering::SeqCst);
        (get(&self.in_flight), get(&self.max_in_flight), get(&self.total))
    }

    /// Returns once nothing is in flight.
    pub(crate) async fn idle(&self) {
        while self.counts().0 > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

// === impl Flight ===

impl Flight {
    /// It was answered to its end; a mere drop means that the peer went away.
    pub(crate) fn end(mut self) {
        self.complete = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let left = self.app.in_flight.fetch_sub(1, Ordering::SeqCst) - 1;
        let what = json!({ "id": self.id, "in_flight": left, "complete": self.complete });
        self.app.record.write("done", what);
    }
}
