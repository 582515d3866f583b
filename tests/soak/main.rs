//! The soak: every protocol at once, through the activator alone and through both hops in a row, for a while.
//!
//! One client in a hundred vanishes, at any stage. Replicas are killed, added, removed and replaced by new versions;
//! services go to zero and come back; limits change. At the end each request has exactly one right answer or a reason
//! ([`ledger`] holds the rules), and nothing is left: no slot, no memory, no descriptor, no thread, no process.
//!
//! Some seconds in `cargo test`; `PILOTLIGHT_SOAK_SECONDS` says how many. Progress goes to standard error.
#![allow(clippy::unwrap_used, reason = "a test panics with the place; that is its report")]

#[path = "../support/mod.rs"]
mod support;

mod answer;
mod ask;
mod bare;
mod chaos;
mod clients;
mod ledger;
mod left;
mod site;
mod tunnels;
mod vanish;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotlight::clock;
use tokio::task::JoinSet;

use ledger::Kind;
use left::Traces;
use site::Site;

/// In plain `cargo test`.
const SHORT: Duration = Duration::from_secs(5);
/// The share of the time after which memory is compared with what it was; at least [`WARM`].
const WARM_SHARE: u32 = 10;
const WARM: Duration = Duration::from_secs(3);
const PROGRESS: Duration = Duration::from_secs(5);
/// How long the requests that run when time is over may take to end.
const LAST_REQUESTS: Duration = Duration::from_mins(2);

/// Clients of each kind at the same time.
const CLIENTS: [(Kind, usize); 9] = [
    (Kind::KeepAlive, 6),
    (Kind::Pipelined, 2),
    (Kind::Http10, 2),
    (Kind::H2, 2),
    (Kind::GrpcUnary, 2),
    (Kind::GrpcStream, 2),
    (Kind::Events, 3),
    (Kind::WebSocket, 4),
    (Kind::Upgrade, 2),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered_once_and_nothing_is_left() {
    let length = std::env::var("PILOTLIGHT_SOAK_SECONDS").ok();
    let length = length.map_or(SHORT, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    let site = Site::start().await;
    let mut traces = Traces::at_start(&site).await;

    let mut clients = JoinSet::new();
    for (kind, n) in CLIENTS {
        for _ in 0..n {
            clients.spawn(clients::until_over(site.clone(), kind));
        }
    }
    clients.spawn(clients::naps(site.clone()));
    let chaos = tokio::spawn(chaos::until_over(site.clone()));
    watch(&site, &mut traces, length).await;

    site.over.store(true, Ordering::Relaxed);
    chaos.await.unwrap();
    let last = async {
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    };
    let all = tokio::time::timeout(LAST_REQUESTS, last).await.is_ok();
    eprintln!("{}", site.ledger.table(&site.turmoil.lock()));
    let mut wrong = site.ledger.wrong(&site);
    if !all {
        wrong.push(format!("requests without an end after {LAST_REQUESTS:?}"));
    }
    if !wrong.is_empty() {
        wrong.push(format!("services now: {}", site.serve.api("/api/services").await));
        wrong.push(format!("logs and records: {}", site.keep().display()));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    traces.none_left(site).await;
}

/// Tells how it goes, and what memory is after the warm-up, until time is over.
async fn watch(site: &Arc<Site>, traces: &mut Traces, length: Duration) {
    let start = clock::now();
    let warm = (length / WARM_SHARE).max(WARM);
    let mut next = start + PROGRESS;
    while start.elapsed() < length {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if start.elapsed() < warm {
            traces.warm_up();
        } else {
            traces.look();
        }
        if clock::now() >= next {
            next += PROGRESS;
            let so_far = site.ledger.progress(&site.turmoil.lock());
            eprintln!("{:>4} s: {so_far}; {traces}", start.elapsed().as_secs());
        }
    }
}
