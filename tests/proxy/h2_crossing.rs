//! HTTP/1 clients with HTTP/2 apps, and the other way round.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::h2_apps::{Count, h2_only, listen};
use crate::h2_front::Hop;
use crate::h2_raw::{DATA, END_STREAM, HEADERS, RST_STREAM, RawH2, frame, request};
use crate::support::{Call, SOON, holds, wait_until};

#[tokio::test]
async fn auto_finds_an_app_that_speaks_http2_alone() {
    for hop in Hop::ALL {
        let app = h2_only(super::h2_apps::Asked::echo).await;
        let front = hop.setup().app(app).await;
        for (n, h2) in [false, true, false].into_iter().enumerate() {
            let call = Call::post(&front.host(), "/echo", "hello").header("te", "trailers");
            let call = call.header("cookie", "a=1").header("cookie", "b=2");
            let reply = if h2 { call.h2() } else { call }.send(front.addr).await.unwrap();
            assert_eq!((reply.status, reply.text()), (200, "hello".into()), "{hop:?} {n}: {reply}");
            assert_eq!(reply.header("x-authority"), front.host(), "{hop:?} {n}");
            assert_eq!(reply.header("x-te"), "trailers", "{hop:?} {n}");
            assert_eq!(reply.trailers.get("x-end").unwrap(), "1", "{hop:?} {n}");
            if h2 {
                assert_eq!(reply.header("x-cookie"), "a=1; b=2", "{hop:?} {n}");
            }
        }
        front.settled().await;
    }
}

