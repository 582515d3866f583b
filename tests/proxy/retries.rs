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

use crate::support::{
    Call, LONG, Lab, Load, NAME, QueueProxy, SOON, Setup, Way, Wire, holds, host, kill, tally, testapp_path,
    wait_until,
};

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

/// Of hundreds of requests that race with their connection's end; as a rule none.
const MOST_UNDECIDED: u64 = 1;

/// The two ways in which a connection is found closed: before anything was written, whatever the request is, and with
/// a request on it that has no body and that the app did not read. The one that remains: the app closes just after the
/// request has come and before it is read, and the RST that then comes alone is also what an app sends that has read it.
#[tokio::test]
async fn an_app_that_closes_what_rests_is_never_seen_by_the_client() {
    for setup in [Setup::QueueProxy, Setup::Both] {
        for (rest, requests) in [(Duration::from_millis(3), 300_u64), (Duration::ZERO, 600)] {
            let (app, seen) = impatient(rest).await;
            let way = Way::through(setup).limit(1).at(app).start().await;
            let mut wire = Wire::open(way.traffic, false).await.unwrap();
            let mut undecided = 0;
            for n in 1..=requests {
                let call = if n % 10 == 2 {
                    // Long after the app has closed.
                    tokio::time::sleep(rest + Duration::from_millis(20)).await;
                    way.post("/", "body")
                } else {
                    // Around the moment at which it closes, now before and now after it.
                    let wait = Duration::from_micros(n * 37 % 3_000);
                    tokio::time::sleep(if rest.is_zero() { rest } else { rest / 2 + wait }).await;
                    way.get("/")
                };
                let reply = wire.send(call).await.unwrap();
                if reply.status == 502 && reply.text().contains("reset") && undecided < MOST_UNDECIDED {
                    undecided += 1;
                    continue;
                }
                assert_eq!(
                    (reply.status, reply.text()),
                    (200, (n - undecided).to_string()),
                    "{way}: request {n}, {rest:?}"
                );
            }
            assert_eq!(seen.load(Ordering::SeqCst) as u64, requests - undecided, "{way}: none twice");
        }
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
    let retries = serve.metric("pilotlight_retries_total").await;
    let ejections = serve.metric("pilotlight_ejections_total{reason=\"unreachable\"}").await;
    // 100 to begin with, a fifth of what came, and ten for each second that a slow machine took.
    assert!(
        (50.0..=100.0 + 0.2 * REQUESTS as f64 + 300.0).contains(&retries),
        "{retries} retries: {codes:?}"
    );
    assert!((1.0..50.0).contains(&ejections), "{ejections} ejections of one dead replica");
}

#[tokio::test]
async fn what_one_replica_does_not_take_goes_to_another() {
    let lab = Lab::new();
    let (deaf, record) = (lab.text_path("deaf"), lab.text_path("app.jsonl"));
    // Both are ready by their probe; whichever makes the directory does not listen.
    let app = format!("mkdir {deaf} && exec sleep 3600; exec {} --record {record}", testapp_path().display());
    let app = lab
        .app(NAME)
        .limit(1)
        .max(2)
        .set("scaling.min", 2)
        .set("readiness", json!({ "exec": { "command": ["true"] } }))
        .command(&["sh", "-c", &app]);
    let serve = lab.services(&[&app]).serve().start().await;
    serve
        .wait_service(NAME, "both are ready", |s| {
            s["replicas"].as_array().unwrap().iter().filter(|r| r["phase"] == "ready").count() == 2
        })
        .await;
    wait_until(SOON, "one listens", async || holds(lab.events(NAME, "listen").len() == 1, "none")).await;
    let mut calls = JoinSet::new();
    for n in 0..20 {
        let call = Call::post(&host(NAME), "/echo", "body").id(&n.to_string());
        calls.spawn(if n % 2 == 0 { call } else { call.h2() }.send(serve.traffic));
    }
    for reply in calls.join_all().await {
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.text()), (200, "body".into()), "{reply}");
    }
    assert_eq!(lab.events(NAME, "request").len(), 20, "each once");
    assert!(serve.metric("pilotlight_retries_total").await >= 1.0);
}

#[tokio::test]
async fn an_app_that_resets_everything_is_ejected_and_comes_back() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(2).queue(50).cold();
        let broken = way.lab.gate("broken");
        broken.open();
        let way = way.args(&["--reset-while", &broken]).start().await;
        let mut seen = Vec::new();
        wait_until(LONG, format!("{way}: it stays out of the set for a while"), async || {
            // With one replica `serve` lets who comes then wait, so nobody waits for the answer here.
            let call = way.get("/").send(way.traffic);
            if let Ok(reply) = tokio::time::timeout(Duration::from_millis(300), call).await {
                let reply = reply.unwrap();
                assert!(matches!(reply.status, 502 | 503), "{way}: {reply}");
                seen.push(reply.json()["error"]["code"].as_str().unwrap().to_owned());
            }
            match setup {
                Setup::Activator => holds(way.metric("pilotlight_ejections_total").await >= 2.0, way.log()),
                // The queue-proxy says so at once.
                _ => holds(seen.iter().any(|code| code == "app_ejected"), format!("{seen:?}")),
            }
        })
        .await;
        if setup == Setup::Both {
            assert_eq!(
                way.metric("pilotlight_ejections_total").await,
                0.0,
                "the queue-proxy answers, and stays"
            );
        } else {
            way.until_metric("pilotlight_ejections_total", "counts it", |n| n >= 1.0).await;
        }
        if setup == Setup::Activator {
            assert!(way.log().contains("left the set"), "an event says why");
        }
        std::fs::remove_file(&*broken).unwrap();
        wait_until(SOON, format!("{way}: it is back"), async || {
            let reply = way.get("/").send(way.traffic).await.unwrap();
            holds(reply.status == 200, reply)
        })
        .await;
    }
}

#[tokio::test]
async fn one_client_that_makes_an_app_break_off_keeps_it_from_nobody() {
    for setup in Setup::ALL {
        let (app, _) = breaks_off_on_evil().await;
        let way = Way::through(setup).limit(4).queue(100).at(app).start().await;
        let good = Load::start(way.traffic, &way.host(), "/", 2);
        let mut broken = 0;
        while broken < 200 {
            let reply = way.get("/evil").send(way.traffic).await.unwrap();
            assert_eq!(reply.status, 502, "{way}: {reply}");
            broken += 1;
            if broken % 10 == 0 {
                let ready = Call::get("localhost", "/readyz").send(way.admin()).await.unwrap();
                assert_eq!(ready.status, 200, "{way}: its readiness does not flap: {ready}");
            }
        }
        wait_until(SOON, "the good ones go on", async || holds(good.answered() > 100, good.answered())).await;
        let outcomes = tally(&good.stop().await);
        assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["200"], "{way}: {outcomes:?}");
        assert_eq!(way.metric("pilotlight_ejections_total").await, 0.0, "{way}: a look is enough");
    }
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
