//! Closed-loop load: workers that send one request after the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::client::{Call, Wire};

/// Running load.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    workers: JoinSet<Vec<Outcome>>,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Its `x-request-id`.
    pub(crate) id: String,
    /// The status, or what went wrong before one came.
    pub(crate) status: Result<u16, String>,
    /// The body of an answer other than 200.
    pub(crate) body: String,
}

impl Load {
    /// Starts `workers` that each send GET after GET over a kept connection.
    pub(crate) fn start(to: SocketAddr, host: &str, path: &str, workers: usize) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut set = JoinSet::new();
        for worker in 0..workers {
            let (stop, sent) = (stop.clone(), sent.clone());
            let (host, path) = (host.to_owned(), path.to_owned());
            set.spawn(async move {
                let mut outcomes = Vec::new();
                let mut wire = None;
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("{worker}-{}", outcomes.len());
                    let outcome = one(&mut wire, to, Call::get(&host, &path).id(&id), id).await;
                    if outcome.status.is_err() {
                        // The connection is of no use; a listener that is gone must not make a busy loop.
                        wire = None;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    outcomes.push(outcome);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                outcomes
            });
        }
        Self { stop, sent, workers: set }
    }

    /// Requests answered so far.
    pub(crate) fn answered(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Lets each worker finish its request and returns all outcomes.
    pub(crate) async fn stop(mut self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(outcomes) = self.workers.join_next().await {
            all.extend(outcomes.unwrap());
        }
        all
    }
}

async fn one(wire: &mut Option<Wire>, to: SocketAddr, call: Call, id: String) -> Outcome {
    if wire.is_none() {
        match Wire::open(to, false).await {
            Ok(new) => *wire = Some(new),
            Err(e) => {
                return Outcome { id, status: Err(e), body: String::new() };
            }
        }
    }
    match wire.as_mut().unwrap().send(call).await {
        Ok(reply) => {
            if reply.header("connection").eq_ignore_ascii_case("close") {
                *wire = None;
            }
            let body = if reply.status == 200 { String::new() } else { reply.text() };
            Outcome { id, status: Ok(reply.status), body }
        }
        Err(e) => Outcome { id, status: Err(e), body: String::new() },
    }
}

/// How many of each status; errors count as `error`.
pub(crate) fn tally(outcomes: &[Outcome]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for outcome in outcomes {
        let key = outcome.status.as_ref().map_or_else(|_| "error".to_owned(), u16::to_string);
        *tally.entry(key).or_default() += 1;
    }
    tally
}
