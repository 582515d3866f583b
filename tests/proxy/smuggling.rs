//! Request smuggling: what two servers may read differently never gets past the first hop.
//!
//! Each case is refused with 400, or becomes one message that the strict reader of [`RawApp`] takes; either way the
//! connection is closed and the request hidden in it (`/smuggled`) is never seen as one.

use crate::support::{NAME, Raw, RawApp, SOON, Setup, Way, holds, wait_until};

on_each_setup!(
    ambiguous_requests_do_not_pass,
    ambiguous_bodies_do_not_pass,
    ambiguous_bodies_of_waiting_requests_are_refused_at_once,
    a_size_of_many_digits_hides_nothing,
    hop_by_hop_fields_end_here,
    trailers_are_no_second_head,
    what_came_before_is_answered,
    what_is_refused_is_counted,
);

/// `HOST` stands for the right one.
const HEADS: &[(&str, &str)] = &[
    (
        "length and chunked",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "chunked and length",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
    ),
    ("two equal lengths", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"),
    (
        "two different lengths",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\nContent-Length: 30\r\n\r\n",
    ),
    ("a list of lengths", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0, 0\r\n\r\n"),
    ("a signed length", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: +0\r\n\r\n"),
    ("a negative length", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n"),
    ("a hexadecimal length", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x0\r\n\r\n"),
    ("an empty length", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length:\r\n\r\n"),
    (
        "a length beyond 64 bit",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 18446744073709551616\r\n\r\n",
    ),
    ("a blank before the colon", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length : 30\r\n\r\n"),
    ("a blank in a name", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent Length: 30\r\n\r\n"),
    ("a tab before the colon", "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding\t: chunked\r\n\r\n"),
    ("xchunked", "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n"),
    ("chunked, identity", "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, identity\r\n\r\n"),
    ("identity, chunked", "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: identity, chunked\r\n\r\n"),
    ("gzip, chunked", "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    ("identity alone", "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("quoted chunked", "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: \"chunked\"\r\n\r\n"),
    (
        "chunked with a vertical tab",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
    ),
    (
        "two codings",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    ),
    (
        "two codings, the other way",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "chunked twice",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("chunked in HTTP/1.0", "POST /x HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("a folded field", "POST /x HTTP/1.1\r\nHost: HOST\r\nX: a\r\n b\r\n\r\n"),
    ("a folded coding", "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"),
    ("a blank before the first field", "POST /x HTTP/1.1\r\n Host: HOST\r\n\r\n"),
    ("bare line feeds", "GET /x HTTP/1.1\nHost: HOST\n\n"),
    ("one bare line feed", "GET /x HTTP/1.1\r\nHost: HOST\r\nX: a\nY: b\r\n\r\n"),
    ("a bare line feed at the end", "GET /x HTTP/1.1\r\nHost: HOST\r\n\n"),
    (
        "a length behind a bare line feed",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nX: a\nContent-Length: 30\r\n\r\n",
    ),
    (
        "a bare carriage return in a value",
        "GET /x HTTP/1.1\r\nHost: HOST\r\nX: a\rContent-Length: 30\r\n\r\n",
    ),
    ("a bare carriage return in a name", "GET /x HTTP/1.1\r\nHost: HOST\r\nX\r: a\r\n\r\n"),
    ("a null in a value", "GET /x HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n"),
    ("a null in a name", "GET /x HTTP/1.1\r\nHost: HOST\r\nX\0: a\r\n\r\n"),
    ("a control character in a value", "GET /x HTTP/1.1\r\nHost: HOST\r\nX: a\x01b\r\n\r\n"),
    ("an escape in the target", "GET /\x1b HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("no name", "GET /x HTTP/1.1\r\nHost: HOST\r\n: a\r\n\r\n"),
    ("no colon", "GET /x HTTP/1.1\r\nHost: HOST\r\nabc\r\n\r\n"),
    ("an absolute target with another host", "GET http://other.example/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("an absolute target with a user", "GET http://a@HOST/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a target that is a host", "GET HOST:80 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("two hosts", "GET /x HTTP/1.1\r\nHost: HOST\r\nHost: other.example\r\n\r\n"),
    ("the same host twice", "GET /x HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
    ("a host and a path", "GET /x HTTP/1.1\r\nHost: HOST/y\r\n\r\n"),
    ("a host and a user", "GET /x HTTP/1.1\r\nHost: a@HOST\r\n\r\n"),
    ("a host in brackets of another", "GET /x HTTP/1.1\r\nHost: [HOST].other.example\r\n\r\n"),
    ("two ports", "GET /x HTTP/1.1\r\nHost: HOST:80:other.example\r\n\r\n"),
    ("a port that is none", "GET /x HTTP/1.1\r\nHost: HOST:x\r\n\r\n"),
    ("a bracket in a host", "GET /x HTTP/1.1\r\nHost: HOST]\r\n\r\n"),
    ("two hosts in one", "GET /x HTTP/1.1\r\nHost: HOST,other.example\r\n\r\n"),
    ("a host with a blank", "GET /x HTTP/1.1\r\nHost: HOST other.example\r\n\r\n"),
    ("a port that is a host", "GET /x HTTP/1.1\r\nHost: HOST:80@other.example\r\n\r\n"),
    (
        "Connection lists the length",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nConnection: content-length\r\nContent-Length: 0\r\n\r\n",
    ),
    ("Connection lists the host", "GET /x HTTP/1.1\r\nHost: HOST\r\nConnection: close, Host\r\n\r\n"),
    (
        "Connection lists the coding",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("blanks in the request line", "GET  /x  HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("tabs in the request line", "GET\t/x\tHTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("no version", "GET /x\r\nHost: HOST\r\n\r\n"),
    ("an odd version", "GET /x HTTP/1.9\r\nHost: HOST\r\n\r\n"),
    ("HTTP/2 in words", "GET /x HTTP/2.0\r\nHost: HOST\r\n\r\n"),
    ("a line feed before the request", "\nGET /x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
];

/// What follows a head that declares a chunked body.
const CHUNKS: &[(&str, &str)] = &[
    ("a size beyond 64 bit", "10000000000000000\r\nabc\r\n0\r\n\r\n"),
    ("a size that overflows to three", "FFFFFFFFFFFFFFFF3\r\nabc\r\n0\r\n\r\n"),
    ("a signed size", "+3\r\nabc\r\n0\r\n\r\n"),
    ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
    ("a size with its prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("a blank before the size", " 3\r\nabc\r\n0\r\n\r\n"),
    ("no size", "\r\nabc\r\n0\r\n\r\n"),
    ("two sizes", "3 3\r\nabc\r\n0\r\n\r\n"),
    ("a size that ends with a line feed", "3\nabc\r\n0\r\n\r\n"),
    ("a line feed in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("data without its end", "3\r\nabc0\r\n\r\n"),
    ("data that ends with a line feed", "3\r\nabc\n0\r\n\r\n"),
    ("an end that ends with a line feed", "3\r\nabc\r\n0\n\r\n"),
    ("trailers that end with a line feed", "3\r\nabc\r\n0\r\n\n"),
    ("a trailer that ends with a line feed", "3\r\nabc\r\n0\r\nx: a\n\r\n"),
    ("a trailer, and a line feed", "3\r\nabc\r\n0\r\nx: a\r\n\n"),
    ("a null in a trailer", "3\r\nabc\r\n0\r\nx: a\0b\r\n\r\n"),
    ("a folded trailer", "3\r\nabc\r\n0\r\nx: a\r\n b\r\n\r\n"),
    ("no colon in a trailer", "3\r\nabc\r\n0\r\nabc\r\n\r\n"),
];

async fn ambiguous_requests_do_not_pass(setup: Setup) {
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).start().await;
    for (what, head) in HEADS {
        let hidden = format!("GET /smuggled HTTP/1.1\r\nHost: {}\r\n\r\n", way.host());
        let text = format!("{}0\r\n\r\n{hidden}", head.replace("HOST", &way.host()));
        // Once in one piece, once byte by byte.
        for piece in [text.len(), 1] {
            let before = app.received().concat();
            let mut client = Raw::connect(way.traffic).await;
            for piece in text.as_bytes().chunks(piece) {
                if !client.try_send(piece).await {
                    break;
                }
            }
            let (answer, reset) = client.closed().await;
            let answers = answer.matches("HTTP/1.").count();
            assert!(
                answers == 1 && !reset,
                "{what}: {answers} answers, then closed (reset: {reset}): {answer}"
            );
            let came = app.received().concat()[before.len()..].to_owned();
            if answer.contains(" 400 ") {
                assert_eq!(came, "", "{what}: refused, and yet it reached the app");
            } else {
                assert!(
                    answer.contains(" 200 ") && came.contains("/x HTTP/1.1\r\n"),
                    "{what}: {answer}\n{came}"
                );
            }
            assert!(!came.contains("/smuggled HTTP"), "{what}: {came}");
        }
    }
    unharmed(&way, &app).await;
}

async fn ambiguous_bodies_do_not_pass(setup: Setup) {
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).start().await;
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(1000));
    let trailers = format!("3\r\nabc\r\n0\r\n{}\r\n", "x: y\r\n".repeat(100_000));
    let huge =
        [("a huge extension", long.as_str()), ("many extensions", &many), ("huge trailers", &trailers)];
    for (what, chunks) in CHUNKS.iter().copied().chain(huge) {
        let hidden = format!("GET /smuggled HTTP/1.1\r\nHost: {}\r\n\r\n", way.host());
        let head = format!("POST /x HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", way.host());
        let before = app.received().len();
        let mut client = Raw::connect(way.traffic).await;
        client.try_send(format!("{head}{chunks}{hidden}")).await;
        let (answer, reset) = client.closed().await;
        assert!(answer.starts_with("HTTP/1.1 400") && !reset, "{what} (reset: {reset}): {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer}");
        for came in app.received().into_iter().skip(before) {
            // The app may have got its beginning. It cannot take that for a whole message.
            assert!(!came.contains("/smuggled") && !came.ends_with("0\r\n\r\n"), "{what}: {came}");
        }
    }
    unharmed(&way, &app).await;
}

async fn ambiguous_bodies_of_waiting_requests_are_refused_at_once(setup: Setup) {
    let way = Way::through(setup).limit(1).start().await;
    let gate = way.lab.gate("end");
    let held = way.send(way.get(&format!("/hold?file={gate}")).id("held"));
    way.reached("held").await;
    for (what, chunks) in CHUNKS {
        let mut client = Raw::connect(way.traffic).await;
        let fields = "Transfer-Encoding: chunked\r\nX-Request-Id: waits";
        client.send(format!("POST /x HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n{chunks}", way.host())).await;
        let (answer, reset) = client.closed().await;
        assert!(answer.starts_with("HTTP/1.1 400") && !reset, "{what} (reset: {reset}): {answer}");
    }
    gate.open();
    assert_eq!(held.await.unwrap().unwrap().status, 200);
    assert!(!way.lab.reached(NAME, "waits"));
}

/// A size line that is longer than what is kept of a line, in pieces; and in its chunk, what looks like a request whose
/// body swallows the next one.
async fn a_size_of_many_digits_hides_nothing(setup: Setup) {
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).start().await;
    let host = way.host();
    let mut client = Raw::connect(way.traffic).await;
    let zeros = "0".repeat(200);
    client
        .send(format!("POST /x HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n{zeros}"))
        .await;
    wait_until(SOON, "the beginning was read", async || {
        let came = app.received().concat();
        holds(came.contains("/x HTTP/1.1\r\n"), came)
    })
    .await;
    let data = "a\r\n\r\nGET /inner HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n";
    let twice =
        format!("GET /smuggled HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n");
    client.send(format!("{:x}\r\n{data}\r\n0\r\n\r\n{twice}", data.len())).await;
    let (answer, reset) = client.closed().await;
    assert!(answer.contains(" 400 ") && !reset, "{answer} (reset: {reset})");
    assert!(!app.received().concat().contains("/smuggled"), "{:?}", app.received());
    unharmed(&way, &app).await;
}

async fn hop_by_hop_fields_end_here(setup: Setup) {
    let app = RawApp::answering(
        "HTTP/1.1 200 OK\r\nconnection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-authenticate: Basic\r\nx-stays: 1\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    let fields = "Connection: close, X-One\r\nConnection: x-two\r\nX-One: 1\r\nX-Two: 2\r\nX-Stays: 3\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authorization: x\r\nTE: gzip\r\n\
                  Upgrade: h2c\r\nHTTP2-Settings: AAA\r\n";
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", way.host())).await;
    let (answer, _) = client.closed().await;
    let answer = answer.to_ascii_lowercase();
    for gone in ["x-mine", "keep-alive", "proxy-authenticate"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    assert!(answer.contains("x-stays: 1") && answer.contains("connection: close"), "{answer}");
    let came = app.received().concat().to_ascii_lowercase();
    for gone in
        ["connection", "x-one", "x-two", "keep-alive", "proxy-", "te:", "upgrade", "http2-settings", "close"]
    {
        assert!(!came.contains(&format!("\r\n{gone}")), "{gone}: {came}");
    }
    assert!(came.contains("x-stays: 3"), "{came}");
}

async fn trailers_are_no_second_head(setup: Setup) {
    const TRAILERS: &str = "Content-Length: 9\r\nHost: other\r\nTransfer-Encoding: x\r\nConnection: x-stays\r\n\
        X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Stays: 1\r\n";
    const NAMES: &str =
        "content-length, host, transfer-encoding, connection, x-forwarded-for, forwarded, x-stays";
    let chunked = |head: &str| {
        format!("{head}Trailer: {NAMES}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{TRAILERS}\r\n")
    };
    let answer: &'static str = chunked("HTTP/1.1 200 OK\r\n").leak();
    let app = RawApp::answering(answer).await;
    let way = Way::through(setup).at(app.addr).start().await;
    let mut client = Raw::connect(way.traffic).await;
    let head = format!("POST /x HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\n", way.host());
    client.send(chunked(&head)).await;
    let answer = client.until("x-stays: 1\r\n\r\n").await;
    wait_until(SOON, "the app has all of it", async || {
        let came = app.received().concat().to_ascii_lowercase();
        holds(came.contains("x-stays: 1\r\n\r\n"), came)
    })
    .await;
    for (side, text) in [("the client", answer), ("the app", app.received().concat())] {
        let (_, trailers) = text.split_once("abc\r\n0\r\n").expect(side);
        assert_eq!(trailers.to_ascii_lowercase(), "x-stays: 1\r\n\r\n", "{side}");
    }
}

async fn what_came_before_is_answered(setup: Setup) {
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).start().await;
    let host = way.host();
    let sound = format!("POST /1 HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\n\n\n");
    let chunked =
        format!("POST /2 HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n");
    let bad = format!("GET /3 HTTP/1.1\nhost: {host}\r\n\r\n");
    let mut client = Raw::connect(way.traffic).await;
    client.send(format!("{sound}{chunked}{bad}{sound}")).await;
    let (answer, reset) = client.closed().await;
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!((statuses.as_slice(), reset), (&["200", "200", "400"][..], false), "{answer}");
    assert!(answer.contains("\"code\":\"bad_request\""), "an error of ours is JSON: {answer}");
    assert!(!app.received().concat().contains("/3"));
    unharmed(&way, &app).await;
}

async fn what_is_refused_is_counted(setup: Setup) {
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).start().await;
    let count = async |reason: &str| {
        way.metric(&format!("pilotlight_invalid_requests_total{{reason=\"{reason}\"}}")).await
    };
    let long = format!("/{}", "x".repeat(20_000));
    for (reason, target, fields) in [
        ("bad_request", "/x", "content-length: 0\r\ncontent-length: 0\r\n"),
        ("malformed", "/x", "x : y\r\n"),
        ("target_too_long", &long, ""),
    ] {
        let before = count(reason).await;
        let mut client = Raw::connect(way.traffic).await;
        client.send(format!("GET {target} HTTP/1.1\r\nhost: {}\r\n{fields}\r\n", way.host())).await;
        client.closed().await;
        wait_until(SOON, reason, async || {
            let now = count(reason).await;
            holds(now == before + 1.0, now)
        })
        .await;
    }
}

/// The app is not blamed for what clients send, and no connection is out of step.
async fn unharmed(way: &Way, app: &RawApp) {
    let mut client = Raw::connect(way.traffic).await;
    for n in 0..3 {
        client.forget();
        client.send(format!("GET /sound{n} HTTP/1.1\r\nhost: {}\r\n\r\n", way.host())).await;
        client.until(&format!("GET /sound{n}|")).await;
    }
    assert!(app.received().concat().contains("/sound2"));
    let errors = way.metric("pilotlight_app_errors_total").await;
    assert!(errors.abs() < 0.5, "{errors} errors are held against the app");
    way.idle().await;
}
