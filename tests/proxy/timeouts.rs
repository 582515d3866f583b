//! Each bound by itself: its own 504 before the head, an end that is none after it, and the slot back in every case.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Call, Lab, NAME, Raw, SOON, Setup, Way, Wire, host, wait_until};

#[tokio::test]
async fn each_stage_says_which_it_was() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).timeout("responseStart", "1s").start().await;
        let late = way.get("/hang").send(way.traffic).await.unwrap();
        assert!(late.error(504, "").contains("response start"), "{way}: {late}");
        let way = Way::through(setup).limit(1).timeout("request", "1s").start().await;
        let held = way.send(way.get("/hang").id("held"));
        way.reached("held").await;
        // The one in line is bounded too.
        let waits = way.get("/").id("waits").send(way.traffic).await.unwrap();
        let held = held.await.unwrap().unwrap();
        assert!(held.error(504, "").contains("request"), "{way}: {held}");
        if waits.status != 200 {
            assert!(waits.error(504, "").contains("request"), "{way}: {waits}");
        }
        let (call, pieces) = Call::post_pieces(&host(NAME), "/grpc");
        let call = call.header("content-type", "application/grpc").h2();
        let late = call.send(way.traffic).await.unwrap();
        drop(pieces);
        assert_eq!((late.status, late.header("grpc-status")), (200, "4"), "{way}: {late}");
        assert!(late.header("grpc-message").contains("request"), "{way}: {late}");
        assert_eq!(way.get("/").send(way.traffic).await.unwrap().status, 200, "{way}: the slot is free");

        let way = Way::through(setup).limit(1).timeout("idle", "1s").start().await;
        let (call, pieces) = Call::post_pieces(&host(NAME), "/sink");
        let stalled = way.send(call);
        pieces.send("first".into()).await.unwrap();
        let stalled = stalled.await.unwrap().unwrap();
        assert!(stalled.error(504, "").contains("idle"), "{way}: {stalled}");
        drop(pieces);
        assert_eq!(way.get("/").send(way.traffic).await.unwrap().status, 200, "{way}: the slot is free");
    }
}

#[tokio::test]
async fn activation_is_bounded() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let app = lab.app("iris").args(["--start-gate", &gate]);
    let slow = app.clone().set("timeouts.activation", "1s");
    let serve = lab.services(&[&slow]).serve().start().await;
    let late = serve.get("iris", "/").await;
    let message = late.error(if late.status == 503 { 503 } else { 504 }, "iris");
    assert!(late.status == 503 || message.contains("activation"), "{late}");
    let lab = Lab::new();
    let gate = lab.gate("start");
    let app = lab.app("iris").args(["--start-gate", &gate]).set("timeouts.request", "1s");
    let serve = lab.services(&[&app]).serve().start().await;
    let late = serve.get("iris", "/").await;
    assert!(late.error(504, "iris").contains("request"), "{late}");
    gate.open();
}

#[tokio::test]
async fn a_queued_request_that_is_over_never_reaches_the_app() {
    for setup in Setup::ALL {
        let way = Way::through(setup).timeout("request", "1s");
        let gate = way.lab.gate("start");
        let way = way.start_gate(&gate).start().await;
        let over = way.send(way.get("/").id("over")).await.unwrap().unwrap();
        assert!(over.error(504, "").contains("request"), "{way}: {over}");
        gate.open();
        way.warm().await;
        assert!(!way.lab.reached(NAME, "over"), "{way}");
    }
}