/// A plain HTTP/1.1 app: one request a connection, and a note of every first line.
async fn strict_h1(seen: std::sync::Arc<parking_lot::Mutex<Vec<String>>>) -> std::net::SocketAddr {
    listen(move |_, mut stream| {
        let seen = seen.clone();
        async move {
            let mut bytes = Vec::new();
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let line = text.lines().next().unwrap_or_default().to_owned();
            let answer = if line.ends_with("HTTP/1.1") {
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
            } else {
                "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            };
            seen.lock().push(line);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_ordinary_app_gets_nothing_odd_from_http1_and_one_question_from_http2() {
    let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let front = Hop::QueueProxy.setup().app(strict_h1(seen.clone()).await).await;
    for _ in 0..3 {
        assert_eq!(front.get("/").send(front.addr).await.unwrap().status, 200);
    }
    assert!(seen.lock().iter().all(|line| line == "GET / HTTP/1.1"), "{:?}", seen.lock());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        calls.spawn(front.get("/").h2().send(front.addr));
    }
    for reply in calls.join_all().await {
        assert_eq!(reply.unwrap().status, 200);
    }
    let odd = seen.lock().iter().filter(|line| line.starts_with("PRI")).count();
    assert_eq!(odd, 1, "{:?}", seen.lock());
}

#[tokio::test]
async fn silence_is_no_answer_for_good() {
    // Answers HTTP/1 at once; says nothing to the first question, and SETTINGS to the second.
    let asked = Count::default();
    let questions = asked.clone();
    let app = listen(move |_, mut stream| {
        let asked = questions.clone();
        async move {
            let mut first = [0; 3];
            if stream.read_exact(&mut first).await.is_err() {
                return;
            }
            if &first == b"PRI" {
                asked.one();
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                return;
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let front = Hop::QueueProxy.setup().app(app).await;
    for _ in 0..2 {
        let reply = front.get("/").h2().send(front.addr).await.unwrap();
        assert_eq!((reply.status, reply.text()), (200, "ok".into()));
    }
    assert_eq!(asked.get(), 1, "not asked again at once");
}

#[tokio::test]
async fn heads_without_bodies_cross_both_ways() {
    for hop in Hop::ALL {
        let h2_app = h2_only(|mut asked: super::h2_apps::Asked| async move {
            let code = asked.request.uri().query().and_then(|query| query.strip_prefix("code="));
            let length = if code.is_none() { "1000" } else { "0" };
            let head =
                http::Response::builder().status(code.unwrap_or("200")).header("content-length", length);
            let _ = asked.answer.send_response(head.body(()).unwrap(), true);
        })
        .await;
        let fronts =
            [hop.setup().protocol("http1").testapp().await, hop.setup().protocol("h2c").app(h2_app).await];
        for (front, app) in fronts.iter().zip(["h1", "h2"]) {
            for h2 in [false, true] {
                let wire = |call: Call| if h2 { call.h2() } else { call };
                let call = wire(front.get("/bytes?n=1000").method("HEAD"));
                let reply = call.send(front.addr).await.unwrap();
                assert_eq!((reply.status, reply.body.len()), (200, 0), "{hop:?} {app} {h2}: {reply}");
                assert_eq!(reply.header("content-length"), "1000", "{hop:?} {app} {h2}");
                let code = wire(front.get("/status?code=204")).send(front.addr).await.unwrap();
                assert_eq!((code.status, code.body.len()), (204, 0), "{hop:?} {app} {h2}: {code}");
            }
            front.settled().await;
        }
    }
}

#[tokio::test]
async fn empty_data_and_a_length_that_is_wrong() {
    for hop in Hop::ALL {
        let front = hop.setup().protocol("http1").testapp().await;
        let mut raw = RawH2::connect(front.addr, &[]).await;
        let host = front.host();
        let mut send = async |stream: u32, length: &str, parts: &[&[u8]]| {
            raw.request(stream, 0, &request("POST", &host, "/echo", &[("content-length", length)])).await;
            for (i, part) in parts.iter().enumerate() {
                let end = if i + 1 == parts.len() { END_STREAM } else { 0 };
                raw.send(frame(DATA, end, stream, part)).await.unwrap();
            }
            let mut body = Vec::new();
            loop {
                let next = raw.until_any(&[HEADERS, DATA, RST_STREAM]).await.unwrap();
                if next.stream != stream {
                    continue;
                }
                match next.kind {
                    DATA => body.extend(&next.payload),
                    RST_STREAM => return Err(next.code()),
                    _ => {}
                }
                if next.flags & END_STREAM != 0 {
                    return Ok(body);
                }
            }
        };
        assert_eq!(send(1, "4", &[b"", b"ab", b"", b"cd", b""]).await, Ok(b"abcd".to_vec()), "{hop:?}");
        assert!(send(3, "4", &[b"abc"]).await.is_err(), "{hop:?}: too short");
        assert!(send(5, "4", &[b"abc", b"de"]).await.is_err(), "{hop:?}: too long");
        // The connection to the app ended with the broken request, and no part of it became another.
        let reply = front.get("/").send(front.addr).await.unwrap();
        assert_eq!(reply.status, 200);
        wait_until(SOON, "nothing is left at the app", async || {
            let stats = front.get("/stats").send(front.addr).await?.json();
            holds(stats["in_flight"] == 0, stats)
        })
        .await;
        front.settled().await;
    }
}

#[tokio::test]
async fn informational_answers_of_an_http2_app_are_dropped() {
    for hop in Hop::ALL {
        let app = h2_only(|mut asked: super::h2_apps::Asked| async move {
            for code in [100, 102, 103] {
                let head = http::Response::builder().status(code).header("link", "</x>").body(()).unwrap();
                let _ = asked.answer.send_informational(head);
            }
            asked.ok("final");
        })
        .await;
        let front = hop.setup().protocol("h2c").app(app).await;
        for h2 in [false, true] {
            let call = front.get("/");
            let reply = if h2 { call.h2() } else { call }.send(front.addr).await.unwrap();
            assert_eq!((reply.status, reply.text()), (200, "final".into()), "{hop:?}: {reply}");
            assert_eq!(reply.header("link"), "");
        }
    }
}
