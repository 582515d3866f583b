//! `pilotlight queue-proxy` in front of an app.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{Call, Lab, QueueProxy, Reply, SOON, holds, testapp, wait_until};

#[tokio::test]
async fn the_limit_holds_and_the_rest_waits() {
    let lab = Lab::new();
    let record = lab.text_path("app.jsonl");
    let (_app, addr) = testapp(lab.dir(), &["--record", &record, "--limit", "2", "--delay", "20"]).await;
    let proxy = QueueProxy::start(&lab, addr, &["--concurrency", "2", "--queue", "100"]).await.ready().await;
    let mut calls = JoinSet::new();
    for i in 0..40 {
        let call = Call::get("any.host", "/");
        let call = if i % 2 == 0 { call } else { call.h2() };
        calls.spawn(call.send(proxy.traffic));
    }
    for reply in calls.join_all().await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200, "{reply}");
        assert_eq!(reply.json()["host"], "any.host");
    }
    assert_eq!(lab.events("app", "violation").len(), 0);
    let stats = Call::get("x", "/stats").send(addr).await.unwrap().json();
    assert_eq!((stats["max_in_flight"].as_u64(), stats["total"].as_u64()), (Some(2), Some(40)));
    let counted = proxy.metric("pilotlight_requests_total").await;
    assert!(counted >= 40.0, "{counted} requests are counted");
}

#[tokio::test]
async fn overflow_is_503_with_retry_after() {
    let lab = Lab::new();
    let record = lab.text_path("app.jsonl");
    let gate = lab.gate("end");
    let (_app, addr) = testapp(lab.dir(), &["--record", &record, "--limit", "1"]).await;
    let proxy = QueueProxy::start(&lab, addr, &["--concurrency", "1", "--queue", "1"]).await.ready().await;
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        calls.spawn(Call::get("x", &format!("/hold?file={gate}")).send(proxy.traffic));
    }
    // One is at the app, one waits: whichever is left is refused while the gate is closed.
    let refused = calls.join_next().await.unwrap().unwrap().unwrap();
    refused.error(503, "");
    assert!(refused.header("retry-after").parse::<u64>().is_ok(), "{refused}");
    gate.open();
    assert!(calls.join_all().await.into_iter().all(|reply| reply.unwrap().status == 200));
    assert_eq!(lab.events("app", "violation").len(), 0);
}

#[tokio::test]
async fn a_stream_holds_its_slot_and_a_gone_client_leaves() {
    let lab = Lab::new();
    let record = lab.text_path("app.jsonl");
    let gate = lab.gate("rest");
    let (_app, addr) = testapp(lab.dir(), &["--record", &record, "--limit", "1"]).await;
    let proxy = QueueProxy::start(&lab, addr, &["--concurrency", "1", "--queue", "1"]).await.ready().await;
    let stream = Call::get("x", &format!("/sse?n=2&hold={gate}"));
    let mut stream = stream.open(proxy.traffic).await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: 0\n\n");
    let gone = waits(proxy.traffic, "gone").await;
    let refused = Call::get("x", "/").id("refused").send(proxy.traffic).await.unwrap();
    refused.error(503, "");
    gone.abort();
    let _ = gone.await;
    // The place is free once the proxy has seen that; who gets it waits instead of being refused.
    let stays = waits(proxy.traffic, "stays").await;
    gate.open();
    assert_eq!(stream.rest().await.unwrap().text(), "data: 1\n\n");
    assert_eq!(stays.await.unwrap().unwrap().status, 200);
    assert!(!lab.reached("app", "gone") && lab.events("app", "violation").is_empty());
}

/// A request that has a place in the queue: it was not refused, and nothing can answer it yet.
async fn waits(to: SocketAddr, id: &'static str) -> JoinHandle<Result<Reply, String>> {
    wait_until(SOON, "there is a place in the queue", async || {
        let mut call = tokio::spawn(Call::get("x", "/").id(id).send(to));
        match tokio::time::timeout(Duration::from_secs(1), &mut call).await {
            Ok(reply) => Err(format!("{reply:?}")),
            Err(_) => Ok(call),
        }
    })
    .await
}

#[tokio::test]
async fn readiness_follows_the_app() {
    let lab = Lab::new();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let proxy = QueueProxy::start(&lab, addr, &["--concurrency", "1", "--queue", "1"]).await;
    assert_eq!(proxy.admin("/healthz").await.status, 200);
    assert_eq!(proxy.admin("/readyz").await.status, 503);
    let (_app, _) = testapp(lab.dir(), &["--port", &port.to_string()]).await;
    let proxy = proxy.ready().await;
    assert_eq!(Call::get("x", "/").send(proxy.traffic).await.unwrap().status, 200);
}

#[tokio::test]
async fn sigterm_drains() {
    let lab = Lab::new();
    let record = lab.text_path("app.jsonl");
    let gate = lab.gate("end");
    let (_app, addr) = testapp(lab.dir(), &["--record", &record]).await;
    let mut proxy =
        QueueProxy::start(&lab, addr, &["--concurrency", "2", "--queue", "1"]).await.ready().await;
    let held = tokio::spawn(Call::get("x", &format!("/hold?file={gate}")).id("held").send(proxy.traffic));
    wait_until(SOON, "one is in flight", async || holds(lab.reached("app", "held"), "no")).await;
    let drain = tokio::spawn(Call::get("localhost", "/drain").send(proxy.admin));
    proxy.signal(Signal::TERM);
    wait_until(SOON, "not ready any more", async || {
        match Call::get("localhost", "/readyz").send(proxy.admin).await {
            Ok(reply) if reply.status == 200 => Err(reply.to_string()),
            _ => Ok(()),
        }
    })
    .await;
    assert!(proxy.exited().is_none() && !held.is_finished() && !drain.is_finished());
    gate.open();
    assert_eq!(held.await.unwrap().unwrap().status, 200);
    assert_eq!(drain.await.unwrap().unwrap().status, 200);
    assert_eq!(proxy.wait(SOON).await, 0);
}

#[tokio::test]
async fn an_app_that_dies_is_502() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let proxy = QueueProxy::start(&lab, addr, &["--concurrency", "1", "--queue", "1"]).await.ready().await;
    Call::get("x", "/crash").send(proxy.traffic).await.unwrap().error(502, "");
}
