//! Streaming requests that hear something while they wait for a replica.

use std::time::Duration;

use serde_json::json;

use crate::models::{WAYS, service};
use crate::support::{
    Call, Lab, Open, Raw, SOON, Serve, Setup, Yaml, holds, host, python, testapp_path, wait_until,
};

const COMMENT: &[u8] = b": waiting for a replica\n\n";

/// testapp that starts once the gate is open, with heartbeats.
fn slow(lab: &Lab, setup: Setup, gate: &str) -> Yaml {
    let record = lab.text_path("llm.jsonl");
    let program = testapp_path().to_str().unwrap();
    let app = [program, "--port", "$(PORT)", "--record", &record, "--start-gate", gate];
    // The app's readiness, not the queue-proxy's: that listens at once, and would have the slots.
    let ready = json!({"httpGet": {"path": "/healthz"}});
    service(lab, setup, "llm", &app).set("heartbeat", "100ms").set("readiness", ready)
}

fn events(host: &str) -> Call {
    Call::get(host, "/v1/sse?n=3").header("accept", "text/event-stream")
}

async fn beats(stream: &mut Open, n: usize) {
    for _ in 0..n {
        assert_eq!(stream.chunk().await.unwrap().unwrap(), COMMENT);
    }
}

async fn outcomes(serve: &Serve, outcome: &str, n: u32) {
    let series = format!("pilotlight_heartbeat_streams_total{{outcome=\"{outcome}\"}}");
    wait_until(SOON, format!("{series} is {n}"), async || {
        let counted = serve.metric(&series).await;
        holds(counted == f64::from(n), counted)
    })
    .await;
}

#[tokio::test]
async fn comments_come_until_the_app_s_events_do() {
    for setup in WAYS {
        for h2 in [false, true] {
            let lab = Lab::new();
            let gate = lab.gate("start");
            let serve = lab.services(&[&slow(&lab, setup, &gate)]).serve().start().await;
            let by_host = events(&host("llm"));
            // What OpenAI's clients send says that it streams in the body alone.
            let body = json!({"messages": [{"stream": false}], "model": "llm", "stream": true}).to_string();
            let by_model =
                Call::post("localhost", "/v1/sse?n=3", body.clone()).header("accept", "application/json");
            let in_body = Call::post(&host("llm"), "/v1/sse?n=3", body);
            let mut streams = Vec::new();
            for call in [by_host, by_model, in_body] {
                let call = call.header("accept-encoding", "gzip");
                streams.push(if h2 { call.h2() } else { call }.open(serve.traffic).await.unwrap());
            }
            for stream in &mut streams {
                assert_eq!(
                    (stream.status, &stream.headers["content-type"]),
                    (200, &"text/event-stream".parse().unwrap())
                );
                assert_eq!(stream.headers["cache-control"], "no-cache");
                beats(stream, 3).await;
            }
            if setup == Setup::Activator {
                assert_eq!(serve.service("llm").await["queued"], 3, "they wait like all others");
            }
            gate.open();
            for stream in streams {
                let text = stream.rest().await.unwrap().text();
                let tokens = text.trim_start_matches(std::str::from_utf8(COMMENT).unwrap());
                assert_eq!(tokens, "data: 0\n\ndata: 1\n\ndata: 2\n\n", "{setup:?} {h2}");
            }
            if setup == Setup::Activator {
                outcomes(&serve, "stream", 3).await;
            }
            serve.wait_service("llm", "idle", |s| s["in_flight"] == 0 && s["queued"] == 0).await;
            assert!(lab.events("llm", "done").iter().all(|r| r.complete == Some(true)));
        }
    }
}

