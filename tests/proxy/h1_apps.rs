//! Apps that break HTTP/1: bounded, counted by kind, told once, and never a clean end for what was cut short.

use std::time::Duration;

use crate::support::{AppConn, LONG, Raw, RawApp, SOON, Setup, Way, Wire, holds, rss_bytes, wait_until};

on_each_setup!(
    what_is_no_answer_is_502,
    a_response_that_is_cut_short_has_no_clean_end,
    a_response_that_says_two_lengths_is_502,
    bytes_after_a_response_are_nobody_elses,
    responses_of_old_apps_end_with_their_connection,
    interim_responses_without_end_are_cut_off,
    slow_apps_are_waited_for_and_slow_readers_held_back,
);

const PLAIN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain";

/// An app that answers `GET /plain` as it should, and everything else as `script` does.
async fn app<F>(script: impl Fn(AppConn, String) -> F + Clone + Send + 'static) -> RawApp
where
    F: Future<Output = ()> + Send + 'static,
{
    RawApp::start(move |mut conn| {
        let script = script.clone();
        async move {
            while let Some(message) = conn.message().await {
                if message.line() != "GET /plain" {
                    return script(conn, message.line().to_owned()).await;
                }
                if conn.send(PLAIN).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// The app is still there for others.
async fn still_serves(way: &Way) {
    for _ in 0..2 {
        let reply = way.get("/plain").send(way.traffic).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "plain"), "{reply}");
    }
    way.idle().await;
}

/// What a hop makes of an app's fault; behind another hop it is an answer like any other.
async fn blamed(way: &Way, kind: &str, n: f64) {
    if way.setup == Setup::Both {
        return;
    }
    let counted = way.metric(&format!("pilotlight_app_errors_total{{kind=\"{kind}\"}}")).await;
    assert!((counted - n).abs() < 0.5, "{kind}: {counted} counted, not {n}");
    let told = || way.log().matches("the app broke an exchange").count();
    wait_until(SOON, "it is told", async || holds(told() >= 1, "nothing")).await;
    assert!(told() <= 8, "one line a kind: {}", way.log());
}

async fn what_is_no_answer_is_502(setup: Setup) {
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(300));
    let large = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(100_000));
    let endless = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(1 << 20));
    let app = app(move |mut conn, line| {
        let (fields, large, endless) = (fields.clone(), large.clone(), endless.clone());
        async move {
            let answer = match line.as_str() {
                "GET /garbage" => "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
                "GET /ssh" => "SSH-2.0-OpenSSH_9.2\r\n",
                "GET /folded" => "HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
                "GET /null" => "HTTP/1.1 200 OK\r\na: b\0c\r\ncontent-length: 0\r\n\r\n",
                "GET /status" => "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
                "GET /length" => "HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nplain",
                "GET /fields" => &fields,
                "GET /large" => &large,
                "GET /endless" => &endless,
                "GET /switch" => {
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
                }
                "GET /nothing" => "",
                "GET /half" => "HTTP/1.1 200 OK\r\ncontent-le",
                "GET /reset" => return conn.reset(),
                other => panic!("{other}"),
            };
            let _ = conn.send(answer).await;
            conn.finish().await;
            conn.drain().await;
        }
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    for (kind, paths) in [
        ("garbage", &["garbage", "ssh", "folded", "null", "status"][..]),
        ("head_too_large", &["fields", "large", "endless"]),
        ("framing", &["length"]),
        ("unasked_upgrade", &["switch"]),
        ("closed", &["nothing", "half", "reset"]),
    ] {
        for path in paths {
            for h2 in [false, true] {
                let call = way.get(&format!("/{path}"));
                let call = if h2 { call.h2() } else { call };
                let reply = call.send(way.traffic).await.unwrap_or_else(|e| panic!("{path}: {e}"));
                assert_eq!(reply.status, 502, "{path}: {reply}");
                reply.error(502, "");
            }
        }
        blamed(&way, kind, 2.0 * paths.len() as f64).await;
    }
    still_serves(&way).await;
}

async fn a_response_that_is_cut_short_has_no_clean_end(setup: Setup) {
    let app = app(|mut conn, line| async move {
        let answer = match line.as_str() {
            "GET /length" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart",
            "GET /chunk" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\npart",
            "GET /chunks" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
            "GET /nonsense" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\nxyz\r\n",
            other => panic!("{other}"),
        };
        conn.send(answer).await.unwrap();
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let paths = ["/length", "/chunk", "/chunks", "/nonsense"];
    for path in paths {
        for version in ["1.1", "1.0"] {
            let mut client = Raw::connect(way.traffic).await;
            client.send(format!("GET {path} HTTP/{version}\r\nhost: {}\r\n\r\n", way.host())).await;
            let (text, reset) = client.closed().await;
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
            let whole = if head.contains("chunked") {
                body.ends_with("0\r\n\r\n")
            } else if head.contains("content-length: 100") {
                body.len() == 100
            } else {
                // Its end is the connection's: only a reset tells that there was more.
                !reset
            };
            assert!(!whole, "{path} {version}: a clean end: {text:?}");
        }
        let mut wire = Wire::open(way.traffic, true).await.unwrap();
        let broken = wire.send(way.get(path).h2()).await;
        assert!(broken.is_err(), "{path}: a clean end of a stream: {broken:?}");
    }
    blamed(&way, "cut_short", 3.0 * paths.len() as f64).await;
    still_serves(&way).await;
}

async fn a_response_that_says_two_lengths_is_502(setup: Setup) {
    let app = app(|mut conn, line| async move {
        let fields = match line.as_str() {
            "GET /both" => "content-length: 3\r\ntransfer-encoding: chunked",
            "GET /turned" => "transfer-encoding: chunked\r\ncontent-length: 3",
            "GET /list" => "content-length: 5, 5",
            "GET /gzip" => "transfer-encoding: gzip, chunked",
            "GET /identity" => "transfer-encoding: identity",
            "GET /differ" => "content-length: 3\r\ncontent-length: 4",
            other => panic!("{other}"),
        };
        let _ = conn.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await;
        conn.drain().await;
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    for path in ["/both", "/turned", "/list", "/gzip", "/identity", "/differ"] {
        let reply = way.get(path).send(way.traffic).await.unwrap();
        assert_eq!(reply.status, 502, "{path}: {reply}");
    }
    blamed(&way, "framing", 6.0).await;
    still_serves(&way).await;
}

async fn bytes_after_a_response_are_nobody_elses(setup: Setup) {
    let app = app(|mut conn, line| async move {
        let answer = match line.as_str() {
            "GET /two" => format!("{PLAIN}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen"),
            "GET /longer" => format!("{PLAIN} and more"),
            "GET /204" => "HTTP/1.1 204 No Content\r\n\r\nstolen".to_owned(),
            "HEAD /head" => "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen".to_owned(),
            other => panic!("{other}"),
        };
        conn.send(answer).await.unwrap();
        // It would take another request, and answer it with what does not belong to it.
        if let Some(message) = conn.message().await {
            let _ = conn.send("HTTP/1.1 500 Used Again\r\ncontent-length: 0\r\n\r\n").await;
            panic!("the connection was used again: {message:?}");
        }
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    for line in ["GET /two", "GET /longer", "GET /204", "HEAD /head"] {
        client.forget();
        client.send(format!("{line} HTTP/1.1\r\nhost: {}\r\n\r\n", way.host())).await;
        client.until("\r\n\r\n").await;
        client.send(format!("GET /plain HTTP/1.1\r\nhost: {}\r\n\r\n", way.host())).await;
        let text = client.until("\r\n\r\nplain").await;
        let _ = client.until("plain").await;
        assert!(
            !text.contains("stolen") && !text.contains("more") && !text.contains("500"),
            "{line}: {text}"
        );
    }
    still_serves(&way).await;
}

async fn responses_of_old_apps_end_with_their_connection(setup: Setup) {
    let app = app(|mut conn, line| async move {
        let answer = match line.as_str() {
            "GET /old" => "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nto the end",
            "GET /old-length" => "HTTP/1.0 200 OK\r\ncontent-length: 10\r\n\r\nto the end",
            "GET /new" => "HTTP/1.1 200 OK\r\n\r\nto the end",
            other => panic!("{other}"),
        };
        conn.send(answer).await.unwrap();
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    // The client's connection is kept all the same.
    let mut wire = Wire::open(way.traffic, false).await.unwrap();
    for path in ["/old", "/old-length", "/new", "/plain"] {
        let reply = wire.send(way.get(path)).await.unwrap();
        let expected = if path == "/plain" { "plain" } else { "to the end" };
        assert_eq!((reply.status, reply.text().as_str()), (200, expected), "{path}: {reply}");
    }
    still_serves(&way).await;
}

async fn interim_responses_without_end_are_cut_off(setup: Setup) {
    let app = app(|mut conn, _| async move {
        let storm = "HTTP/1.1 102 Processing\r\nx: y\r\n\r\n".repeat(100);
        while conn.send(&storm).await.is_ok() {}
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let before = rss_bytes(way.pid());
    let reply = way.get("/storm").send(way.traffic).await.unwrap();
    reply.error(502, "");
    blamed(&way, "interim_storm", 1.0).await;
    assert!(rss_bytes(way.pid()) < before + (16 << 20));
    still_serves(&way).await;
}

async fn slow_apps_are_waited_for_and_slow_readers_held_back(setup: Setup) {
    let app = app(|mut conn, line| async move {
        assert_eq!(line, "GET /drip");
        for byte in PLAIN.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes() {
            conn.send([*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let reply = way.get("/drip").send(way.traffic).await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "plain"));
    still_serves(&way).await;

    // An app that does not read: the sender is held back, and memory stays.
    let (go, gate) = tokio::sync::watch::channel(false);
    let deaf = RawApp::start(move |mut conn| {
        let mut gate = gate.clone();
        async move {
            if conn.head().await.is_none() {
                return;
            }
            gate.wait_for(|open| *open).await.unwrap();
            let mut left = 64 << 20;
            while left > 0 {
                left -= conn.some().await.min(left);
            }
            conn.send(PLAIN).await.unwrap();
        }
    })
    .await;
    let way = Way::through(setup).at(deaf.addr).start().await;
    let before = rss_bytes(way.pid());
    let mut client = Raw::connect(way.traffic).await;
    let length = 64 << 20;
    client.send(format!("POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n", way.host())).await;
    let sent = client.stuff(length, Duration::from_millis(300)).await;
    assert!(sent < length, "nothing held it back");
    assert!(rss_bytes(way.pid()) < before + (16 << 20));
    go.send(true).unwrap();
    let rest = client.stuff(length - sent, LONG).await;
    assert_eq!(sent + rest, length);
    client.until("\r\n\r\nplain").await;
}
