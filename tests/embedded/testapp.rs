//! The app and the harness by themselves: what the other tests rely on.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Call, Lab, Load, Raw, SOON, alive, cpu_time, rss_bytes, tally, testapp, wait_until};

#[tokio::test]
async fn records_requests_and_their_ends() {
    let lab = Lab::new();
    let record = lab.text_path("app.jsonl");
    let (mut app, addr) = testapp(lab.dir(), &["--record", &record, "--limit", "1"]).await;
    let gate = lab.gate("go");
    let held = Call::get("x", &format!("/hold?file={gate}")).id("held");
    let held = tokio::spawn(held.send(addr));
    wait_until(SOON, "the first is in flight", async || lab.reached("app", "held").then_some(()).ok_or("no"))
        .await;
    let second =
        Call::get("some.host", "/a?b=c").id("second").header("x-more", "1").send(addr).await.unwrap();
    let seen = second.json();
    assert_eq!((seen["path"].as_str(), seen["host"].as_str()), (Some("/a?b=c"), Some("some.host")));
    assert_eq!((seen["in_flight"].as_u64(), seen["max_in_flight"].as_u64()), (Some(2), Some(2)));
    assert!(seen["headers"].as_array().unwrap().contains(&serde_json::json!(["x-more", "1"])));
    gate.open();
    assert_eq!(held.await.unwrap().unwrap().status, 200);
    assert_eq!(app.terminate().await, 0);
    let names: Vec<_> = lab.records("app").into_iter().map(|r| r.event).collect();
    let expected = "boot listen request request violation done done term exit";
    assert_eq!(names.join(" "), expected);
    assert!(lab.events("app", "done").iter().all(|r| r.complete == Some(true)));
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    for h2 in [false, true] {
        let wire = |call: Call| if h2 { call.h2() } else { call };
        let echo = wire(Call::post("x", "/echo", "hello")).send(addr).await.unwrap();
        assert_eq!(echo.text(), "hello");
        let n = 3 << 20;
        let sink = wire(Call::post_zeros("x", "/sink?sha=1", n)).send(addr).await.unwrap().json();
        assert_eq!(sink["bytes"], n);
        assert_eq!(sink["sha256"].as_str().unwrap().len(), 64);
        let bytes = wire(Call::get("x", &format!("/bytes?n={n}"))).open(addr).await.unwrap();
        assert_eq!(bytes.count().await.unwrap(), n);
        let events = wire(Call::get("x", "/sse?n=2&ms=1")).send(addr).await.unwrap();
        assert_eq!(events.text(), "data: 0\n\ndata: 1\n\n");
        let trailers = wire(Call::get("x", "/trailers").header("te", "trailers")).send(addr).await.unwrap();
        assert_eq!(trailers.trailers["x-checksum"], "42");
    }
    assert_eq!(Call::get("x", "/status?code=418").send(addr).await.unwrap().status, 418);
    assert_eq!(Call::post("x", "/early", "x").send(addr).await.unwrap().text(), "not read");
}

#[tokio::test]
async fn speaks_grpc_enough() {
    let lab = Lab::new();
    let gate = lab.gate("ready");
    let (_app, addr) = testapp(lab.dir(), &["--ready-gate", &gate]).await;
    let check = async || {
        let call = Call::post("x", "/grpc.health.v1.Health/Check", &b"\0\0\0\0\0"[..]);
        let reply = call.header("content-type", "application/grpc").h2().send(addr).await.unwrap();
        assert_eq!(reply.trailers["grpc-status"], "0");
        *reply.body.last().unwrap()
    };
    assert_eq!((check().await, Call::get("x", "/ready").send(addr).await.unwrap().status), (2, 503));
    gate.open();
    assert_eq!((check().await, Call::get("x", "/ready").send(addr).await.unwrap().status), (1, 200));
}

#[tokio::test]
async fn upgrades_count_until_they_close() {
    let lab = Lab::new();
    let (mut app, addr) = testapp(lab.dir(), &[]).await;
    let mut socket = Raw::connect(addr).await;
    socket.send("GET /ws-echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert!(socket.until("\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    socket.send("ping-pong").await;
    socket.until("ping-pong").await;
    let stats = async || Call::get("x", "/stats").send(addr).await.unwrap().json();
    assert_eq!(stats().await["in_flight"], 1);
    app.signal(Signal::TERM);
    socket.send("still here").await;
    socket.until("still here").await;
    drop(socket);
    assert_eq!(app.wait(SOON).await, 0);
}

#[tokio::test]
async fn fails_and_crashes_on_demand() {
    let lab = Lab::new();
    let path = lab.path("record.jsonl");
    let (mut app, addr) = testapp(lab.dir(), &["--record", path.to_str().unwrap(), "--ignore-sigterm"]).await;
    app.signal(Signal::TERM);
    wait_until(SOON, "the signal is recorded", async || {
        lab.events("record", "term").first().map(|_| ()).ok_or("not yet")
    })
    .await;
    assert!(Call::get("x", "/crash").send(addr).await.is_err());
    assert_eq!(app.wait(SOON).await, 128 + 6);
    let program = crate::support::testapp_path();
    let mut command = std::process::Command::new(program);
    command.args(["--fail-start", "3"]);
    let mut app = crate::support::Program::spawn(command, lab.dir());
    assert_eq!(app.wait(SOON).await, 3);
}

#[tokio::test]
async fn the_lab_finds_and_ends_every_process() {
    let lab = Lab::new();
    let (app, addr) = testapp(lab.dir(), &["--child"]).await;
    let load = Load::start(addr, "x", "/", 2);
    wait_until(SOON, "load runs", async || (load.answered() > 100).then_some(()).ok_or(load.answered()))
        .await;
    let outcomes = load.stop().await;
    assert_eq!(tally(&outcomes).into_iter().collect::<Vec<_>>(), [("200".to_owned(), outcomes.len())]);
    assert!(rss_bytes(app.pid()) > 1 << 20 && cpu_time(app.pid()).as_secs() < 60);
    let all = lab.processes();
    assert_eq!((all.len(), lab.replicas().len()), (2, 1), "{all:?}");
    assert!(lab.empty_but(&[app.pid()]).is_err_and(|left| left.ends_with("sleep 3600")));
    let pids: Vec<u32> = all.iter().map(|p| p.pid).collect();
    drop(lab);
    wait_until(SOON, "all are dead", async || {
        let left: Vec<_> = pids.iter().filter(|pid| alive(**pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn yaml_is_what_the_design_shows() {
    let lab = Lab::new();
    let text = lab.app("iris").limit(1).max(4).set("process.env", serde_json::json!({ "A": "b" })).text();
    let expected = "concurrency:\n    limit: 1\n";
    assert!(text.contains(expected) && text.contains("    env:\n      A: \"b\"\n"), "{text}");
    assert!(
        text.starts_with("---\napiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata:\n"),
        "{text}"
    );
    let command = text.lines().find_map(|line| line.trim().strip_prefix("command: ")).unwrap();
    let command: Value = serde_json::from_str(command).unwrap();
    assert_eq!((command[1].as_str(), command[2].as_str()), (Some("--port"), Some("$(PORT)")));
}
