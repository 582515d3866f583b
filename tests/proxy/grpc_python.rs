//! gRPC as Python's grpcio speaks it, client and server.

use std::path::Path;

use crate::support::{LONG, Setup, Way, python};

const GRPCIO: &[&str] = &["grpcio==1.80.1"];

/// The example's own list, so that there is one.
fn mlserver() -> Vec<&'static str> {
    let example = include_str!("../../deploy/local/iris.yaml");
    let (_, list) = example.split_once("python-requirements: >-").expect("the example pins its packages");
    let (list, _) = list.split_once("\nspec:").expect("the spec follows");
    list.split_whitespace().collect()
}

/// Runs a script until it prints `ok`.
async fn until_ok(python: &Path, args: &[&str]) {
    let run = tokio::process::Command::new(python).args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(LONG * 2, run).await.expect("the client ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ok"), "{args:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn script(name: &str) -> String {
    format!("{}/tests/proxy/py/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn every_kind_of_call(setup: Setup, protocol: &'static str) {
    let python = python(GRPCIO).await;
    let app = [python.to_str().unwrap(), &script("grpc_app.py"), "$(PORT)"];
    let way = Way::through(setup).protocol(protocol).app(&app).cold().start().await;
    let (addr, dir) = (way.traffic.to_string(), way.lab.dir().to_str().unwrap().to_owned());
    until_ok(&python, &[&script("grpc_client.py"), &addr, &way.host(), &dir]).await;
    way.idle().await;
    // An HTTP/1 request reaches the same app over HTTP/2. What is not gRPC it resets or answers, as its version likes.
    let reply = way.get("/test.Test/Unary").send(way.traffic).await.unwrap();
    let answered = reply.status != 502 || reply.error(502, "app").contains("stream error received");
    assert!(answered, "{way} {protocol}: {reply}");
}

#[tokio::test]
async fn every_kind_of_call_through_a_queue_proxy() {
    every_kind_of_call(Setup::QueueProxy, "auto").await;
}

#[tokio::test]
async fn every_kind_of_call_through_serve_from_zero() {
    every_kind_of_call(Setup::Activator, "auto").await;
}

#[tokio::test]
async fn every_kind_of_call_through_both() {
    every_kind_of_call(Setup::Both, "auto").await;
}

#[tokio::test]
async fn every_kind_of_call_when_told_h2c() {
    every_kind_of_call(Setup::QueueProxy, "h2c").await;
}

on_each_setup!(mlserver_answers_grpc_and_rest);

/// Its gRPC is on a port of its own.
async fn mlserver_answers_grpc_and_rest(setup: Setup) {
    let python = python(&mlserver()).await;
    let mlserver = python.with_file_name("mlserver");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local/iris");
    let uri = format!("MLSERVER_MODEL_URI={model}");
    let app = [
        "env",
        "MLSERVER_HOST=127.0.0.1",
        "MLSERVER_HTTP_PORT=$(PORT)",
        "MLSERVER_GRPC_PORT=$(GRPC_PORT)",
        "MLSERVER_METRICS_ENDPOINT=",
        "MLSERVER_MODEL_NAME=iris",
        &uri,
        "MLSERVER_MODEL_IMPLEMENTATION=mlserver_sklearn.SKLearnModel",
        "MLSERVER_PARALLEL_WORKERS=0",
        mlserver.to_str().unwrap(),
        "start",
        model,
    ];
    let way = Way::through(setup).app(&app).own_grpc_port().ready_at("/v2/models/iris/ready");
    let way = way.cold().start().await;
    until_ok(&python, &[&script("grpc_mlserver.py"), &way.traffic.to_string(), &way.host()]).await;
    let input = include_str!("../../deploy/local/iris-input.json");
    let infer = way.post("/v2/models/iris/infer", input).header("content-type", "application/json");
    let reply = infer.send(way.traffic).await.unwrap();
    assert_eq!(reply.json()["outputs"][0]["data"], serde_json::json!([0, 1, 2]), "{way}: {reply}");
}
