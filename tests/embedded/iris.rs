//! The README's example, for real: a scikit-learn model behind `MLServer`, from nothing to three replicas and back.
//!
//! Needs Python 3.9 to 3.12 with `venv`, or `uv`. Its packages are fetched once and kept in `target/tmp/iris-state`.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilotlight::clock;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Call, LONG, Lab, Reply, Serve, Wire, holds, wait_until};

const HOST: &str = "sklearn-iris.default.localhost";
const SERVICE: &str = "sklearn-iris-predictor";
const PATH: &str = "/v2/models/sklearn-iris/infer";
const FLOWERS: &str = include_str!("../../deploy/local/iris-input.json");
/// As in `deploy/local/iris.yaml`.
const LIMIT: u64 = 4;
const MAX: usize = 3;
/// More than `MAX` replicas take at a time at 70 %, so that some always wait.
const CLIENTS: usize = 14;
/// For packages to be fetched and installed on a slow line.
const ENVIRONMENT: Duration = Duration::from_mins(9);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_model_server_goes_from_zero_to_three_and_back() {
    let lab = Lab::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local");
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("iris-state");
    let mut serve = lab.serve().files(&examples).state_dir(&kept).start().await;
    assert_eq!(serve.service(SERVICE).await["state"], "zero", "nothing runs unasked");

    // The first request waits for the environment, if it is to be made, and for the start.
    let (took, reply) = first(&serve).await;
    assert_eq!(
        reply.status, 200,
        "it needs Python 3.9 to 3.12 with venv (or uv), and a package index: {reply}"
    );
    assert_eq!(predictions(&reply), json!([0, 1, 2]));
    assert!(reply.header("server-timing").contains("start;dur="), "{reply}");
    say(&format!("first request: {took:.2?} ({})", reply.header("server-timing")));

    // More load, more replicas; none gets more than its limit, and nobody is refused.
    let load = Load::start(&serve);
    let grown = clock::now();
    serve
        .wait_service(SERVICE, "three replicas are ready", |state| within(state) && ready(state) == MAX)
        .await;
    say(&format!("1 → {MAX} replicas under {CLIENTS} clients: {:.2?}", grown.elapsed()));
    let answers = load.stop().await;
    assert!(answers > CLIENTS, "{answers} answers");

    let idle = clock::now();
    serve.wait_zero(&lab, SERVICE).await;
    say(&format!("idle → zero: {:.2?} (window 10 s)", idle.elapsed()));

    // Again, with everything there.
    let begun = clock::now();
    let reply = infer().send(serve.traffic).await.unwrap();
    let took = begun.elapsed();
    assert_eq!((reply.status, predictions(&reply)), (200, json!([0, 1, 2])), "{reply}");
    say(&format!("cold start: {took:.2?} ({})", reply.header("server-timing")));
    assert!(took < LONG, "{took:?}: about two seconds on a machine that has nothing else to do");

    // By its model's name alone.
    let shared = Call::post("localhost", PATH, FLOWERS).header("content-type", "application/json");
    let reply = shared.send(serve.traffic).await.unwrap();
    assert_eq!((reply.status, predictions(&reply)), (200, json!([0, 1, 2])), "{reply}");

    // The other example.
    let page = serve.get("hello", "/").await;
    assert!(page.status == 200 && page.text().contains("<html"), "{page}");
    assert_eq!(serve.terminate().await, 0);
    lab.until_empty().await;
}

fn infer() -> Call {
    Call::post(HOST, PATH, FLOWERS).header("content-type", "application/json")
}

fn predictions(reply: &Reply) -> Value {
    reply.json()["outputs"][0]["data"].clone()
}

fn ready(state: &Value) -> usize {
    let replicas = state["replicas"].as_array().unwrap();
    replicas.iter().filter(|replica| replica["phase"] == "ready").count()
}

/// What must hold whenever somebody looks.
fn within(state: &Value) -> bool {
    let replicas = state["replicas"].as_array().unwrap();
    assert!(replicas.len() <= MAX, "{state}");
    assert!(replicas.iter().all(|replica| replica["in_flight"].as_u64().unwrap() <= LIMIT), "{state}");
    true
}

/// Sends a request and tells what is being done for it meanwhile.
async fn first(serve: &Serve) -> (Duration, Reply) {
    let (begun, to) = (clock::now(), serve.traffic);
    let request = tokio::spawn(async move { infer().open(to).await?.rest().await });
    let mut told = 0;
    wait_until(ENVIRONMENT, "the first request is answered", async || {
        let log = serve.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("Python environment")).collect();
        lines[told..].iter().for_each(|line| say(message(line)));
        told = lines.len();
        holds(request.is_finished(), lines.last().unwrap_or(&"no word of an environment"))
    })
    .await;
    let reply = request.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    (begun.elapsed(), reply)
}

/// Of a JSON log line.
fn message(line: &str) -> &str {
    let rest = line.split_once("\"message\":\"").map_or(line, |(_, rest)| rest);
    rest.split_once("\",\"").map_or(rest, |(message, _)| message)
}

/// Past the test runner's capture: minutes without a word look like a hang, and the figures are worth seeing.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "iris: {line}");
}

/// Clients that ask one question after the other.
struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<usize>,
    begun: Instant,
}

// === impl Load ===

impl Load {
    fn start(serve: &Serve) -> Self {
        let (stop, mut clients) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for _ in 0..CLIENTS {
            let (stop, to) = (stop.clone(), serve.traffic);
            clients.spawn(async move {
                let mut wire = Wire::open(to, false).await.unwrap();
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    let reply = wire.send(infer()).await.unwrap();
                    assert_eq!(reply.status, 200, "{reply}");
                    answers += 1;
                }
                answers
            });
        }
        Self { stop, clients, begun: clock::now() }
    }

    /// How many answers there were, all of them 200.
    async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = 0;
        while let Some(client) = self.clients.join_next().await {
            answers += client.unwrap();
        }
        let rate = answers as f64 / self.begun.elapsed().as_secs_f64();
        say(&format!("{answers} predictions, {rate:.0}/s while replicas were starting"));
        answers
    }
}
