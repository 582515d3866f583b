//! gRPC as Python's grpcio speaks it, client and server.

use std::path::PathBuf;
use std::process::Command;

use parking_lot::Mutex;

use crate::h2_front::Hop;
use crate::support::{Call, LONG, Lab, host};

/// A Python with these packages: made once for all runs, under `target/`.
fn python(name: &str, requirements: &[&str], import: &str) -> String {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock();
    let venv = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venvs")).join(name);
    let python = venv.join("bin/python");
    // What it was made from says whether it is complete.
    let (wanted, made) = (requirements.join("\n"), venv.join("requirements"));
    if std::fs::read_to_string(&made).is_ok_and(|made| made == wanted) {
        return python.to_str().unwrap().to_owned();
    }
    let new = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).status();
    assert!(new.is_ok_and(|s| s.success()), "python3 -m venv failed: install python3 and python3-venv");
    let install = Command::new(venv.join("bin/pip")).args(["install", "-q"]).args(requirements).status();
    assert!(install.is_ok_and(|s| s.success()), "pip install failed: is a package index reachable? {wanted}");
    let works = Command::new(&python).args(["-c", &format!("import {import}")]).status();
    assert!(works.is_ok_and(|s| s.success()), "{import} was installed, but cannot be imported");
    std::fs::write(made, wanted).unwrap();
    python.to_str().unwrap().to_owned()
}

/// The example's own list, so that there is one.
fn mlserver() -> String {
    let example = include_str!("../../deploy/local/iris.yaml");
    let (_, list) = example.split_once("python-requirements: >-").expect("the example pins its packages");
    let (list, _) = list.split_once("\nspec:").expect("the spec follows");
    let requirements: Vec<&str> = list.split_whitespace().collect();
    python("mlserver", &requirements, "mlserver")
}

/// Runs a script until it prints `ok`.
async fn until_ok(python: &str, args: &[&str]) {
    let run = tokio::process::Command::new(python).args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(LONG * 2, run).await.expect("the client ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ok"), "{args:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn script(name: &str) -> String {
    format!("{}/tests/proxy/py/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn every_kind_of_call(hop: Hop, protocol: &'static str) {
    let python = python("grpcio", &["grpcio==1.80.1"], "grpc");
    let lab = Lab::new();
    let app = format!("{python} {} APP_PORT", script("grpc_app.py"));
    let front = hop.setup().protocol(protocol).command(lab, &app).await;
    let (addr, dir) = (front.addr.to_string(), front.lab.dir().to_str().unwrap().to_owned());
    until_ok(&python, &[&script("grpc_client.py"), &addr, &front.host(), &dir]).await;
    front.settled().await;
    // An HTTP/1 request reaches the same app over HTTP/2. What is not gRPC it resets or answers, as its version likes.
    let reply = front.get("/test.Test/Unary").send(front.addr).await.unwrap();
    let answered = reply.status != 502 || reply.error(502, "app").contains("stream error received");
    assert!(answered, "{hop:?} {protocol}: {reply}");
}

#[tokio::test]
async fn every_kind_of_call_through_a_queue_proxy() {
    every_kind_of_call(Hop::QueueProxy, "auto").await;
}

#[tokio::test]
async fn every_kind_of_call_through_serve_from_zero() {
    every_kind_of_call(Hop::Serve, "auto").await;
}

#[tokio::test]
async fn every_kind_of_call_through_both() {
    every_kind_of_call(Hop::Both, "auto").await;
}

#[tokio::test]
async fn every_kind_of_call_when_told_h2c() {
    every_kind_of_call(Hop::QueueProxy, "h2c").await;
}

#[tokio::test]
async fn mlserver_answers_grpc_and_rest_from_zero() {
    let python = mlserver();
    let lab = Lab::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local/iris");
    let program = python.replace("/bin/python", "/bin/mlserver");
    let mut iris = lab
        .app("iris")
        .command(&[&program, "start", model])
        .set("grpcPort", 8081)
        .set("readiness.httpGet.path", "/v2/models/iris/ready");
    let env = [
        ("HOST", "127.0.0.1"),
        ("HTTP_PORT", "$(PORT)"),
        ("GRPC_PORT", "$(GRPC_PORT)"),
        ("METRICS_ENDPOINT", ""),
        ("MODEL_NAME", "iris"),
        ("MODEL_URI", model),
        ("MODEL_IMPLEMENTATION", "mlserver_sklearn.SKLearnModel"),
        ("PARALLEL_WORKERS", "0"),
    ];
    for (name, value) in env {
        iris = iris.set(&format!("process.env.MLSERVER_{name}"), value);
    }
    let serve = lab.services(&[&iris]).serve().start().await;
    let addr = serve.traffic.to_string();
    until_ok(&python, &[&script("grpc_mlserver.py"), &addr, &host("iris")]).await;
    let input = include_str!("../../deploy/local/iris-input.json");
    let infer = Call::post(&host("iris"), "/v2/models/iris/infer", input);
    let reply = infer.header("content-type", "application/json").send(serve.traffic).await.unwrap();
    assert_eq!(reply.json()["outputs"][0]["data"], serde_json::json!([0, 1, 2]), "{reply}");
}
