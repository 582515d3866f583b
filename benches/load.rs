//! What pilotlight in the path costs: `cargo bench --bench load`.
//!
//! The same replica (testapp, 66 bytes of body, HTTP/1.1, kept connections) asked directly, through `serve`, and
//! through `queue-proxy`, by wrk, in interleaved rounds. Generator and app take their share of the processors, so
//! requests/s say how the three compare here and nothing else; processor time per request is the figure to carry to
//! other machines.
#![allow(clippy::unwrap_used, reason = "a bench panics with the place")]

mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;

use common::cpu::Threads;
use common::samples::Samples;
use common::wrk::Wrk;
use common::{machine, rounds};
use support::{Lab, QueueProxy, cpu_time, host, rss_bytes};

const CONNECTIONS: [u32; 2] = [1, 32];
const SECONDS: u32 = 3;
/// Slots are counted, and nobody waits for one.
const LIMIT: u32 = 32;

/// One way to the replica.
struct Way {
    name: &'static str,
    to: SocketAddr,
    /// The process in between.
    proxy: Option<u32>,
}

#[derive(Default)]
struct Figures {
    per_second: Samples,
    /// Of the requests/s of the direct way in the same round.
    share: Samples,
    p50: Samples,
    p99: Samples,
    /// Over the direct way in the same round.
    added: Samples,
    /// µs of the proxy per request.
    cpu: Samples,
    switches: Samples,
}

fn main() {
    common::with_testapp(run());
}

async fn run() {
    let lab = Lab::new();
    // The app without its records: they cost more than an answer.
    let app = support::testapp_path().to_str().unwrap();
    let yaml = lab.app("app").command(&[app, "--port", "$(PORT)"]).limit(LIMIT).max(1).set("scaling.min", 1);
    lab.services(&[&yaml]);
    let serve = lab.serve().start().await;
    let state = serve.wait_service("app", "ready", |s| s["state"] == "ready").await;
    let port = u16::try_from(state["replicas"][0]["port"].as_u64().unwrap()).unwrap();
    let replica = SocketAddr::from(([127, 0, 0, 1], port));
    let limit = LIMIT.to_string();
    let sidecar = QueueProxy::start(&lab, replica, &["--concurrency", &limit]).await.ready().await;
    let ways = [
        Way { name: "direct", to: replica, proxy: None },
        Way { name: "serve", to: serve.traffic, proxy: Some(serve.pid()) },
        Way { name: "queue-proxy", to: sidecar.traffic, proxy: Some(sidecar.pid()) },
    ];
    let idle = ways.each_ref().map(|way| way.proxy.map(mib));
    let wrk = Wrk::new(lab.dir(), &host("app"), "/bytes?n=66", None);
    println!("medians of {} interleaved rounds of {SECONDS} s\n", rounds(7));
    println!(
        "| connections | way | requests/s | of direct | p50 | p99 | p50 added | CPU/request of the proxy | min–max | context switches/request |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for connections in CONNECTIONS {
        let mut figures: [Figures; 3] = Default::default();
        for way in &ways {
            wrk.run(way.to, connections, 1);
        }
        for _ in 0..rounds(7) {
            let mut direct = None;
            for (way, figures) in ways.iter().zip(&mut figures) {
                let run = figures.round(way, &wrk, connections, direct);
                direct = direct.or(Some(run));
            }
        }
        for (way, figures) in ways.iter().zip(&figures) {
            figures.print(connections, way);
        }
    }
    println!();
    for (way, idle) in ways.iter().zip(idle) {
        if let (Some(pid), Some(idle)) = (way.proxy, idle) {
            println!("{}: {idle:.1} MiB idle → {:.1} MiB after {LIMIT} connections", way.name, mib(pid));
        }
    }
    println!("load at the end: {}", machine::load());
}

fn mib(pid: u32) -> f64 {
    rss_bytes(pid) as f64 / f64::from(1 << 20)
}

// === impl Figures ===

impl Figures {
    /// Returns requests/s and the median latency, to which other ways of the same round are compared.
    fn round(&mut self, way: &Way, wrk: &Wrk, connections: u32, direct: Option<(f64, f64)>) -> (f64, f64) {
        let before = way.proxy.map(|pid| (cpu_time(pid), Threads::look(pid)));
        let run = wrk.run(way.to, connections, SECONDS);
        assert_eq!(run.failed, 0, "{}: requests failed", way.name);
        if let (Some(pid), Some((ran, threads))) = (way.proxy, before) {
            self.cpu.push(cpu_time(pid).saturating_sub(ran).as_secs_f64() * 1e6 / run.requests as f64);
            self.switches.push(Threads::look(pid).since(&threads).switches as f64 / run.requests as f64);
        }
        let (rate, p50) = direct.unwrap_or((run.per_second, run.p50));
        self.per_second.push(run.per_second);
        self.share.push(run.per_second / rate);
        self.p50.push(run.p50);
        self.p99.push(run.p99);
        self.added.push(run.p50 - p50);
        (rate, p50)
    }

    fn print(&self, connections: u32, way: &Way) {
        let (rate, share) = (self.per_second.median(), self.share.median() * 100.0);
        let [p50, p99, added] = [&self.p50, &self.p99, &self.added].map(Samples::median);
        print!("| {connections} | {} | {rate:.0} | {share:.0} % | {p50:.0} µs | {p99:.0} µs |", way.name);
        if way.proxy.is_some() {
            let (cpu, switches) = (self.cpu.median(), self.switches.median());
            let (least, most) = (self.cpu.min(), self.cpu.max());
            println!(" {added:.0} µs | **{cpu:.1} µs** | {least:.1}–{most:.1} | {switches:.2} |");
        } else {
            println!(" | | | |");
        }
    }
}
