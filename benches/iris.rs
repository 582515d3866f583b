//! The example of the README, measured: `cargo bench --bench iris`.
//!
//! Cold start of the scikit-learn model behind MLServer, request → answer, with our own share of it; then requests/s
//! and latency against the replica itself. Needs Python and, the first time, the network: the environment (120 MB) is
//! kept below `target/tmp`.
//!
//! Our share: until the process is made (`Server-Timing` says it), and from the model being ready to our knowing it.
//! When the model is ready, a watcher finds out that asks every 0.5 ms. It takes processor time from the start that
//! it watches, so every other round goes without, and only those count for the whole.
#![allow(clippy::unwrap_used, reason = "a bench panics with the place")]

mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use common::samples::Samples;
use common::wrk::Wrk;
use common::{machine, ms_between, rounds, wall_ns};
use support::{Call, LONG, Lab, Program, Reply, cpu_time, wait_until};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local");
const HOST: &str = "sklearn-iris.default.localhost";
const SERVICE: &str = "/api/services/default/sklearn-iris-predictor";
const INFER: &str = "/v2/models/sklearn-iris/infer";
const READY: &str = "/v2/models/sklearn-iris/ready";
/// The example's `containerConcurrency`.
const CONNECTIONS: [u32; 2] = [1, 4];
const SECONDS: u32 = 4;
/// Downloads.
const ENVIRONMENT: Duration = Duration::from_mins(10);

/// `serve` with the example.
struct Iris {
    program: Program,
    traffic: SocketAddr,
    admin: SocketAddr,
    input: String,
}

/// Milliseconds.
#[derive(Default)]
struct Figures {
    answer: Samples,
    /// Request → before the process is made.
    decide: Samples,
    /// Before the process is made → known to be ready.
    start: Samples,
    /// The model is ready → known to be.
    notice: Samples,
}

fn main() {
    machine::print();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lab = Lab::new();
        let iris = Iris::start(&lab).await;
        iris.cold_starts().await;
        iris.load(&lab).await;
    });
    println!("load at the end: {}", machine::load());
}

// === impl Iris ===

