//! How near the line in front of replicas comes to a perfect one: `cargo bench --bench fifo`.
//!
//! `serve` with ten replicas of limit 1, at a load of 0.7: Poisson arrivals, exponential service of 100 ms in the mean,
//! both from a seed, open loop. What a request waits is its latency less its service. The same arrivals and services
//! are then replayed through an exact first-come-first-served queue of ten servers, where nothing else takes time.
//!
//! The service that counts is not the one that was asked for: the app's timer rounds it, and a busy machine prolongs
//! it. testapp records when it got the request and when the answer's end left it, in nanoseconds; their difference,
//! request by request, is what both sides are given. `BENCH_REQUESTS` is how many there are.
#![allow(clippy::unwrap_used, reason = "a bench panics with the place")]

mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use common::machine;
use common::samples::Samples;
use pilotlight::clock;
use support::{Call, Lab, Record, Serve, host, wait_until};
use tokio::task::JoinSet;

const REPLICAS: usize = 10;
const LOAD: f64 = 0.7;
const SERVICE_MS: f64 = 100.0;
const SEED: u64 = 20_261_122;
/// "1.1 × or +5 ms": the better of the two.
const SHARE: f64 = 1.1;
const MORE_MS: f64 = 5.0;

/// One request, in ms since the first moment.
struct Trip {
    id: usize,
    sent: f64,
    answered: f64,
}

fn main() {
    common::with_testapp(run());
}

async fn run() {
    let requests = std::env::var("BENCH_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(8_000);
    let lab = Lab::new();
    let yaml = lab.app("app").limit(1).set("scaling.min", REPLICAS).set("scaling.max", REPLICAS);
    lab.services(&[&yaml]);
    let serve = lab.serve().start().await;
    let ready = |s: &serde_json::Value| {
        let ready = s["replicas"].as_array().into_iter().flatten().filter(|one| one["phase"] == "ready");
        ready.count() == REPLICAS
    };
    serve.wait_service("app", "all replicas are ready", ready).await;
    let mut trips = drive(&serve, requests).await;
    let services = services(&lab, requests).await;
    let mut most = 0;
    for record in lab.events("app", "request") {
        most = most.max(record.in_flight.unwrap_or_default());
    }
    assert_eq!(most, 1, "a replica had more than its limit at once");

    // In the order of arrival, which is the order of sending: they leave one by one.
    trips.sort_by(|a, b| a.sent.total_cmp(&b.sent));
    let mut free = Servers::new(REPLICAS);
    let (mut waits, mut exact, mut over) = (Samples::default(), Samples::default(), Samples::default());
    for trip in &trips {
        let service = services[&trip.id];
        let (is, best) = (trip.answered - trip.sent - service, free.wait(trip.sent, service));
        waits.push(is);
        exact.push(best);
        over.push(is - best);
    }
    print(requests, &trips, &services, [&waits, &exact, &over]);
}

/// Sends them all, each at its time, and waits for the answers.
async fn drive(serve: &Serve, requests: usize) -> Vec<Trip> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut exponential = |mean: f64| -mean * (1.0 - random.f64()).ln();
    let (to, start) = (serve.traffic, clock::now());
    let since = move || start.elapsed().as_secs_f64() * 1e3;
    let (mut calls, mut due) = (JoinSet::new(), 0.0);
    for id in 0..requests {
        due += exponential(SERVICE_MS / (LOAD * REPLICAS as f64));
        // A timer of whole milliseconds; the app's is of whole ones too.
        let ms = exponential(SERVICE_MS).round();
        tokio::time::sleep_until((start + Duration::from_secs_f64(due / 1e3)).into()).await;
        calls.spawn(async move {
            let sent = since();
            let call = Call::get(&host("app"), &format!("/sleep?ms={ms}")).id(&id.to_string());
            let reply = call.send(to).await.unwrap();
            assert_eq!(reply.status, 200, "{reply}");
            Trip { id, sent, answered: since() }
        });
    }
    calls.join_all().await
}

/// How long each request was at its app, in ms.
async fn services(lab: &Lab, requests: usize) -> HashMap<usize, f64> {
    // The last one is written as the answer leaves.
    let records: Vec<Record> = wait_until(support::SOON, "all records are written", async || {
        let records = lab.records("app");
        let done = records.iter().filter(|record| record.is("done")).count();
        if done == requests { Ok(records) } else { Err(format!("{done} of {requests}")) }
    })
    .await;
    let id = |record: &Record| record.id.as_ref().unwrap().parse::<usize>().unwrap();
    let mut began = HashMap::new();
    let mut took = HashMap::new();
    for record in &records {
        if record.is("request") {
            began.insert(id(record), record.t_ns);
        } else if record.is("done") {
            took.insert(id(record), common::ms_between(began[&id(record)], record.t_ns));
        }
    }
    took
}

/// An exact queue in front of so many servers: when each is free, in ms.
struct Servers(BinaryHeap<Reverse<Moment>>);

#[derive(PartialEq)]
struct Moment(f64);

// === impl Servers ===

impl Servers {
    fn new(n: usize) -> Self {
        Self((0..n).map(|_| Reverse(Moment(0.0))).collect())
    }

    /// Kiefer and Wolfowitz: who comes next is served by the server that is free first. Returns what it waits.
    fn wait(&mut self, arrival: f64, service: f64) -> f64 {
        let Reverse(Moment(free)) = self.0.pop().expect("there is a server");
        let wait = (free - arrival).max(0.0);
        self.0.push(Reverse(Moment(arrival + wait + service)));
        wait
    }
}

// === impl Moment ===

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

fn print(requests: usize, trips: &[Trip], services: &HashMap<usize, f64>, all: [&Samples; 3]) {
    let [waits, exact, over] = all;
    let seconds = trips.last().unwrap().sent / 1e3;
    let busy: f64 = services.values().sum::<f64>() / 1e3;
    println!(
        "{requests} requests in {seconds:.0} s, seed {SEED}; services at the app {:.1} ms in the mean, load {:.2}; load of the machine at the end: {}\n",
        busy * 1e3 / requests as f64,
        busy / seconds / REPLICAS as f64,
        machine::load()
    );
    println!("| wait, ms | p50 | p90 | p99 | p99.9 | max |");
    println!("|---|---|---|---|---|---|");
    for (name, samples) in [("serve", waits), ("exact FIFO", exact), ("more, request by request", over)] {
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|q| samples.quantile(q));
        println!("| {name} | {p50:.2} | {p90:.2} | {p99:.2} | {p999:.2} | {:.2} |", samples.max());
    }
    let (is, best) = (waits.quantile(0.99), exact.quantile(0.99));
    let most = (best * SHARE).max(best + MORE_MS);
    println!(
        "\np99 of the wait: {:.3} × the exact one, {:+.2} ms (at most {SHARE} × or +{MORE_MS} ms, aim 1.02 ×)",
        is / best,
        is - best
    );
    assert!(is <= most, "the line is worse than its bound");
}
