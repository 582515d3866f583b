//! HTTP/1.0 and 1.1: connections, order, heads.

use crate::support::{Raw, RawApp, Setup, Way, Wire};

on_each_setup!(
    connections_are_kept_and_pipelined_requests_answered_in_order,
    a_continue_waits_for_a_slot,
    head_and_bodiless_statuses_have_none,
    interim_responses_are_dropped,
    http_10_with_and_without_keep_alive,
    close_is_said_and_done,
    a_connection_lasts_for_thousands_of_requests,
);

async fn connections_are_kept_and_pipelined_requests_answered_in_order(setup: Setup) {
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).start().await;
    let host = way.host();
    let mut client = Raw::connect(way.traffic).await;
    let get = |n| format!("GET /{n} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let post = |n, body: &str| {
        let length = body.len();
        format!("POST /{n} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let chunked = format!(
        "POST /4 HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\nb\r\n0\r\n\r\n"
    );
    // In one write; bodies with bare line feeds, which are no business of ours.
    let all = [get(1), post(2, "x\ny\n"), get(3), chunked, get(5)].concat();
    client.send(&all).await;
    let text = client.until("GET /5|").await;
    let at: Vec<_> = ["GET /1|", "POST /2|x\ny\n", "GET /3|", "POST /4|a\nb", "GET /5|"]
        .iter()
        .map(|body| text.find(body).unwrap_or_else(|| panic!("{body:?} is not in {text}")))
        .collect();
    assert!(at.is_sorted(), "out of order: {text}");
    // The same in small pieces, on the same connection.
    client.forget();
    for piece in all.as_bytes().chunks(29) {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    client.until("GET /5|").await;
    assert_eq!(app.received().len(), 1, "one connection to the app serves them all: {:?}", app.received());
}

async fn a_continue_waits_for_a_slot(setup: Setup) {
    let way = Way::through(setup).limit(1).start().await;
    let gate = way.lab.gate("end");
    let held = way.send(way.get(&format!("/hold?file={gate}")).id("held"));
    way.reached("held").await;
    let mut client = Raw::connect(way.traffic).await;
    let host = way.host();
    let length = "content-length: 5\r\n";
    client.send(format!("POST /echo HTTP/1.1\r\nhost: {host}\r\n{length}expect: 100-continue\r\n\r\n")).await;
    way.queued(1).await;
    assert_eq!(client.peek(), "", "no 100 before there is a slot");
    gate.open();
    client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("hello").await;
    let answer = client.until("hello").await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert_eq!(answer.matches("100 Continue").count(), 1, "{answer}");
    assert_eq!(held.await.unwrap().unwrap().status, 200);
}

async fn head_and_bodiless_statuses_have_none(setup: Setup) {
    let app = RawApp::start(|mut conn| async move {
        while let Some(message) = conn.message().await {
            let answer = match message.line() {
                "HEAD /long" => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
                "HEAD /chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                "GET /204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "GET /304" => "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend",
            };
            conn.send(answer).await.unwrap();
        }
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    let lines = ["HEAD /long", "HEAD /chunked", "GET /204", "GET /304", "GET /end"];
    let all = lines.map(|line| format!("{line} HTTP/1.1\r\nhost: {}\r\n\r\n", way.host())).concat();
    client.send(all).await;
    let text = client.until("\r\n\r\nend").await.to_ascii_lowercase();
    let heads: Vec<&str> = text.split("\r\n\r\n").collect();
    assert_eq!(heads.len(), 6, "five heads and one body: {text}");
    for (head, status) in heads.iter().zip(["200", "200", "204", "304", "200"]) {
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{text}");
    }
    assert!(heads[0].contains("content-length: 1000"), "{text}");
    for none in &heads[1..4] {
        assert!(!none.contains("content-length") && !none.contains("transfer-encoding"), "{text}");
    }
    assert!(heads[3].contains("etag: \"x\""));
}

async fn interim_responses_are_dropped(setup: Setup) {
    let answer = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
    let app = RawApp::answering(answer).await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    for _ in 0..2 {
        client.forget();
        client.send(format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", way.host())).await;
        let text = client.until("done").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && !text.contains("link"), "{text}");
    }
    // HTTP/2 could carry them; it does not get them either.
    let reply = Wire::open(way.traffic, true).await.unwrap().send(way.get("/").h2()).await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "done"));
}

async fn http_10_with_and_without_keep_alive(setup: Setup) {
    let app = RawApp::start(|mut conn| async move {
        while let Some(message) = conn.message().await {
            let answer = match message.line() {
                "GET /chunked" => {
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone",
            };
            conn.send(answer).await.unwrap();
        }
    })
    .await;
    let mut way = Way::through(setup).at(app.addr).start().await;
    let host = way.host();
    // It ends by itself.
    let mut client = Raw::connect(way.traffic).await;
    client.send(format!("GET / HTTP/1.0\r\nhost: {host}\r\n\r\n")).await;
    let (text, reset) = client.closed().await;
    assert!(text.starts_with("HTTP/1.0 200") && text.ends_with("\r\n\r\ndone") && !reset, "{text}");
    // It stays when it is asked to, and says so.
    let mut client = Raw::connect(way.traffic).await;
    for _ in 0..2 {
        client.forget();
        client.send(format!("GET / HTTP/1.0\r\nhost: {host}\r\nconnection: keep-alive\r\n\r\n")).await;
        let text = client.until("done").await.to_ascii_lowercase();
        assert!(text.starts_with("http/1.0 200") && text.contains("connection: keep-alive"), "{text}");
    }
    // Nothing is chunked for it: such a response ends with the connection, also if it had asked to keep that.
    client.forget();
    client.send(format!("GET /chunked HTTP/1.0\r\nhost: {host}\r\nconnection: keep-alive\r\n\r\n")).await;
    let (text, reset) = client.closed().await;
    assert!(text.ends_with("\r\n\r\ndone") && !reset, "{text}");
    assert!(!text.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
    // It needs no host where there is only one service.
    let any_host = way.any_host().await;
    let mut client = Raw::connect(any_host).await;
    client.send("GET /hostless HTTP/1.0\r\n\r\n").await;
    let (text, _) = client.closed().await;
    assert!(text.starts_with("HTTP/1.0 200"), "{text}");
    let received = app.received().concat();
    let hostless = received.split("GET /hostless").nth(1).unwrap();
    assert_eq!(hostless.to_ascii_lowercase().matches("\r\nhost: ").count(), 1, "{received}");
    // HTTP/1.1 does.
    let mut client = Raw::connect(any_host).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    let (text, _) = client.closed().await;
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
}

async fn close_is_said_and_done(setup: Setup) {
    let app = RawApp::answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    client.send(format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", way.host())).await;
    let (text, reset) = client.closed().await;
    assert!(text.to_ascii_lowercase().contains("connection: close") && text.ends_with("done"), "{text}");
    assert!(!reset);
    // The client's wish is about its connection; the one to the app is kept.
    let mut client = Raw::connect(way.traffic).await;
    client.send(format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", way.host())).await;
    client.until("done").await;
    let received = app.received();
    assert!(received.len() == 1 && !received[0].contains("close"), "{received:?}");
}

async fn a_connection_lasts_for_thousands_of_requests(setup: Setup) {
    // More bytes of heads than one response may send before it: what is bounded for one request starts anew with the
    // next, also when each answer comes in one read.
    const REQUESTS: usize = 2_000;
    let fields = "x: ".to_owned() + &"y".repeat(400);
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: 4\r\n\r\ndone");
    let app = RawApp::answering(answer.leak()).await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut wire = Wire::open(way.traffic, false).await.unwrap();
    for n in 0..REQUESTS {
        let reply = wire.send(way.get("/")).await.unwrap();
        assert_eq!(reply.status, 200, "request {n}: {reply}");
    }
    assert_eq!(app.received().len(), 1, "over one connection");
}
