//! What is sent again, how often, and what becomes of a replica that fails.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::hop::{ALL, Hop, Kind, Setup, value};
use crate::support::{Call, LONG, Lab, NAME, QueueProxy, SOON, Wire, holds, host, kill, tally, wait_until};

/// An app that keeps connections alive, says nothing of closing, and closes each after this long without a request.
/// Counts requests, and answers with the number of the one.
async fn impatient(rest: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                let mut patience = SOON;
                while let Ok(Ok(n)) = tokio::time::timeout(patience, stream.read_buf(&mut read)).await {
                    if n == 0 {
                        return;
                    }
                    let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
                    let body = if read.starts_with(b"POST") { 4 } else { 0 };
                    if read.len() < end + 4 + body {
                        continue;
                    }
                    read.clear();
                    let n = (count.fetch_add(1, Ordering::SeqCst) + 1).to_string();
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{n}", n.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() || rest.is_zero() {
                        return;
                    }
                    patience = rest;
                }
            });
        }
    });
    (addr, seen)
}

/// The two ways in which a connection is found closed: before anything was written, whatever the request is, and with
/// a request on it that has no body and that the app did not read.
#[tokio::test]
async fn an_app_that_closes_what_rests_is_never_seen_by_the_client() {
    for (rest, requests) in [(Duration::from_millis(3), 300_u64), (Duration::ZERO, 600)] {
        let lab = Lab::new();
        let (app, seen) = impatient(rest).await;
        let args = ["--concurrency", "1", "--readiness-period", "0s"];
        let proxy = QueueProxy::start(&lab, app, &args).await.ready().await;
        let mut wire = Wire::open(proxy.traffic, false).await.unwrap();
        for n in 1..=requests {
            let call = if n % 10 == 2 {
                // Long after the app has closed.
                tokio::time::sleep(rest + Duration::from_millis(20)).await;
                Call::post("x", "/", "body")
            } else {
                // Around the moment at which it closes, now before and now after it.
                let wait = Duration::from_micros(n * 37 % 3_000);
                tokio::time::sleep(if rest.is_zero() { rest } else { rest / 2 + wait }).await;
                Call::get("x", "/")
            };
            let reply = wire.send(call).await.unwrap();
            assert_eq!((reply.status, reply.text()), (200, n.to_string()), "request {n}, {rest:?}");
        }
        assert_eq!(seen.load(Ordering::SeqCst) as u64, requests, "none twice");
    }
}

#[tokio::test]
async fn retries_have_a_budget_and_a_dead_replica_is_not_hammered() {
    const REQUESTS: usize = 300;
    let lab = Lab::new();
    // Ready by its probe, and nobody listens.
    let app = lab
        .app("app")
        .max(1)
        .limit(0)
        .set("timeouts.activation", "60s")
        .set("readiness", json!({ "exec": { "command": ["true"] } }))
        .command(&["sleep", "3600"]);
    let serve = lab.services(&[&app]).serve().start().await;
    let mut calls = JoinSet::new();
    for _ in 0..REQUESTS {
        calls.spawn(Call::get(&host("app"), "/").send(serve.traffic));
    }
    let mut codes = std::collections::BTreeMap::new();
    for reply in calls.join_all().await {
        let reply = reply.unwrap();
        let code = reply.json()["error"]["code"].as_str().unwrap().to_owned();
        if code == "retry_budget" {
            reply.error(503, "app");
            assert_eq!(reply.header("retry-after"), "1");
        } else {
            reply.error(502, "app");
        }
        *codes.entry(code).or_insert(0) += 1;
    }
    assert!(codes["retry_budget"] > 50 && codes["app_error"] > 0, "{codes:?}");
    let text = serve.admin("/metrics").await.text();
    let (retries, ejections) = (
        value(&text, "pilotlight_retries_total"),
        value(&text, "pilotlight_ejections_total{reason=\"unreachable\"}"),
    );
    // 100 to begin with, a fifth of what came, and ten for each second that a slow machine took.
    assert!(
        (50.0..=100.0 + 0.2 * REQUESTS as f64 + 300.0).contains(&retries),
        "{retries} retries: {codes:?}"
    );
    assert!((1.0..50.0).contains(&ejections), "{ejections} ejections of one dead replica");
}

