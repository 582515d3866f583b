//! An app behind one of the three [`Setup`]s, and what a test asks of it.
//!
//! ```ignore
//! let way = Way::through(setup).limit(1).timeout("idle", "1s").start().await;
//! let reply = way.get("/").send(way.traffic).await.unwrap();
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::ops::DerefMut;

use super::client::{Call, Reply};
use super::lab::Lab;
use super::metrics::{idle, metrics, value};
use super::program::Program;
use super::serve::host;
use super::wait::{LONG, SOON, holds, wait_until};
use super::ways::{Setup, WayBuilder};

/// A way that is up.
pub(crate) struct Way {
    pub(crate) setup: Setup,
    pub(crate) lab: Lab,
    /// Where clients go.
    pub(crate) traffic: SocketAddr,
    admin: SocketAddr,
    first: First,
    _app: Option<Program>,
}

/// The program that is nearest to the client.
type First = Box<dyn DerefMut<Target = Program> + Send + Sync>;

/// The one service; testapp records under it.
pub(crate) const NAME: &str = "app";

// === impl Way ===

#[allow(clippy::unused_self, reason = "a call goes the way that it is asked of")]
impl Way {
    /// Begins to build one.
    pub(crate) fn through(setup: Setup) -> WayBuilder {
        WayBuilder::new(setup)
    }

    /// One whose first hop listens at these: traffic, admin.
    pub(super) fn new(
        setup: Setup,
        lab: Lab,
        (traffic, admin): (SocketAddr, SocketAddr),
        first: First,
        app: Option<Program>,
    ) -> Self {
        Self { setup, lab, traffic, admin, first, _app: app }
    }

    /// Sends requests until one is answered.
    pub(crate) async fn warm(&self) {
        let to = self.traffic;
        wait_until(LONG, format!("{self}: answers"), async || {
            match self.get("/").id("warm").send(to).await {
                Ok(reply) if reply.status < 500 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// The host that reaches the app.
    pub(crate) fn host(&self) -> String {
        host(NAME)
    }

    /// Where any host, and none, is good enough.
    pub(crate) async fn any_host(&mut self) -> SocketAddr {
        if self.setup == Setup::QueueProxy {
            return self.traffic;
        }
        self.first.listening(&format!("default/{NAME}")).await
    }

    /// GET to the app.
    pub(crate) fn get(&self, path: &str) -> Call {
        Call::get(&self.host(), path)
    }

    /// POST to the app.
    pub(crate) fn post(&self, path: &str, body: impl Into<bytes::Bytes>) -> Call {
        Call::post(&self.host(), path, body)
    }

    /// Sends a call, as a task that runs by itself.
    pub(crate) fn send(&self, call: Call) -> tokio::task::JoinHandle<Result<Reply, String>> {
        let traffic = self.traffic;
        tokio::spawn(async move { call.send(traffic).await })
    }

    /// The program that is nearest to the client.
    pub(crate) fn front(&mut self) -> &mut Program {
        &mut self.first
    }

    /// Its admin port.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.first.pid()
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        self.first.log()
    }

    /// What it counts.
    pub(crate) async fn metrics(&self) -> String {
        metrics(self.admin).await.unwrap()
    }

    /// One of its metrics, as [`value`] reads it.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        value(&self.metrics().await, series)
    }

    /// Waits until a metric is as it should be; `what` says how.
    pub(crate) async fn until_metric(&self, series: &str, what: &str, is: impl Fn(f64) -> bool) {
        wait_until(SOON, format!("{self}: {series} {what}"), async || {
            let value = self.metric(series).await;
            holds(is(value), value)
        })
        .await;
    }

    /// Waits until so many requests wait for a slot.
    pub(crate) async fn queued(&self, n: u32) {
        let is = |queued: f64| (queued - f64::from(n)).abs() < 0.5;
        self.until_metric("pilotlight_service_queued", &format!("is {n}"), is).await;
    }

    /// Waits until nothing is in flight and nothing waits, as the program in front sees it.
    pub(crate) async fn idle(&self) {
        wait_until(SOON, format!("{self}: nothing in flight or queued"), async || idle(self.admin).await)
            .await;
    }

    /// Waits until a request is at the app.
    pub(crate) async fn reached(&self, id: &str) {
        let what = format!("{self}: {id} is at the app");
        wait_until(SOON, what, async || holds(self.lab.reached(NAME, id), "not yet")).await;
    }

    /// Ids of the requests that have reached the app, in their order.
    pub(crate) fn arrived(&self) -> Vec<String> {
        self.lab.events(NAME, "request").into_iter().filter_map(|record| record.id).collect()
    }

    /// Waits until the app is done with a request; whether it was answered to its end.
    pub(crate) async fn done(&self, id: &str) -> bool {
        let done = wait_until(SOON, format!("{self}: the app is done with {id}"), async || {
            let done = self.lab.events(NAME, "done");
            done.iter().find(|r| r.id.as_deref() == Some(id)).cloned().ok_or(format!("{done:?}"))
        });
        done.await.complete.unwrap()
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.setup)
    }
}