#[tokio::test]
async fn a_silent_stream_is_cut_not_ended() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).timeout("idle", "1s").start().await;
        let gate = way.lab.gate("rest");
        for (id, h2) in [("h1", false), ("h2", true)] {
            let call = way.get(&format!("/sse?n=2&hold={gate}")).id(id);
            let mut open = if h2 { call.h2() } else { call }.open(way.traffic).await.unwrap();
            assert_eq!(open.chunk().await.unwrap().unwrap(), "data: 0\n\n", "{way} {id}");
            let end = open.chunk().await;
            assert!(matches!(end, Some(Err(_))), "{way} {id}: neither text nor a clean end: {end:?}");
            assert!(!way.done(id).await, "{way} {id}: the app is told");
            assert_eq!(
                way.get("/").send(way.traffic).await.unwrap().status,
                200,
                "{way} {id}: the slot is free"
            );
        }
    }
}

#[tokio::test]
async fn http_1_0_sees_the_difference_too() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).timeout("idle", "1s").start().await;
        let gate = way.lab.gate("rest");
        let mut raw = Raw::connect(way.traffic).await;
        raw.send(format!("GET /sse?n=2&hold={gate} HTTP/1.0\r\nhost: {}\r\n\r\n", host(NAME))).await;
        raw.until("data: 0\n\n").await;
        // Its body ends with the connection: only a reset is no end.
        assert!(raw.end().await.is_err(), "{way}: it ended cleanly");
        way.idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_more_loses_its_slot() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).timeout("idle", "2s").start().await;
        for (id, h2) in [("h1", false), ("h2", true)] {
            let call = way.get("/bytes?n=1073741824").id(id);
            let mut open = if h2 { call.h2() } else { call }.open(way.traffic).await.unwrap();
            assert!(open.chunk().await.unwrap().is_ok());
            // It stays connected, and reads nothing.
            let next = way.get("/").send(way.traffic).await.unwrap();
            assert_eq!(next.status, 200, "{way} {id}: {next}");
            assert!(!way.done(id).await, "{way} {id}");
            let end = open.count().await;
            assert!(end.is_err(), "{way} {id}: cut, not ended: {end:?}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_moves_and_an_app_that_thinks_are_not_idle() {
    for setup in Setup::ALL {
        let way = Way::through(setup).timeout("idle", "4s").timeout("responseStart", "5s").start().await;
        let (call, pieces) = Call::post_pieces(&host(NAME), "/sink");
        let upload = way.send(call);
        // Longer than either bound in all.
        for _ in 0..20 {
            pieces.send("piece".into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        drop(pieces);
        let upload = upload.await.unwrap().unwrap();
        assert_eq!((upload.status, &upload.json()["bytes"]), (200, &100.into()), "{way}: {upload}");

        let way = Way::through(setup).timeout("idle", "1s").start().await;
        let thinks = way.get("/sleep?ms=2500").send(way.traffic).await.unwrap();
        assert_eq!(thinks.status, 200, "{way}: {thinks}");
        let body = way.post("/sleep?ms=2500", "with a body").send(way.traffic).await.unwrap();
        assert_eq!(body.status, 200, "{way}: {body}");
        // A connection that rests is nobody's idle request.
        let mut wire = Wire::open(way.traffic, false).await.unwrap();
        assert_eq!(wire.send(way.get("/")).await.unwrap().status, 200);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(wire.send(way.get("/")).await.unwrap().status, 200, "{way}");
    }
}

#[tokio::test]
async fn a_tunnel_is_idle_when_both_are_silent() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).limit(1).timeout("idle", "4s").start().await;
        let mut raw = Raw::connect(way.traffic).await;
        let head =
            "GET /ws-echo HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: echo\r\nx-request-id: ws\r\nhost: ";
        raw.send(format!("{head}{}\r\n\r\n", host(NAME))).await;
        raw.until("\r\n\r\n").await;
        for i in 0..10 {
            raw.send(format!("{i};")).await;
            raw.until(&format!("{i};")).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let _ = raw.end().await;
        assert!(way.get("/").send(way.traffic).await.unwrap().status == 200, "{way}: the slot is free");
        way.front().signal(Signal::TERM);
        wait_until(SOON, "it drains", async || way.front().exited().map(drop).ok_or("runs")).await;
    }
}