#[tokio::test]
async fn the_openai_package_does_not_see_them() {
    let (client, uvicorn) =
        (python(&["openai==3.54.0"]).await, python(&["uvicorn==0.35.0", "websockets==15.0.1"]).await);
    let lab = Lab::new();
    let gate = lab.gate("start");
    let script = |name: &str| format!("{}/tests/proxy/py/{name}", env!("CARGO_MANIFEST_DIR"));
    let app = script("openai_app.py");
    let app = lab.app("llm").command(&[uvicorn.to_str().unwrap(), &app, "$(PORT)", &gate]);
    let serve = lab.services(&[&app.set("heartbeat", "100ms")]).serve().start().await;
    let mut command = std::process::Command::new(client);
    let url = format!("http://localhost:{}/v1", serve.traffic.port());
    command.args([&script("openai_client.py"), &url, "stream", "llm"]);
    let mut program = crate::support::Program::spawn(command, lab.dir());
    serve.wait_queued("llm", 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await; // Some heartbeats; none is a failure only of the next line.
    gate.open();
    assert_eq!(program.wait(SOON).await, 0, "{}", program.settled_log().await);
    assert_eq!(program.log(), "streamed by llm");
    outcomes(&serve, "stream", 1).await;
}

#[tokio::test]
async fn a_client_that_goes_leaves_the_line() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let serve = lab.services(&[&slow(&lab, Setup::Activator, &gate)]).serve().start().await;
    for h2 in [false, true] {
        let call = if h2 { events(&host("llm")).h2() } else { events(&host("llm")) };
        let mut stream = call.open(serve.traffic).await.unwrap();
        beats(&mut stream, 2).await;
        serve.wait_queued("llm", 1).await;
        drop(stream);
        serve.wait_queued("llm", 0).await;
        outcomes(&serve, "client_gone", 1 + u32::from(h2)).await;
    }
    // A client that resets while its body is on the way, too.
    let mut raw = Raw::connect(serve.traffic).await;
    let host = host("llm");
    raw.send(format!(
        "POST /x HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\ncontent-length: 9\r\n\r\nabc"
    ))
    .await;
    raw.until(": waiting for a replica").await;
    raw.reset();
    serve.wait_queued("llm", 0).await;
    assert_eq!(lab.events("llm", "request").len(), 0);
}

#[tokio::test]
async fn what_fails_after_comments_is_aborted() {
    let lab = Lab::new();
    let app = lab.app("llm").args(["--start-delay", "400", "--fail-start", "3"]).set("heartbeat", "100ms");
    let serve = lab.services(&[&app]).serve().start().await;
    let host = host("llm");
    let mut raw = Raw::connect(serve.traffic).await;
    raw.send(format!("GET /v1/sse HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n")).await;
    let (text, _) = raw.closed().await;
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains(": waiting for a replica"), "{text}");
    assert!(!text.ends_with("\r\n0\r\n\r\n") && !text.contains("cannot"), "no clean end, no text: {text}");
    outcomes(&serve, "aborted", 1).await;
    assert!(serve.metric("pilotlight_refused_total{reason=\"cannot_start\"}").await >= 1.0);
}

#[tokio::test]
async fn a_timeout_and_another_answer_abort_too() {
    for h2 in [false, true] {
        let lab = Lab::new();
        let gate = lab.gate("start");
        let app = slow(&lab, Setup::Activator, &gate).set("timeouts.activation", "1s");
        let serve = lab.services(&[&app]).serve().start().await;
        let over = |call: Call| if h2 { call.h2() } else { call };
        let mut stream = over(events(&host("llm"))).open(serve.traffic).await.unwrap();
        beats(&mut stream, 2).await;
        assert!(stream.rest().await.is_err(), "h2 {h2}: it is cut");
        outcomes(&serve, "aborted", 1).await;

        lab.services(&[&slow(&lab, Setup::Activator, &gate)]);
        wait_until(SOON, "it may take longer", async || {
            let config = serve.admin("/api/config").await.text();
            holds(!config.contains("\"activation\":1.0"), config)
        })
        .await;
        let call = Call::get(&host("llm"), "/status?code=418").header("accept", "text/event-stream");
        let mut stream = over(call).open(serve.traffic).await.unwrap();
        beats(&mut stream, 2).await;
        gate.open();
        assert!(stream.rest().await.is_err(), "h2 {h2}: it is cut");
        outcomes(&serve, "aborted", 2).await;
        serve.wait_service("llm", "idle", |s| s["in_flight"] == 0 && s["queued"] == 0).await;
    }
}

