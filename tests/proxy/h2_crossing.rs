//! HTTP/1 clients with HTTP/2 apps, and the other way round.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::h2_apps::{Asked, Count, h2_only, listen};
use crate::h2_raw::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, RawH2, fields, frame, request};
use crate::support::{Call, Raw, RawApp, SOON, Setup, Way, holds, wait_until};

#[tokio::test]
async fn auto_finds_an_app_that_speaks_http2_alone() {
    for setup in Setup::ALL {
        let app = h2_only(Asked::echo).await;
        let way = Way::through(setup).at(app).cold().start().await;
        for (n, h2) in [false, true, false].into_iter().enumerate() {
            let call = way.post("/echo", "hello").header("te", "trailers");
            let call = call.header("cookie", "a=1").header("cookie", "b=2");
            let reply = if h2 { call.h2() } else { call }.send(way.traffic).await.unwrap();
            assert_eq!((reply.status, reply.text()), (200, "hello".into()), "{way} {n}: {reply}");
            assert_eq!(reply.header("x-authority"), way.host(), "{way} {n}");
            assert_eq!(reply.header("x-te"), "trailers", "{way} {n}");
            assert_eq!(reply.trailers.get("x-end").unwrap(), "1", "{way} {n}");
            if h2 {
                assert_eq!(reply.header("x-cookie"), "a=1; b=2", "{way} {n}");
            }
        }
        way.idle().await;
    }
}

#[tokio::test]
async fn an_http2_app_gets_the_cookies_and_trailers_of_http1_and_no_fields_of_its_connection() {
    for setup in Setup::ALL {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let app = h2_only(move |mut asked: Asked| {
            let tell = tell.clone();
            async move {
                let body = asked.request.body_mut();
                let data = body.data().await.unwrap().unwrap();
                let trailers = body.trailers().await.unwrap().unwrap_or_default();
                tell.send((asked.request.headers().clone(), data, trailers)).await.unwrap();
                asked.ok("done");
            }
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let mut client = Raw::connect(way.traffic).await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nhost: {}\r\nconnection: keep-alive, x-mine\r\nx-mine: 1\r\ncookie: a=1; b=2\r\n\
                 trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n",
                way.host()
            ))
            .await;
        client.until("done").await;
        let (head, data, trailers) = told.recv().await.unwrap();
        let cookies: Vec<_> = head.get_all("cookie").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!((cookies.join("; ").as_str(), &data[..]), ("a=1; b=2", &b"hello"[..]), "{way}: {head:?}");
        assert_eq!(trailers["x-sum"], "7", "{way}: {trailers:?}");
        for gone in ["host", "connection", "x-mine", "keep-alive", "transfer-encoding"] {
            assert!(!head.contains_key(gone), "{way}: {gone}: {head:?}");
        }
    }
}

#[tokio::test]
async fn an_http1_app_gets_one_host_one_cookie_and_the_trailers() {
    for setup in Setup::ALL {
        let app = RawApp::start(|mut conn| async move {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n";
            while conn.message().await.is_some() {
                conn.send(format!("{head}2\r\nok\r\n0\r\nx-end: 1\r\n\r\n")).await.unwrap();
            }
        })
        .await;
        let way = Way::through(setup).protocol("http1").at(app.addr).start().await;
        let call = way.get("/x?y=1").header("cookie", "a=1").header("cookie", "b=2");
        let reply = call.header("te", "trailers").h2().send(way.traffic).await.unwrap();
        assert_eq!((reply.status, reply.text()), (200, "ok".into()), "{way}: {reply}");
        assert_eq!(reply.trailers["x-end"], "1", "{way}: {reply}");
        let mut raw = RawH2::connect(way.traffic, &[]).await;
        raw.request(1, 0, &request("POST", &way.host(), "/sum", &[("trailer", "x-sum")])).await;
        raw.send(frame(DATA, 0, 1, b"hello")).await.unwrap();
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x-sum", "7")]));
        raw.send(trailers).await.unwrap();
        raw.until(DATA).await;
        let came = app.received().concat().to_ascii_lowercase();
        for once in
            ["get /x?y=1 http/1.1\r\n", "\r\ncookie: a=1; b=2\r\n", "\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n"]
        {
            assert_eq!(came.matches(once).count(), 1, "{way}: {once:?} in {came}");
        }
        assert_eq!(came.matches(&format!("\r\nhost: {}\r\n", way.host())).count(), 2, "{way}: {came}");
        assert_eq!(came.matches("\r\nhost:").count(), 2, "{way}: one a message: {came}");
        assert!(!came.contains("\r\n:") && came.matches("\r\ncookie:").count() == 1, "{way}: {came}");
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
    for setup in Setup::ALL {
        let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let way = Way::through(setup).at(strict_h1(seen.clone()).await).start().await;
        for _ in 0..3 {
            assert_eq!(way.get("/").send(way.traffic).await.unwrap().status, 200);
        }
        assert!(seen.lock().iter().all(|line| line == "GET / HTTP/1.1"), "{:?}", seen.lock());
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            calls.spawn(way.get("/").h2().send(way.traffic));
        }
        for reply in calls.join_all().await {
            assert_eq!(reply.unwrap().status, 200);
        }
        let odd = seen.lock().iter().filter(|line| line.starts_with("PRI")).count();
        assert_eq!(odd, 1, "{:?}", seen.lock());
    }
}

