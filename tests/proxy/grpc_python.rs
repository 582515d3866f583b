//! gRPC as Python's grpcio speaks it, client and server.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::h2_front::Hop;
use crate::support::Lab;

/// A Python that has grpcio: made once for all runs, under `target/`.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let venv = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venvs/grpcio"));
        let python = venv.join("bin/python");
        let has = || {
            let import = Command::new(&python).args(["-c", "import grpc"]).status();
            import.is_ok_and(|status| status.success())
        };
        if !has() {
            let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status();
            assert!(made.is_ok_and(|s| s.success()), "python3 -m venv failed: install python3 and python3-venv");
            let installed = Command::new(venv.join("bin/pip")).args(["install", "-q", "grpcio"]).status();
            assert!(installed.is_ok_and(|s| s.success()), "pip install grpcio failed: is a package index reachable?");
            assert!(has(), "grpcio was installed, but cannot be imported");
        }
        python.to_str().unwrap().to_owned()
    })
}

fn script(name: &str) -> String {
    format!("{}/tests/proxy/py/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn every_kind_of_call(hop: Hop, protocol: &'static str) {
    let python = python();
    let lab = Lab::new();
    let app = format!("{python} {} APP_PORT", script("grpc_app.py"));
    let front = hop.setup().protocol(protocol).command(lab, &app).await;
    let mut client = tokio::process::Command::new(python);
    let dir = front.lab.dir().to_str().unwrap();
    client.args([&script("grpc_client.py"), &front.addr.to_string(), &front.host(), dir]);
    let run = client.kill_on_drop(true).output();
    let output = tokio::time::timeout(crate::support::LONG * 2, run).await.expect("the client ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ok"), "{hop:?} {protocol}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    front.settled().await;
    // The same app, which speaks HTTP/2 alone, answers HTTP/1 clients in its way instead of breaking off.
    let reply = front.get("/test.Test/Unary").send(front.addr).await.unwrap();
    assert_ne!(reply.status, 502, "{hop:?} {protocol}: {reply}");
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