impl Iris {
    async fn start(lab: &Lab) -> Self {
        let text = std::fs::read_to_string(format!("{EXAMPLE}/iris.yaml")).unwrap();
        // A second replica would come under load, and the comparison is with one.
        let text = text.replace("maxReplicas: 3", "maxReplicas: 1");
        lab.write("iris.yaml", &text.replace("storageUri: ./iris", &format!("storageUri: {EXAMPLE}/iris")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilotlight"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        command.args(["--service-ports", "off"]).arg("-f").arg(lab.path("services"));
        command.args(["--state-dir", concat!(env!("CARGO_TARGET_TMPDIR"), "/iris")]);
        let mut program = Program::spawn(command, lab.dir());
        let traffic = program.listening("traffic").await;
        let admin = program.listening("admin").await;
        let input = std::fs::read_to_string(format!("{EXAMPLE}/iris-input.json")).unwrap();
        let iris = Self { program, traffic, admin, input };
        let made = async || match iris.infer().await {
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => Err(reply.to_string()),
            Err(error) => Err(error),
        };
        wait_until(ENVIRONMENT, "the environment is made, and the model answers", made).await;
        iris
    }

    async fn infer(&self) -> Result<Reply, String> {
        let call = Call::post(HOST, INFER, self.input.clone()).header("content-type", "application/json");
        call.send(self.traffic).await
    }

    async fn cold_starts(&self) {
        let mut figures = Figures::default();
        for round in 0..2 * rounds(7) {
            self.to_zero().await;
            let admin = self.admin;
            let watched = (round % 2 == 1).then(|| {
                let (sender, receiver) = mpsc::channel();
                std::thread::spawn(move || sender.send(watch(admin)));
                receiver
            });
            let sent = wall_ns();
            let reply = self.infer().await.unwrap();
            let answered = wall_ns();
            assert_eq!(reply.status, 200, "{reply}");
            let [decided, ready] = ["start", "ready"].map(|name| timing(&reply, name));
            if let Some(watched) = watched {
                let ready_at = watched.recv().unwrap();
                figures.notice.push(decided + ready - ms_between(sent, ready_at));
            } else {
                figures.answer.push(ms_between(sent, answered));
                figures.decide.push(decided);
                figures.start.push(ready);
            }
        }
        let Figures { answer, decide, start, notice } = &figures;
        println!("cold start, ms, medians of {} rounds\n", rounds(7));
        println!(
            "| request → answer | min–max | request → spawn | spawn → known ready | of it ready → known | max |"
        );
        println!("|---|---|---|---|---|---|");
        println!(
            "| **{:.0}** | {:.0}–{:.0} | {:.1} | {:.0} | {:.1} | {:.1} |\n",
            answer.median(),
            answer.min(),
            answer.max(),
            decide.median(),
            start.median(),
            notice.median(),
            notice.max(),
        );
    }

    async fn to_zero(&self) {
        let host = self.admin.to_string();
        wait_until(LONG, "the model sleeps", async || {
            let reply = Call::post(&host, &format!("{SERVICE}/sleep"), "").send(self.admin).await?;
            if reply.status == 202 { Ok(()) } else { Err(reply.to_string()) }
        })
        .await;
        wait_until(LONG, "the model is at zero", async || {
            let reply = Call::get(&host, SERVICE).send(self.admin).await?;
            if reply.json()["state"] == "zero" { Ok(()) } else { Err(reply.to_string()) }
        })
        .await;
    }

    async fn load(&self, lab: &Lab) {
        let pid = self.program.pid();
        assert_eq!(self.infer().await.unwrap().status, 200);
        let replica = replica(self.admin).expect("it has just answered");
        let wrk = Wrk::new(lab.dir(), HOST, INFER, Some(&self.input));
        println!("medians of {} interleaved rounds of {SECONDS} s\n", rounds(5));
        println!(
            "| connections | requests/s direct | through pilotlight | p50 direct | through | p50 added | CPU/request of pilotlight |"
        );
        println!("|---|---|---|---|---|---|---|");
        for connections in CONNECTIONS {
            let mut all: [Samples; 6] = Default::default();
            for _ in 0..rounds(5) {
                let direct = wrk.run(replica, connections, SECONDS);
                let before = cpu_time(pid);
                let through = wrk.run(self.traffic, connections, SECONDS);
                let cpu = cpu_time(pid).saturating_sub(before).as_secs_f64() * 1e6 / through.requests as f64;
                assert_eq!((direct.failed, through.failed), (0, 0), "requests failed");
                let added = through.p50 - direct.p50;
                let figures = [direct.per_second, through.per_second, direct.p50, through.p50, added, cpu];
                all.iter_mut().zip(figures).for_each(|(samples, figure)| samples.push(figure));
            }
            let [direct, through, p50, p50_through, added, cpu] = all.map(|samples| samples.median());
            println!(
                "| {connections} | {direct:.0} | {through:.0} | {p50:.0} µs | {p50_through:.0} µs | {added:.0} µs | {cpu:.0} µs |",
            );
        }
        println!();
    }
}

/// When the model answered that it is ready, in nanoseconds of the wall clock.
fn watch(admin: SocketAddr) -> u64 {
    let pause = || std::thread::sleep(Duration::from_micros(500));
    let replica = loop {
        match replica(admin) {
            Some(replica) => break replica,
            None => pause(),
        }
    };
    loop {
        match get(replica, READY) {
            Some(answer) if answer.starts_with("HTTP/1.1 200") => return wall_ns(),
            _ => pause(),
        }
    }
}

/// Where the one replica listens, once there is one.
fn replica(admin: SocketAddr) -> Option<SocketAddr> {
    let answer = get(admin, SERVICE)?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let service: serde_json::Value = serde_json::from_str(body).ok()?;
    let port = u16::try_from(service["replicas"][0]["port"].as_u64()?).ok()?;
    (port > 0).then(|| SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A request of nothing but system calls.
fn get(to: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Milliseconds out of `Server-Timing`.
fn timing(reply: &Reply, name: &str) -> f64 {
    let header = reply.header("server-timing");
    let mut metrics = header.split(", ").filter_map(|metric| metric.split_once(";dur="));
    let found = metrics.find(|(metric, _)| *metric == name);
    found.unwrap_or_else(|| panic!("no {name}: {header:?}")).1.parse().unwrap()
}
