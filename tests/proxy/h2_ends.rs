//! How streams and connections end: refused, reset, broken, drained.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::h2_apps::{Asked, Count, h2_connections, h2_only, listen};
use crate::h2_raw::{END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, RawH2, frame, request};
use crate::support::{Call, NAME, Raw, SOON, Setup, Way, holds, host, wait_until};

#[tokio::test]
async fn a_refused_stream_is_sent_once_more_and_no_more() {
    for setup in Setup::ALL {
        let (seen, bodies) = (Count::default(), Count::default());
        let (count, whole) = (seen.clone(), bodies.clone());
        let app = h2_only(move |asked: Asked| {
            let (n, whole) = (count.one(), whole.clone());
            async move {
                if n == 0 || asked.request.uri().path() == "/never" {
                    return asked.refuse(Reason::REFUSED_STREAM);
                }
                whole.one();
                asked.echo().await;
            }
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let reply = way.post("/once", "the body").send(way.traffic).await.unwrap();
        assert_eq!((reply.status, reply.text()), (200, "the body".into()), "{way}: {reply}");
        assert_eq!((seen.get(), bodies.get()), (2, 1), "{way}");
        let never = way.post("/never", "x").send(way.traffic).await.unwrap();
        assert!(never.error(502, "app").contains("refused"), "{way}: {never}");
        assert_eq!(seen.get(), 4, "{way}");
        // The hop next to the app counts them.
        let retries = if setup == Setup::Both { 0.0 } else { 2.0 };
        assert_eq!(way.metric("pilotlight_retries_total").await, retries, "{way}");
        way.idle().await;
    }
}

#[tokio::test]
async fn a_goaway_lets_what_runs_finish_and_the_rest_go_elsewhere() {
    for setup in Setup::ALL {
        let (open, gate) = tokio::sync::watch::channel(false);
        let held = Count::default();
        let holds_on = held.clone();
        let app = h2_connections(move |connection, mut streams| {
            let (gate, held) = (gate.clone(), holds_on.clone());
            async move {
                while let Some(Ok((request, answer))) = streams.accept().await {
                    let asked = Asked { request, answer };
                    match asked.request.uri().path() {
                        "/hold" => {
                            held.one();
                            let mut gate = gate.clone();
                            tokio::spawn(async move {
                                let _ = gate.wait_for(|open| *open).await;
                                asked.ok("held");
                            });
                        }
                        "/leave" => {
                            asked.ok("leaving");
                            streams.graceful_shutdown();
                        }
                        _ => asked.ok(if connection == 0 { "old" } else { "new" }),
                    }
                }
            }
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let hold = way.send(way.get("/hold"));
        wait_until(SOON, "one is held", async || holds(held.get() == 1, held.get())).await;
        assert_eq!(way.get("/leave").send(way.traffic).await.unwrap().text(), "leaving");
        wait_until(SOON, "new requests use a new connection", async || {
            let reply = way.get("/").send(way.traffic).await.unwrap();
            assert_eq!(reply.status, 200, "{way}: {reply}");
            holds(reply.text() == "new", reply)
        })
        .await;
        assert!(!hold.is_finished());
        open.send(true).unwrap();
        assert_eq!(hold.await.unwrap().unwrap().text(), "held", "{way}");
        way.idle().await;
    }
}

#[tokio::test]
async fn streams_above_the_last_of_a_goaway_are_sent_again() {
    // Takes two requests, then says that it processed only the first and answers that.
    for setup in Setup::ALL {
        let app = listen(|number, stream| async move {
            if number > 0 {
                let Ok(mut streams) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, answer))) = streams.accept().await {
                    tokio::spawn(Asked { request, answer }.echo());
                }
                return;
            }
            let mut raw = RawH2::accept(stream).await;
            let mut ids = Vec::new();
            while ids.len() < 2 {
                ids.push(raw.until(HEADERS).await.stream);
            }
            let goaway = [ids[0].to_be_bytes(), 0_u32.to_be_bytes()].concat();
            raw.send(frame(GOAWAY, 0, 0, &goaway)).await.unwrap();
            // `:status: 204`, from the static table.
            raw.send(frame(HEADERS, 5, ids[0], &[0x89])).await.unwrap();
            while raw.until_any(&[]).await.is_some() {}
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let mut calls = JoinSet::new();
        for body in ["one", "two"] {
            calls.spawn(way.post("/", body).send(way.traffic));
        }
        let replies = calls.join_all().await;
        let mut codes: Vec<_> = replies.iter().map(|reply| reply.as_ref().unwrap().status).collect();
        codes.sort_unstable();
        assert_eq!(codes, [200, 204], "{way}: {replies:?}");
    }
}

#[tokio::test]
async fn an_app_that_resets_in_the_middle_resets_the_client_with_its_code() {
    for setup in Setup::ALL {
        let app = h2_only(|mut asked: Asked| async move {
            let Ok(mut send) = asked.answer.send_response(http::Response::new(()), false) else { return };
            send.send_data(Bytes::from_static(b"some"), false).unwrap();
            // Only once the client has it: a reset overtakes data.
            let _ = asked.request.body_mut().data().await;
            send.send_reset(Reason::ENHANCE_YOUR_CALM);
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let mut raw = RawH2::connect(way.traffic, &[]).await;
        raw.request(1, 0, &request("POST", &way.host(), "/", &[])).await;
        let data = raw.until(super::h2_raw::DATA).await;
        assert_eq!(data.payload, b"some");
        raw.send(frame(super::h2_raw::DATA, 0, 1, b"go on")).await.unwrap();
        let reset = raw.until(RST_STREAM).await;
        let expected = u32::from(Reason::ENHANCE_YOUR_CALM);
        // Between the hops of "both" HTTP/2 is spoken as well.
        assert_eq!((reset.stream, reset.code()), (1, expected), "{way}");
        // An HTTP/1 client sees no clean end.
        let mut h1 = Raw::connect(way.traffic).await;
        h1.send(format!("POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\n\r\n", way.host())).await;
        h1.until("some").await;
        h1.send("go on").await;
        let (all, _) = h1.closed().await;
        assert!(all.starts_with("HTTP/1.1 200") && !all.contains("\r\n0\r\n"), "{way}: a clean end: {all:?}");
        way.idle().await;
    }
}

#[tokio::test]
async fn an_app_that_resets_before_its_answer_is_502() {
    for setup in Setup::ALL {
        let app = h2_only(|asked: Asked| async move { asked.refuse(Reason::INTERNAL_ERROR) }).await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        for h2 in [false, true] {
            let call = way.get("/");
            let reply = if h2 { call.h2() } else { call }.send(way.traffic).await.unwrap();
            assert!(reply.error(502, "app").contains("internal error"), "{way}: {reply}");
        }
        way.idle().await;
    }
}

#[tokio::test]
async fn a_client_that_resets_resets_the_app() {
    for setup in Setup::ALL {
        let (asked_for, reset) = (Count::default(), std::sync::Arc::new(parking_lot::Mutex::new(None)));
        let (seen, code) = (asked_for.clone(), reset.clone());
        let app = h2_only(move |mut asked: Asked| {
            let (seen, code) = (seen.clone(), code.clone());
            async move {
                seen.one();
                let reason = std::future::poll_fn(|cx| asked.answer.poll_reset(cx)).await;
                *code.lock() = reason.ok();
            }
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let mut raw = RawH2::connect(way.traffic, &[]).await;
        raw.request(1, 0, &request("POST", &way.host(), "/", &[])).await;
        wait_until(SOON, "the app has it", async || holds(asked_for.get() == 1, "not yet")).await;
        raw.send(frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await.unwrap();
        wait_until(SOON, "the app's stream is reset", async || holds(reset.lock().is_some(), "not yet"))
            .await;
        assert_eq!(*reset.lock(), Some(Reason::CANCEL), "{way}");
        way.idle().await;

        // An HTTP/1 app's connection is closed.
        let way = Way::through(setup).protocol("http1").start().await;
        let gate = way.lab.gate("never");
        let mut raw = RawH2::connect(way.traffic, &[]).await;
        let head = request("GET", &way.host(), &format!("/hold?file={gate}"), &[("x-request-id", "held")]);
        raw.request(1, END_STREAM, &head).await;
        way.reached("held").await;
        raw.send(frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await.unwrap();
        way.done("held").await;
        // The connection of the client is none the worse.
        raw.request(3, END_STREAM, &request("GET", &way.host(), "/", &[])).await;
        assert_eq!(raw.until(HEADERS).await.stream, 3);
        way.idle().await;
    }
}

#[tokio::test]
async fn a_broken_shared_connection_fails_its_streams_once_and_is_replaced() {
    for setup in Setup::ALL {
        let (cut, cutter) = tokio::sync::watch::channel(false);
        let held = Count::default();
        let seen = held.clone();
        let app = listen(move |number, stream| {
            let (mut cutter, held) = (cutter.clone(), seen.clone());
            async move {
                let Ok(mut streams) = h2::server::handshake::<_>(stream).await else { return };
                let serve = async {
                    let mut kept = Vec::new();
                    while let Some(Ok((request, answer))) = streams.accept().await {
                        let asked = Asked { request, answer };
                        if asked.request.uri().path() == "/hold" {
                            held.one();
                            kept.push(asked);
                        } else {
                            asked.ok("ok");
                        }
                    }
                };
                tokio::select! {
                    () = serve => {}
                    _ = cutter.wait_for(|cut| *cut), if number == 0 => {}
                }
            }
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let mut calls = JoinSet::new();
        for i in 0..5 {
            let call = way.post("/hold", "x");
            calls.spawn(if i % 2 == 0 { call } else { call.h2() }.send(way.traffic));
        }
        wait_until(SOON, "all are held", async || holds(held.get() == 5, held.get())).await;
        cut.send(true).unwrap();
        for reply in calls.join_all().await {
            reply.unwrap().error(502, "app");
        }
        assert_eq!(held.get(), 5, "{way}: sent again");
        wait_until(SOON, "a new connection serves", async || {
            let reply = way.get("/").send(way.traffic).await.unwrap();
            holds(reply.status == 200, reply)
        })
        .await;
        way.idle().await;
    }
}

#[tokio::test]
async fn a_drain_says_goaway_and_finishes_what_runs() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).start().await;
        let gate = way.lab.gate("end");
        let mut raw = RawH2::connect(way.traffic, &[]).await;
        let hold = request("GET", &way.host(), &format!("/hold?file={gate}"), &[("x-request-id", "held")]);
        raw.request(1, END_STREAM, &hold).await;
        way.reached("held").await;
        way.front().signal(Signal::TERM);
        let goaway = raw.until(GOAWAY).await;
        assert_eq!(goaway.code(), 0, "{way}");
        gate.open();
        assert_eq!(raw.until(HEADERS).await.stream, 1, "{way}");
        while raw.until_any(&[PING]).await.is_some() {}
        assert_eq!(way.front().wait(SOON).await, 0, "{way}");
    }
}

#[tokio::test]
async fn an_app_whose_host_vanished_is_noticed() {
    // The app's socket drops every packet from now on, as a host without power does: no FIN, no reset.
    let dead = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxy/py/dead_peer.py");
    let way = Way::through(Setup::QueueProxy).protocol("h2c").app(&["python3", dead, "$(PORT)"]);
    let way = way.cold().start().await;
    let started = std::time::Duration::from_secs(90);
    let reply = tokio::time::timeout(started, way.get("/").send(way.traffic)).await;
    let reply = reply.expect("noticed long before the response-start timeout").unwrap();
    reply.error(502, "app");
    // The next one gets a new connection, which works.
    let next = tokio::time::timeout(Duration::from_mins(1), way.get("/").send(way.traffic)).await;
    assert_eq!(next.unwrap().unwrap().status, 204);
}

#[tokio::test]
async fn an_error_made_here_has_no_body_where_head_was_asked() {
    for setup in Setup::ALL {
        let app = h2_only(|asked: Asked| async move { asked.refuse(Reason::REFUSED_STREAM) }).await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let reply = Call::head(&host(NAME), "/").h2().send(way.traffic).await.unwrap();
        assert_eq!((reply.status, reply.text()), (502, String::new()), "{way}: {reply}");
        assert!(reply.header("content-length").parse::<u64>().unwrap() > 0, "{way}: as GET's: {reply}");
    }
}
