//! Many services that nobody uses: `cargo bench --bench many`.
//!
//! Time until `/readyz` is 200, resident memory, and processor time over 10 s in which nothing happens. Each service
//! has a port of its own, as by default. The bounds for 300 are 1 s, 60 MiB, and "about none".
#![allow(clippy::unwrap_used, reason = "a bench panics with the place")]

mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::time::Duration;

use common::cpu::{Done, Threads};
use common::samples::Samples;
use common::{machine, rounds};
use pilotlight::clock;
use support::{Call, Lab, Program, Yaml, rss_bytes};

const COUNTS: [usize; 2] = [300, 3000];
const IDLE: Duration = Duration::from_secs(10);
/// Below the kernel's own range of outgoing ports; 300 fit into the default.
const SERVICE_PORTS: &str = "20000-23999";

fn main() {
    common::build_testapp();
    machine::print();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("medians of {} runs\n", rounds(5));
    println!(
        "| services | start → /readyz | max | resident | CPU in {IDLE:?} idle | context switches in that time |"
    );
    println!("|---|---|---|---|---|---|");
    for count in COUNTS {
        let mut all: [Samples; 4] = Default::default();
        for _ in 0..rounds(5) {
            let figures = runtime.block_on(once(count));
            all.iter_mut().zip(figures).for_each(|(samples, figure)| samples.push(figure));
        }
        let [ready, rss, idle, switches] = &all;
        println!(
            "| {count} | {:.0} ms | {:.0} ms | {:.1} MiB | {:.2} ms | {:.0} |",
            ready.median(),
            ready.max(),
            rss.median(),
            idle.median(),
            switches.median(),
        );
    }
    println!("\nload at the end: {}", machine::load());
}

/// Milliseconds to ready, MiB, milliseconds of processor time, context switches.
async fn once(count: usize) -> [f64; 4] {
    let lab = Lab::new();
    let services: Vec<Yaml> = (0..count).map(|i| lab.app(&format!("service-{i}"))).collect();
    lab.services(&services.iter().collect::<Vec<_>>());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotlight"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    command.args(["--service-ports", SERVICE_PORTS]);
    command.arg("-f").arg(lab.path("services")).arg("--state-dir").arg(lab.path("state"));
    let started = clock::now();
    let mut serve = Program::spawn(command, lab.dir());
    let admin = serve.listening("admin").await;
    while Call::get("localhost", "/readyz").send(admin).await.unwrap().status != 200 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ready = started.elapsed();
    // It has just loaded: what follows from that is not idleness.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = Threads::look(serve.pid());
    tokio::time::sleep(IDLE).await;
    let Done { ran, switches } = Threads::look(serve.pid()).since(&before);
    let rss = rss_bytes(serve.pid());
    serve.terminate().await;
    [ready.as_secs_f64() * 1e3, rss as f64 / f64::from(1 << 20), ran.as_secs_f64() * 1e3, switches as f64]
}
