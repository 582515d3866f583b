//! HTTP/1.1: bodies and trailers both ways, and answers that come before the body was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::support::{Lab, NAME, Raw, RawApp, SOON, Setup, Way, holds, wait_until};

on_each_setup!(
    chunks_and_trailers_pass_both_ways,
    a_get_keeps_its_body,
    an_early_response_comes_while_the_body_is_sent,
    a_client_that_breaks_off_behind_an_early_answer_frees_its_slot,
    a_response_that_is_complete_before_the_body_frees_the_app,
    an_app_that_refuses_a_body_is_heard,
);

async fn chunks_and_trailers_pass_both_ways(setup: Setup) {
    let app = RawApp::start(|mut conn| async move {
        while let Some(message) = conn.message().await {
            assert_eq!(message.trailers, "x-sum: 7\r\n", "{message:?}");
            assert_eq!(message.body, b"hello world");
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-check\r\n\r\n";
            conn.send(format!("{head}5\r\nhello\r\n2;a=b\r\n, \r\n5\r\nworld\r\n0\r\nx-check: 42\r\n\r\n"))
                .await
                .unwrap();
        }
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    for _ in 0..2 {
        client.forget();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n",
            way.host()
        );
        client.send(format!("{head}6\r\nhello \r\n")).await;
        client.send("5\r\nworld\r\n0\r\nx-sum: 7\r\n\r\n").await;
        let text = client.until("x-check: 42\r\n\r\n").await;
        assert!(text.contains("transfer-encoding: chunked"), "{text}");
        assert!(!text.contains("a=b"), "chunk extensions end at a hop: {text}");
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let data: String = body.split("\r\n").filter(|line| line.contains(['l', ','])).collect();
        assert_eq!(data, "hello, world", "{text}");
    }
    assert_eq!(app.received().len(), 1);
}

async fn a_get_keeps_its_body(setup: Setup) {
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    let head = format!("GET /q HTTP/1.1\r\nhost: {}\r\n", way.host());
    client.send(format!("{head}content-length: 5\r\n\r\nhello")).await;
    client.until("GET /q|hello").await;
    client.forget();
    client.send(format!("{head}transfer-encoding: chunked\r\n\r\n3\r\nyou\r\n0\r\n\r\n")).await;
    client.until("GET /q|you").await;
    client.forget();
    client.send(format!("{head}transfer-encoding: chunked\r\n\r\n0\r\n\r\n")).await;
    client.until("GET /q|").await;
}

async fn an_early_response_comes_while_the_body_is_sent(setup: Setup) {
    let app = RawApp::start(|mut conn| async move {
        let Some(_) = conn.head().await else { return };
        conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n").await.unwrap();
        // The rest of the answer once all of the body is here.
        let mut rest = 0;
        while rest < 100_000 {
            rest += conn.some().await;
        }
        conn.send("4\r\nlate\r\n0\r\n\r\n").await.unwrap();
        conn.drain().await;
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    client
        .send(format!("POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 100000\r\n\r\nabc", way.host()))
        .await;
    let text = client.until("early").await;
    assert!(text.starts_with("HTTP/1.1 200") && !text.contains("late"), "{text}");
    client.send(vec![b'x'; 99_997]).await;
    client.until("late\r\n0\r\n\r\n").await;
}

async fn a_client_that_breaks_off_behind_an_early_answer_frees_its_slot(setup: Setup) {
    let app = RawApp::start(|mut conn| async move {
        let Some(_) = conn.head().await else { return };
        conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n").await.unwrap();
        // It waits for all of the body before it goes on.
        while conn.some().await > 0 {}
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    for coding in ["content-length: 100000\r\n\r\nbegun", "transfer-encoding: chunked\r\n\r\n5\r\nbeg"] {
        for reset in [false, true] {
            let mut client = Raw::connect(way.traffic).await;
            client.send(format!("POST / HTTP/1.1\r\nhost: {}\r\n{coding}", way.host())).await;
            client.until("early").await;
            if reset {
                client.reset();
            } else {
                client.finish().await;
            }
            way.idle().await;
        }
    }
    if setup != Setup::Both {
        let metrics = way.metrics().await;
        assert!(!metrics.contains("cut_short"), "the app has done nothing wrong: {metrics}");
    }
}

async fn a_response_that_is_complete_before_the_body_frees_the_app(setup: Setup) {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let app = RawApp::start(move |mut conn| {
        let served = count.clone();
        async move {
            // It never reads the body, and keeps the connection open.
            if conn.head().await.is_some() {
                served.fetch_add(1, Ordering::SeqCst);
                conn.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig").await.unwrap();
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    let length = 1_u64 << 40;
    client.send(format!("POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n", way.host())).await;
    client.stuff(1 << 20, Duration::from_millis(200)).await;
    let text = client.until("big").await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    // It goes on sending, and is told to stop by the end of the connection.
    wait_until(SOON, "the connection ends", async || holds(!client.try_send("x").await, "open")).await;
    way.idle().await;
    assert_eq!(served.load(Ordering::SeqCst), 1);
}

async fn an_app_that_refuses_a_body_is_heard(setup: Setup) {
    let answered = Arc::new(Notify::new());
    let told = answered.clone();
    let app = RawApp::start(move |mut conn| {
        let answered = told.clone();
        async move {
            if conn.head().await.is_some() {
                let head = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\n";
                conn.send(format!("{head}content-length: 3\r\n\r\nbig")).await.unwrap();
                conn.finish().await;
                // As nginx does: it waits until the client has heard it, then closes with bytes unread.
                answered.notified().await;
            }
        }
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    client
        .send(format!("POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 100000000\r\n\r\n", way.host()))
        .await;
    client.stuff(1 << 20, Duration::from_millis(200)).await;
    let text = client.until("\r\n\r\nbig").await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    answered.notify_one();
    let (text, _) = client.closed().await;
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
}

/// Whether the connection goes on after a refusal that did not wait for the body: it does, or the answer says that it
/// does not. A client that learns of it by sending its next request cannot tell what became of that.
#[tokio::test]
async fn a_refusal_says_whether_the_connection_goes_on() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app(NAME)]).serve().start().await;
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nhost: no.such.host\r\n{fields}\r\n\r\n");
    let (sized, chunked) = (post("content-length: 5"), post("transfer-encoding: chunked"));
    for (begun, rest, goes_on) in [
        (post("content-length: 0"), "", true),
        (format!("{sized}hello"), "", true),
        (format!("{sized}he"), "llo", false),
        (format!("{chunked}5\r\nhello\r\n0\r\n\r\n"), "", false),
        (format!("{chunked}5\r\nhe"), "llo\r\n0\r\n\r\n", false),
    ] {
        let mut client = Raw::connect(serve.traffic).await;
        client.send(&begun).await;
        let answer = client.until("}}\n").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{begun:?}: {answer}");
        assert_eq!(!answer.contains("connection: close"), goes_on, "{begun:?}: {answer}");
        client.forget();
        client.try_send(rest).await;
        if goes_on {
            client.send(post("content-length: 0")).await;
            client.until("}}\n").await;
        } else {
            assert_eq!(client.closed().await, (String::new(), false), "{begun:?}");
        }
    }
}
