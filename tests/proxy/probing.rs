//! Readiness follows the app, both ways.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Call, Gate, LONG, Lab, QueueProxy, Reply, SOON, holds, testapp, wait_until};

async fn readyz(proxy: &QueueProxy) -> u16 {
    Call::get("localhost", "/readyz").send(proxy.admin).await.unwrap().status
}

async fn until_readyz(proxy: &QueueProxy, status: u16) {
    wait_until(SOON, format!("/readyz is {status}"), async || {
        let seen = readyz(proxy).await;
        holds(seen == status, seen)
    })
    .await;
}

fn close(gate: &Gate) {
    std::fs::remove_file(&**gate).unwrap();
}

/// A request that waits although it would be answered at once if the app were in the set.
async fn waits(to: SocketAddr, id: &'static str) -> tokio::task::JoinHandle<Result<Reply, String>> {
    let call = tokio::spawn(Call::get("app.default.localhost", "/").id(id).send(to));
    tokio::task::yield_now().await;
    call
}

#[tokio::test]
async fn readyz_follows_http_grpc_and_exec_and_harms_nothing_in_flight() {
    for kind in ["http:/ready", "grpc", "exec"] {
        let lab = Lab::new();
        let (ready, end) = (lab.gate("ready"), lab.gate("end"));
        let record = lab.text_path("app.jsonl");
        let (_app, addr) = testapp(lab.dir(), &["--record", &record, "--ready-gate", &ready]).await;
        let probe = if kind == "exec" { format!("exec:test -e {ready}") } else { kind.to_owned() };
        let args =
            ["--concurrency", "2", "--queue", "5", "--readiness", &probe, "--readiness-period", "50ms"];
        let proxy = QueueProxy::start(&lab, addr, &args).await;
        assert_eq!(readyz(&proxy).await, 503, "{kind}");
        ready.open();
        let proxy = proxy.ready().await;
        let held = tokio::spawn(Call::get("x", &format!("/hold?file={end}")).id("held").send(proxy.traffic));
        wait_until(SOON, "one is in flight", async || holds(lab.reached("app", "held"), "no")).await;
        close(&ready);
        until_readyz(&proxy, 503).await;
        let waiting = waits(proxy.traffic, "waits").await;
        wait_until(SOON, "it waits", async || {
            let queued = proxy.metric("pilotlight_service_queued").await;
            holds(queued == 1.0, queued)
        })
        .await;
        assert!(!lab.reached("app", "waits"), "{kind}: the app said that it is not ready");
        end.open();
        assert_eq!(held.await.unwrap().unwrap().status, 200, "{kind}: what was in flight goes on");
        ready.open();
        until_readyz(&proxy, 200).await;
        assert_eq!(waiting.await.unwrap().unwrap().status, 200, "{kind}");
        assert_eq!(proxy.metric("pilotlight_ejections_total{reason=\"not_ready\"}").await, 1.0);
    }
}

#[tokio::test]
async fn readyz_follows_a_tcp_app_that_goes_and_comes() {
    let lab = Lab::new();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let proxy = QueueProxy::start(&lab, addr, &["--readiness-period", "50ms"]).await;
    for _ in 0..2 {
        assert_eq!(readyz(&proxy).await, 503);
        let (mut app, _) = testapp(lab.dir(), &["--port", &port.to_string()]).await;
        until_readyz(&proxy, 200).await;
        assert_eq!(Call::get("x", "/").send(proxy.traffic).await.unwrap().status, 200);
        app.signal(Signal::KILL);
        app.wait(SOON).await;
        // No request needs to fail for it.
        until_readyz(&proxy, 503).await;
    }
}

#[tokio::test]
async fn a_busy_app_that_cannot_answer_its_probe_stays() {
    let lab = Lab::new();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    // One thread for everything: an answer at a time.
    let (finish, mut finished) = tokio::sync::mpsc::channel::<()>(1);
    tokio::spawn(async move {
        loop {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).await.unwrap_or(0);
            if head[..n].starts_with(b"GET /slow") {
                finished.recv().await;
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .await;
        }
    });
    let args = ["--concurrency", "1", "--readiness", "http:/health", "--readiness-period", "10ms"];
    let proxy = QueueProxy::start(&lab, addr, &args).await.ready().await;
    let slow = tokio::spawn(Call::get("x", "/slow").send(proxy.traffic));
    // Longer than three probes that get no answer within their second each.
    let begun = pilotlight::clock::now();
    while begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(readyz(&proxy).await, 200, "it works on a request and says nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    finish.send(()).await.unwrap();
    assert_eq!(slow.await.unwrap().unwrap().text(), "ok");
}

#[tokio::test]
async fn a_replica_of_serve_that_says_not_ready_leaves_the_set_until_it_is() {
    let lab = Lab::new();
    let (ready, end) = (lab.gate("ready"), lab.gate("end"));
    ready.open();
    let app = lab
        .app("app")
        .limit(2)
        .max(1)
        .set("readiness", json!({ "httpGet": { "path": "/ready" } }))
        .args(["--ready-gate", &ready]);
    let serve = lab.services(&[&app]).serve().start().await;
    assert_eq!(serve.get("app", "/").await.status, 200);
    let held = serve.send(Call::get("app.default.localhost", &format!("/hold?file={end}")).id("held"));
    wait_until(SOON, "one is in flight", async || holds(lab.reached("app", "held"), "no")).await;
    close(&ready);
    wait_until(LONG, "it left the set", async || {
        let state = serve.service("app").await;
        holds(state["replicas"][0]["phase"] == "unready", state)
    })
    .await;
    let waiting = serve.send(Call::get("app.default.localhost", "/").id("waits"));
    serve.wait_queued("app", 1).await;
    end.open();
    assert_eq!(held.await.unwrap().unwrap().status, 200, "what was in flight goes on");
    assert!(!lab.reached("app", "waits"));
    ready.open();
    assert_eq!(waiting.await.unwrap().unwrap().status, 200);
    assert!(serve.log().contains("left the set: GET /ready answered 503"), "an event says why");
    assert_eq!(lab.events("app", "boot").len(), 1, "nobody was restarted for it");
}