#[tokio::test]
async fn an_app_that_resets_everything_is_ejected_and_comes_back() {
    for kind in ALL {
        let lab = Lab::new();
        let broken = lab.gate("broken");
        let setup = Setup { limit: 2, queue: 50, ..Setup::default() }.app(&["--reset-while", &broken]);
        broken.open();
        let hop = Hop::start(kind, lab, &setup, false).await;
        let mut seen = Vec::new();
        wait_until(LONG, format!("{kind:?}: it stays out of the set for a while"), async || {
            // With one replica `serve` lets who comes then wait, so nobody waits for the answer here.
            let call = hop.get("/").send(hop.traffic);
            if let Ok(reply) = tokio::time::timeout(Duration::from_millis(300), call).await {
                let reply = reply.unwrap();
                assert!(matches!(reply.status, 502 | 503), "{kind:?}: {reply}");
                seen.push(reply.json()["error"]["code"].as_str().unwrap().to_owned());
            }
            match kind {
                Kind::Activator => holds(hop.metric("pilotlight_ejections_total").await >= 2.0, hop.log()),
                // The queue-proxy says so at once.
                _ => holds(seen.iter().any(|code| code == "app_ejected"), format!("{seen:?}")),
            }
        })
        .await;
        if kind == Kind::Both {
            assert_eq!(
                hop.metric("pilotlight_ejections_total").await,
                0.0,
                "the queue-proxy answers, and stays"
            );
        } else {
            hop.until_metric("pilotlight_ejections_total", "counts it", |n| n >= 1.0).await;
        }
        if kind == Kind::Activator {
            assert!(hop.log().contains("left the set"), "an event says why");
        }
        std::fs::remove_file(&*broken).unwrap();
        wait_until(SOON, format!("{kind:?}: it is back"), async || {
            let reply = hop.send(hop.get("/")).await;
            holds(reply.status == 200, reply)
        })
        .await;
    }
}

#[tokio::test]
async fn one_client_that_makes_an_app_break_off_keeps_it_from_nobody() {
    let lab = Lab::new();
    let (app, _) = breaks_off_on_evil().await;
    let proxy = QueueProxy::start(&lab, app, &["--concurrency", "4", "--queue", "100"]).await.ready().await;
    let good = crate::support::Load::start(proxy.traffic, "x", "/", 2);
    let mut broken = 0;
    while broken < 200 {
        let reply = Call::get("x", "/evil").send(proxy.traffic).await.unwrap();
        assert_eq!(reply.status, 502, "{reply}");
        broken += 1;
        if broken % 10 == 0 {
            let ready = Call::get("localhost", "/readyz").send(proxy.admin).await.unwrap();
            assert_eq!(ready.status, 200, "its readiness does not flap: {ready}");
        }
    }
    wait_until(SOON, "the good ones go on", async || holds(good.answered() > 100, good.answered())).await;
    let outcomes = tally(&good.stop().await);
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["200"], "{outcomes:?}");
    let text = proxy.admin("/metrics").await.text();
    assert_eq!(value(&text, "pilotlight_ejections_total"), 0.0, "a look is enough");
}

async fn breaks_off_on_evil() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                while let Ok(n) = stream.read(&mut head).await {
                    if n == 0 || head.starts_with(b"GET /evil") {
                        return;
                    }
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (addr, task)
}

/// The end of a shared connection says nothing of what was read from it.
#[tokio::test]
async fn what_an_h2_app_has_begun_is_not_sent_again_when_it_dies() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app(NAME).set("scaling.min", 1).max(1)]).serve().start().await;
    let gate = lab.gate("again");
    let held = serve.send(Call::get(&host(NAME), &format!("/hold?file={gate}")).id("held").h2());
    wait_until(SOON, "it is executed", async || holds(lab.reached(NAME, "held"), "not yet")).await;
    for replica in lab.replicas() {
        kill(replica.pid, Signal::KILL);
    }
    // Whoever gets it a second time answers.
    gate.open();
    assert_eq!(held.await.unwrap().unwrap().status, 502);
    let begun = lab.events(NAME, "request");
    assert_eq!(begun.iter().filter(|r| r.id.as_deref() == Some("held")).count(), 1);
}

/// A process that was killed passes its probe for a moment longer than it answers anything. Who waits for the one that
/// follows it is not refused.
#[tokio::test]
async fn who_waits_while_an_app_dies_waits_for_the_next() {
    let lab = Lab::new();
    let (gate, asked) = (lab.gate("back"), lab.path("asked"));
    let probe = lab.path("probe");
    // Well when it starts, and once more when it is looked at after the first failure.
    let script =
        format!("#!/bin/sh\necho >> {0}\n[ $(wc -l < {0}) -le 2 ] || [ -e {gate} ]\n", asked.display());
    std::fs::write(&probe, script).unwrap();
    std::fs::set_permissions(&probe, Permissions::from_mode(0o755)).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let app = listener.local_addr().unwrap();
    drop(listener);
    let probe = format!("exec:{}", probe.display());
    let args = ["--concurrency", "1", "--readiness", &probe, "--readiness-period", "0s"];
    let proxy = QueueProxy::start(&lab, app, &args).await.ready().await;
    // One of them tries, the others are in line behind it.
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        waiting.spawn(Call::get("x", "/").send(proxy.traffic));
    }
    wait_until(SOON, "it failed twice", async || {
        let times = std::fs::read_to_string(&asked).unwrap().lines().count();
        holds(times > 2, times)
    })
    .await;
    let listener = TcpListener::bind(app).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    gate.open();
    for reply in waiting.join_all().await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200, "{reply}");
    }
}
