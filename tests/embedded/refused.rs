//! Requests that pilotlight answers itself.

use crate::support::{Call, Lab, Reply, SOON, Serve, host, wait_until};

/// Empty message in gRPC framing.
const MESSAGE: &[u8] = b"\0\0\0\0\0";

fn grpc(service: &str) -> Call {
    Call::post(&host(service), "/pkg.Service/Method", MESSAGE)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .h2()
}

/// Asserts a trailers-only answer and returns its message.
fn grpc_status(reply: &Reply, status: &str) -> String {
    assert_eq!(reply.status, 200, "{reply}");
    assert!(reply.header("content-type").starts_with("application/grpc"), "{reply}");
    assert_eq!(reply.header("grpc-status"), status, "{reply}");
    assert!(reply.body.is_empty() && reply.trailers.is_empty(), "trailers-only: {reply}");
    reply.header("grpc-message").to_owned()
}

fn has_retry_after(reply: &Reply) {
    let seconds = reply.header("retry-after").parse::<u64>();
    assert!(seconds.is_ok_and(|s| s >= 1), "Retry-After in whole seconds: {reply}");
}

#[tokio::test]
async fn buffer_full_is_503_with_retry_after_at_once() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let iris = lab.app("iris").set("buffer.requests", 2).args(["--start-gate", &gate]);
    let serve = lab.services(&[&iris]).serve().start().await;
    let waiting: Vec<_> = (0..2).map(|_| serve.send(Call::get(&host("iris"), "/"))).collect();
    serve.wait_queued("iris", 2).await;
    // The gate is closed: only a refusal can come.
    let refused = serve.get("iris", "/").await;
    refused.error(503, "iris");
    has_retry_after(&refused);
    assert!(refused.json()["error"]["retry_after"].as_f64().is_some_and(|s| s > 0.0), "{refused}");
    grpc_status(&grpc("iris").send(serve.traffic).await.unwrap(), "14");
    gate.open();
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap().status, 200);
    }
    assert_eq!(serve.get("iris", "/").await.status, 200);
}

#[tokio::test]
async fn activation_deadline_is_504_that_says_so() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let iris = lab.app("iris").set("timeouts.activation", "1s").args(["--start-gate", &gate]);
    let serve = lab.services(&[&iris]).serve().start().await;
    let (http, rpc) = (serve.send(Call::get(&host("iris"), "/")), serve.send(grpc("iris")));
    let http = http.await.unwrap().unwrap();
    let message = http.error(504, "iris");
    assert!(message.contains("activation"), "{message}");
    let message = grpc_status(&rpc.await.unwrap().unwrap(), "4");
    assert!(message.contains("activation"), "{message}");
    // Not the end of the service.
    gate.open();
    wait_until(SOON, "it answers once the app can start", async || {
        let reply = serve.get("iris", "/").await;
        if reply.status == 200 { Ok(()) } else { Err(reply) }
    })
    .await;
    assert_eq!(
        lab.events("iris", "boot").len(),
        1,
        "the start that they had waited for went on without them"
    );
}

#[tokio::test]
async fn response_start_deadline_is_504_that_says_so() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris").set("timeouts.responseStart", "1s")]).serve().start().await;
    let message = serve.get("iris", "/hang").await.error(504, "iris");
    assert!(message.contains("response start"), "{message}");
    // The slot is free again and the app was told.
    serve.wait_service("iris", "nothing in flight", |s| s["in_flight"] == 0).await;
    wait_until(SOON, "the app is rid of it", async || lab.events("iris", "done").pop().ok_or("not done"))
        .await;
}

#[tokio::test]
async fn unknown_host_is_404() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    let message = serve.get("nobody.example.com", "/").await.error(404, "");
    assert!(message.contains("nobody.example.com"), "{message}");
    serve.get("nobody", "/").await.error(404, "");
    let h2 = Call::get(&host("nobody"), "/").h2().send(serve.traffic).await.unwrap();
    h2.error(404, "");
    grpc_status(&grpc("nobody").send(serve.traffic).await.unwrap(), "12");
    assert_eq!(lab.replicas(), []);
}

#[tokio::test]
async fn no_wake_is_503_without_a_start() {
    let lab = Lab::new();
    let no_wake = serde_json::json!([{ "path": "/healthz" }, { "userAgent": "kube-probe/*" }]);
    let serve = lab.services(&[&lab.app("iris").set("noWake", no_wake)]).serve().start().await;
    let probe = || Call::get(&host("iris"), "/any").header("user-agent", "kube-probe/1.33");
    serve.get("iris", "/healthz").await.error(503, "iris");
    probe().send(serve.traffic).await.unwrap().error(503, "iris");
    let state = serve.service("iris").await;
    assert!(state["state"] == "zero" && state["desired"] == 0, "{state}");
    assert_eq!(lab.records("iris").len(), 0, "nothing was started");
    // Awake, they are requests like any other.
    assert_eq!(serve.get("iris", "/").await.status, 200);
    assert_eq!(serve.get("iris", "/healthz").await.text(), "ok");
    assert_eq!(probe().send(serve.traffic).await.unwrap().status, 200);
}

#[tokio::test]
async fn grpc_passes_and_a_start_that_fails_is_unavailable() {
    let lab = Lab::new();
    let broken = lab.app("broken").args(["--fail-start", "9"]);
    let two = lab.app("two").set("grpcPort", 9000);
    let serve = lab.services(&[&lab.app("iris"), &broken, &two]).serve().start().await;
    let message = grpc_status(&grpc("broken").send(serve.traffic).await.unwrap(), "14");
    assert!(message.contains('9'), "{message}");
    passes(&serve, "iris").await;
    // An app with a port of its own for gRPC gets gRPC there and the rest at the other.
    passes(&serve, "two").await;
    assert_eq!(serve.get("two", "/http").await.status, 200);
    let ports: Vec<_> = lab.events("two", "request").iter().map(|r| r.port).collect();
    assert!(ports.len() == 2 && ports[0] != ports[1], "{ports:?}");
}

async fn passes(serve: &Serve, service: &str) {
    let reply = grpc(service).send(serve.traffic).await.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (200, MESSAGE), "{reply}");
    assert_eq!(reply.trailers["grpc-status"], "0", "{reply}");
}
