//! Whose fault it was: nobody else pays for it.

use std::net::SocketAddr;

use crate::support::{
    Call, Lab, Load, QueueProxy, Raw, SOON, Yaml, holds, host, tally, testapp, testapp_path, wait_until,
};

/// How a client breaks its own upload.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// No chunk begins like this.
    Chunk,
    /// The connection ends before the body does.
    Close,
    /// The connection is reset.
    Reset,
    /// The HTTP/2 connection ends before the body does.
    H2,
}

const BREAKS: [Break; 4] = [Break::Chunk, Break::Close, Break::Reset, Break::H2];

/// Begins an upload, lets it reach the app, and breaks it.
async fn break_off(lab: &Lab, to: SocketAddr, how: Break, id: &str) {
    let reached = async || holds(lab.reached("iris", id), "not at the app");
    let what = format!("upload {id} reaches the app");
    if matches!(how, Break::H2) {
        let call = Call::post_zeros(&host("iris"), "/sink", 1 << 40).id(id).h2();
        let upload = tokio::spawn(call.send(to));
        wait_until(SOON, what, reached).await;
        return upload.abort();
    }
    let mut raw = Raw::connect(to).await;
    let framing =
        if matches!(how, Break::Chunk) { "transfer-encoding: chunked" } else { "content-length: 100" };
    let begin = if matches!(how, Break::Chunk) { "5\r\nhello\r\n" } else { "hello" };
    let head = format!("POST /sink HTTP/1.1\r\nhost: {}\r\nx-request-id: {id}\r\n{framing}", host("iris"));
    raw.send(format!("{head}\r\n\r\n{begin}")).await;
    wait_until(SOON, what, reached).await;
    match how {
        Break::Chunk => {
            raw.send("no number\r\n").await;
            let answer = raw.until("\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        }
        Break::Reset => raw.reset(),
        Break::Close | Break::H2 => drop(raw),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_upload_is_its_clients_own() {
    for protocol in ["http1", "h2c"] {
        let lab = Lab::new();
        let iris = lab.app("iris").max(1).set("protocol", protocol);
        let serve = lab.services(&[&iris]).serve().start().await;
        assert_eq!(serve.get("iris", "/").await.status, 200);
        let load = Load::start(serve.traffic, &host("iris"), "/", 2);
        for (i, how) in BREAKS.into_iter().cycle().take(16).enumerate() {
            break_off(&lab, serve.traffic, how, &format!("upload-{i}")).await;
        }
        serve.wait_service("iris", "the uploads are over", |s| s["in_flight"].as_u64() <= Some(2)).await;
        let outcomes = load.stop().await;
        assert_eq!(tally(&outcomes).into_keys().collect::<Vec<_>>(), ["200"], "{protocol}: {outcomes:?}");
        assert!(!serve.log().contains("ready again"), "{protocol}: it left the set: {}", serve.log());
        assert_eq!(lab.events("iris", "boot").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_upload_does_not_make_a_queue_proxy_unready() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &["--record", &lab.text_path("iris.jsonl")]).await;
    let proxy = QueueProxy::start(&lab, addr, &["--concurrency", "4", "--queue", "10"]).await.ready().await;
    let load = Load::start(proxy.traffic, "any", "/", 2);
    for (i, how) in BREAKS.into_iter().cycle().take(16).enumerate() {
        break_off(&lab, proxy.traffic, how, &format!("upload-{i}")).await;
        let ready = proxy.admin("/readyz").await;
        assert_eq!(ready.status, 200, "{how:?}: {ready}");
    }
    let outcomes = load.stop().await;
    assert_eq!(tally(&outcomes).into_keys().collect::<Vec<_>>(), ["200"], "{outcomes:?}");
    assert!(!proxy.log().contains("cannot be reached"), "{}", proxy.log());
}

/// testapp without the gRPC port that it was given.
fn deaf_to_grpc(lab: &Lab) -> Yaml {
    let app = testapp_path().to_str().unwrap();
    let record = lab.text_path("iris.jsonl");
    let run = "unset GRPC_PORT; exec \"$0\" \"$@\"";
    let iris = lab.app("iris").command(&["sh", "-c", run, app, "--port", "$(PORT)", "--record", &record]);
    iris.set("grpcPort", 9000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_port_where_nobody_listens_costs_grpc_only() {
    let lab = Lab::new();
    let serve = lab.services(&[&deaf_to_grpc(&lab).limit(4).max(2)]).serve().start().await;
    assert_eq!(serve.get("iris", "/").await.status, 200);
    let load = Load::start(serve.traffic, &host("iris"), "/", 2);
    let call = || {
        let call = Call::post(&host("iris"), "/pkg.Service/Method", &b"\0\0\0\0\0"[..]);
        call.header("content-type", "application/grpc").header("te", "trailers").h2()
    };
    for _ in 0..2 {
        let reply = call().send(serve.traffic).await.unwrap();
        assert_eq!((reply.status, reply.header("grpc-status")), (200, "14"), "{reply}");
    }
    let outcomes = load.stop().await;
    assert_eq!(tally(&outcomes).into_keys().collect::<Vec<_>>(), ["200"], "{outcomes:?}");
    let ejected = serve.log().matches("ready again").count();
    assert!(ejected <= 2, "{ejected} times out of the set: {}", serve.log());
    let retried = serve.metric("pilotlight_retries_total").await;
    assert!(retried <= 6.0, "{retried} attempts for two requests");
    assert_eq!(lab.events("iris", "boot").len(), 1);
}

#[tokio::test]
async fn a_request_that_kills_its_app_kills_two_at_most() {
    // All of it read, then dead: the connection just ends. And dead with the rest unread: a reset, after which one
    // other replica is tried.
    for (path, flags, most) in [("/crash", &[] as &[&str], 1), ("/", &["--die-reading"], 2)] {
        let lab = Lab::new();
        let iris = lab.app("iris").limit(1).max(3).set("scaling.min", 3).args(flags);
        let serve = lab.services(&[&iris]).serve().start().await;
        let all_ready = |s: &serde_json::Value| {
            s["replicas"].as_array().unwrap().iter().filter(|r| r["phase"] == "ready").count() == 3
        };
        serve.wait_service("iris", "three are ready", all_ready).await;
        serve.get("iris", path).await.error(502, "iris");
        let death = async || holds(serve.log().contains(" died after "), "none");
        wait_until(SOON, "a death is seen", death).await;
        serve.wait_service("iris", "three are ready again", all_ready).await;
        let deaths = serve.log().matches(" died after ").count();
        assert!((1..=most).contains(&deaths), "{path}: {deaths} died: {}", serve.log());
    }
}