#[tokio::test]
async fn an_app_is_not_waited_for_longer_because_of_them() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let app = slow(&lab, Setup::Activator, &gate).set("timeouts.responseStart", "1s");
    let serve = lab.services(&[&app]).serve().start().await;
    let call = Call::get(&host("llm"), "/v1/hang").header("accept", "text/event-stream");
    let mut stream = call.open(serve.traffic).await.unwrap();
    beats(&mut stream, 2).await;
    gate.open();
    assert!(stream.rest().await.is_err(), "it is cut");
    outcomes(&serve, "aborted", 1).await;
    serve.wait_service("llm", "idle", |s| s["in_flight"] == 0 && s["queued"] == 0).await;
}

#[tokio::test]
async fn only_streams_of_services_that_want_it_have_them() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let quiet = lab.app("quiet").args(["--start-gate", &gate]);
    let serve = lab.services(&[&slow(&lab, Setup::Activator, &gate), &quiet]).serve().start().await;
    let body = json!({"model": "llm", "stream": false}).to_string();
    let whole = Call::post("localhost", "/v1/sink", body);
    let opted_out = events(&host("quiet"));
    let head = events(&host("llm")).header("upgrade", "websocket").header("connection", "upgrade");
    let waiting: Vec<_> = [whole, opted_out, head].map(|call| serve.send(call)).into();
    serve.wait_queued("llm", 2).await;
    serve.wait_queued("quiet", 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await; // Periods in which none must come.
    gate.open();
    let replies = futures_util::future::join_all(waiting).await;
    let [whole, opted_out, _] = replies.try_into().map_err(drop).unwrap();
    let (whole, opted_out) = (whole.unwrap().unwrap(), opted_out.unwrap().unwrap());
    assert!(whole.header("server-timing").contains("start;dur="), "{whole}");
    assert_eq!(
        (whole.status, opted_out.status, opted_out.text().as_str()),
        (200, 200, "data: 0\n\ndata: 1\n\ndata: 2\n\n")
    );
    // With a replica that is only slow, the answer's own head is waited for.
    let late = lab.gate("late");
    let call =
        Call::get(&host("llm"), &format!("/v1/hold?file={late}")).header("accept", "text/event-stream");
    let late_answer = serve.send(call);
    serve.wait_service("llm", "it has a slot", |s| s["in_flight"] == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    late.open();
    assert_eq!(late_answer.await.unwrap().unwrap().header("content-type"), "application/json");
}

#[tokio::test]
async fn who_reads_nothing_holds_no_slot_for_ever() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let app = slow(&lab, Setup::Activator, &gate).limit(1).set("timeouts.idle", "1s");
    let serve = lab.services(&[&app]).serve().start().await;
    // HTTP/2 with a window of nothing: its response's body is never asked for.
    let mut raw = Raw::connect(serve.traffic).await;
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.send([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await; // SETTINGS_INITIAL_WINDOW_SIZE = 0
    let field = |name: &str, value: &str| {
        let mut bytes = vec![0, name.len() as u8];
        bytes.extend(name.bytes());
        bytes.push(value.len() as u8);
        bytes.extend(value.bytes());
        bytes
    };
    let mut head = vec![0x82, 0x86]; // GET, http
    head.extend(field(":path", "/v1/sse?n=1000000&ms=1"));
    head.extend(field(":authority", &host("llm")));
    head.extend(field("accept", "text/event-stream"));
    raw.send([0, 0, head.len() as u8, 1, 5, 0, 0, 0, 1]).await; // HEADERS, END_STREAM and END_HEADERS, stream 1
    raw.send(&head).await;
    serve.wait_queued("llm", 1).await;
    // HEADERS with END_HEADERS on stream 1.
    wait_until(SOON, "the head goes out", async || {
        let came = raw.peek();
        holds(came.contains("\u{1}\u{4}\0\0\0\u{1}"), came)
    })
    .await;
    gate.open();
    wait_until(SOON, "the request reaches the app", async || {
        holds(lab.events("llm", "request").len() == 1, "not yet")
    })
    .await;
    serve.wait_service("llm", "its slot is free again", |s| s["in_flight"] == 0 && s["queued"] == 0).await;
    outcomes(&serve, "client_gone", 1).await; // It had begun.
}