#[tokio::test]
async fn silence_is_no_answer_for_good() {
    for setup in Setup::ALL {
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
        let way = Way::through(setup).at(app).start().await;
        for _ in 0..2 {
            let reply = way.get("/").h2().send(way.traffic).await.unwrap();
            assert_eq!((reply.status, reply.text()), (200, "ok".into()));
        }
        assert_eq!(asked.get(), 1, "not asked again at once");
    }
}

#[tokio::test]
async fn heads_without_bodies_cross_both_ways() {
    for setup in Setup::ALL {
        let h2_app = h2_only(|mut asked: Asked| async move {
            let code = asked.request.uri().query().and_then(|query| query.strip_prefix("code="));
            let length = if code.is_none() { "1000" } else { "0" };
            let head =
                http::Response::builder().status(code.unwrap_or("200")).header("content-length", length);
            let _ = asked.answer.send_response(head.body(()).unwrap(), true);
        })
        .await;
        let to_h1 = Way::through(setup).protocol("http1").start().await;
        let to_h2 = Way::through(setup).protocol("h2c").at(h2_app).start().await;
        for (way, app) in [(to_h1, "h1"), (to_h2, "h2")] {
            for h2 in [false, true] {
                let wire = |call: Call| if h2 { call.h2() } else { call };
                let call = wire(way.get("/bytes?n=1000").method("HEAD"));
                let reply = call.send(way.traffic).await.unwrap();
                assert_eq!((reply.status, reply.body.len()), (200, 0), "{way} {app} {h2}: {reply}");
                assert_eq!(reply.header("content-length"), "1000", "{way} {app} {h2}");
                let code = wire(way.get("/status?code=204")).send(way.traffic).await.unwrap();
                assert_eq!((code.status, code.body.len()), (204, 0), "{way} {app} {h2}: {code}");
            }
            way.idle().await;
        }
    }
}

#[tokio::test]
async fn empty_data_and_a_length_that_is_wrong() {
    for setup in Setup::ALL {
        let way = Way::through(setup).protocol("http1").start().await;
        let mut raw = RawH2::connect(way.traffic, &[]).await;
        let host = way.host();
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
        assert_eq!(send(1, "4", &[b"", b"ab", b"", b"cd", b""]).await, Ok(b"abcd".to_vec()), "{way}");
        assert!(send(3, "4", &[b"abc"]).await.is_err(), "{way}: too short");
        assert!(send(5, "4", &[b"abc", b"de"]).await.is_err(), "{way}: too long");
        // The connection to the app ended with the broken request, and no part of it became another.
        let reply = way.get("/").send(way.traffic).await.unwrap();
        assert_eq!(reply.status, 200);
        wait_until(SOON, "nothing is left at the app", async || {
            let stats = way.get("/stats").send(way.traffic).await?.json();
            holds(stats["in_flight"] == 0, stats)
        })
        .await;
        way.idle().await;
    }
}

#[tokio::test]
async fn informational_answers_of_an_http2_app_are_dropped() {
    for setup in Setup::ALL {
        let app = h2_only(|mut asked: Asked| async move {
            for code in [100, 102, 103] {
                let head = http::Response::builder().status(code).header("link", "</x>").body(()).unwrap();
                let _ = asked.answer.send_informational(head);
            }
            asked.ok("final");
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        for h2 in [false, true] {
            let call = way.get("/");
            let reply = if h2 { call.h2() } else { call }.send(way.traffic).await.unwrap();
            assert_eq!((reply.status, reply.text()), (200, "final".into()), "{way}: {reply}");
            assert_eq!(reply.header("link"), "");
        }
    }
}
