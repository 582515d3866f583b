//! What one client may take: time for a head, bytes and fields of it, connections, open files.

use std::process::Command;
use std::time::Duration;

use crate::h2_raw::{DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM, RawH2, SETTINGS, frame, request};
use crate::support::{
    Call, Lab, Program, Raw, RawApp, SOON, Setup, Way, Wire, holds, rss_bytes, testapp, wait_until,
};

on_each_setup!(
    a_head_that_does_not_come_ends_the_connection,
    a_slow_response_is_no_rest,
    a_resting_http_2_connection_is_told_to_go,
    too_large_heads_are_431_and_too_long_targets_414,
    at_the_limit_newcomers_wait_until_one_rests,
    an_idle_connection_is_small,
);

async fn a_head_that_does_not_come_ends_the_connection(setup: Setup) {
    let app = RawApp::echoing().await;
    let flags = ["--header-timeout", "500ms", "--keep-alive-timeout", "1s"];
    let way = Way::through(setup).at(app.addr).flags(&flags).start().await;
    let line = format!("GET /x HTTP/1.1\r\nhost: {}\r\n", way.host());
    // Nothing at all, half a head, half a preface of HTTP/2, an empty line.
    for beginning in ["", line.as_str(), "PRI * HT", "\r\n"] {
        let mut client = Raw::connect(way.traffic).await;
        client.send(beginning).await;
        let (text, _) = client.closed().await;
        assert_eq!(text, "", "{beginning:?}");
    }
    // Byte after byte, without an end: each is progress, the head's time passes all the same.
    let mut client = Raw::connect(way.traffic).await;
    client.send(&line).await;
    wait_until(SOON, "the slow head is cut off", async || holds(!client.try_send("a").await, "open")).await;
    // The second head of a connection has its time too.
    let mut client = Raw::connect(way.traffic).await;
    client.send(format!("{line}\r\n{line}")).await;
    let (text, _) = client.closed().await;
    assert_eq!(text.matches("HTTP/1.1 200").count(), 1, "{text}");
    // A connection rests for a while, and is closed then.
    let mut client = Raw::connect(way.traffic).await;
    client.send(format!("{line}\r\n")).await;
    let (text, reset) = client.closed().await;
    assert!(text.ends_with("GET /x|") && !reset, "{text}");
    assert_eq!(app.received().concat().matches("GET /x").count(), 2);
}

async fn a_slow_response_is_no_rest(setup: Setup) {
    let flags = ["--header-timeout", "100ms", "--keep-alive-timeout", "100ms"];
    let way = Way::through(setup).flags(&flags).start().await;
    let gate = way.lab.gate("end");
    let mut held = Raw::connect(way.traffic).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", way.host());
    held.send(get(&format!("/hold?file={gate}"))).await;
    let mut stream = Raw::connect(way.traffic).await;
    stream.send(get(&format!("/sse?n=2&ms=1&hold={gate}"))).await;
    stream.until("data: 0").await;
    let mut upload = Raw::connect(way.traffic).await;
    upload.send(format!("POST /echo HTTP/1.1\r\nhost: {}\r\ncontent-length: 5\r\n\r\nhe", way.host())).await;
    // Meanwhile many connections are closed for their rest: the time has passed several times over.
    for _ in 0..5 {
        let mut client = Raw::connect(way.traffic).await;
        client.send(get("/")).await;
        client.closed().await;
    }
    gate.open();
    held.until("HTTP/1.1 200").await;
    stream.until("data: 1").await;
    upload.send("llo").await;
    upload.until("hello").await;
}

async fn a_resting_http_2_connection_is_told_to_go(setup: Setup) {
    const TEXT: &[u8] = &[0x81, 0x81, 0, 0, 0, 0, b'x'];
    let flags = ["--header-timeout", "200ms", "--keep-alive-timeout", "400ms"];
    let way = Way::through(setup).flags(&flags).start().await;
    let gate = way.lab.gate("end");
    let mut busy = RawH2::connect(way.traffic, &[]).await;
    let hold = request("GET", &way.host(), &format!("/hold?file={gate}"), &[("x-request-id", "held")]);
    busy.request(1, END_STREAM, &hold).await;
    way.reached("held").await;
    let mut tunnel = RawH2::connect(way.traffic, &[]).await;
    tunnel.until(SETTINGS).await;
    let websocket = [(":protocol", "websocket"), ("sec-websocket-version", "13")];
    tunnel.request(1, 0, &request("CONNECT", &way.host(), "/ws-echo", &websocket)).await;
    assert_eq!(tunnel.until_any(&[HEADERS, RST_STREAM]).await.unwrap().kind, HEADERS);
    // One that never asked for anything, and one whose request is answered: the time passes several times over.
    for n in 0..4 {
        let mut rests = RawH2::connect(way.traffic, &[]).await;
        if n % 2 == 1 {
            rests.request(1, END_STREAM, &request("GET", &way.host(), "/", &[])).await;
            rests.until(HEADERS).await;
        }
        assert_eq!(rests.until(GOAWAY).await.code(), 0, "no error");
        while rests.until_any(&[GOAWAY]).await.is_some() {}
    }
    tunnel.send(frame(DATA, 0, 1, TEXT)).await.unwrap();
    let echo = tunnel.until_any(&[DATA, GOAWAY]).await.expect("a tunnel is no rest");
    assert_eq!((echo.kind, &echo.payload[..]), (DATA, TEXT));
    tunnel.send(frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await.unwrap();
    tunnel.until(GOAWAY).await;
    gate.open();
    let answer = busy.until_any(&[HEADERS, GOAWAY]).await.expect("a stream is no rest");
    assert_eq!((answer.kind, answer.stream), (HEADERS, 1));
    busy.until(GOAWAY).await;
}

async fn too_large_heads_are_431_and_too_long_targets_414(setup: Setup) {
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).start().await;
    let head =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nhost: {}\r\n{fields}\r\n", way.host());
    let one_large = head("/x", &format!("a: {}\r\n", "b".repeat(1 << 20)));
    let larger = head("/x", &format!("a: {}\r\n", "b".repeat(90_000)));
    let many = head("/x", &"a: b\r\n".repeat(1000));
    let many_large = head("/x", &format!("a: {}\r\n", "b".repeat(2000)).repeat(100));
    let endless = one_large.trim_end().to_owned();
    for (what, text) in [
        ("one large field", &one_large),
        ("a field that fits in what is read at once", &larger),
        ("many fields", &many),
        ("many large fields", &many_large),
        ("no end", &endless),
    ] {
        refused(&way, what, text, 431).await;
    }
    for length in [17_000, 65_000, 70_000, 1 << 20] {
        let target = format!("/{}", "a".repeat(length));
        refused(&way, &format!("a target of {length}"), &head(&target, ""), 414).await;
        let no_end = format!("GET {target}");
        refused(&way, &format!("a target of {length} without an end"), &no_end, 414).await;
    }
    let call = way.get(&format!("/{}", "a".repeat(17_000)));
    call.h2().send(way.traffic).await.unwrap().error(414, "");
    assert!(app.received().is_empty(), "{:?}", app.received());
    // What is large but allowed passes.
    let mut client = Raw::connect(way.traffic).await;
    client.send(head(&format!("/{}", "a".repeat(15_000)), &format!("a: {}\r\n", "b".repeat(30_000)))).await;
    assert!(client.until("a|").await.starts_with("HTTP/1.1 200"));
}

/// Sends all of it, as a client that does not listen, and hears the answer all the same.
async fn refused(way: &Way, what: &str, text: &str, status: u16) {
    let mut client = Raw::connect(way.traffic).await;
    client.try_send(text).await;
    let (answer, _) = client.closed().await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer:?}");
    if status == 414 {
        assert!(answer.contains("\"code\":\"target_too_long\""), "{what}: {answer}");
    }
}

async fn at_the_limit_newcomers_wait_until_one_rests(setup: Setup) {
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).flags(&["--max-connections", "3"]).start().await;
    let mut open = Vec::new();
    for n in 0..3 {
        let mut client = Raw::connect(way.traffic).await;
        let post = format!("POST /{n} HTTP/1.1\r\nhost: {}\r\ncontent-length: 2\r\n\r\na", way.host());
        client.send(post).await;
        wait_until(SOON, "the app has its beginning", async || {
            let came = app.received().concat();
            holds(came.contains(&format!("POST /{n} ")), came)
        })
        .await;
        open.push(client);
    }
    // The kernel takes it, and nobody answers yet.
    let mut waits = Raw::connect(way.traffic).await;
    waits.send(format!("GET /x HTTP/1.1\r\nhost: {}\r\n\r\n", way.host())).await;
    // Admin has places of its own: this would fail.
    for _ in 0..10 {
        assert!(way.metric("process_open_fds").await > 0.0);
    }
    assert_eq!(waits.peek(), "");
    // The first that has nothing more to do makes room, and no other.
    let mut rests = open.remove(1);
    rests.send("b").await;
    waits.until("GET /x|").await;
    let (answer, reset) = rests.closed().await;
    assert!(answer.ends_with("POST /1|ab") && !reset, "{answer}");
    for client in &mut open {
        client.send("b").await;
        client.until("|ab").await;
    }
}

async fn an_idle_connection_is_small(setup: Setup) {
    const CONNECTIONS: usize = 400;
    /// The bound of reference/engineering.md §4, kept by a debug build too. hyper's buffers are half of it.
    const MOST: u64 = 40 * 1000;
    let app = RawApp::echoing().await;
    let way = Way::through(setup).at(app.addr).start().await;
    let get = format!("GET /x HTTP/1.1\r\nhost: {}\r\n\r\n", way.host());
    let mut open = Vec::new();
    let mut before = 0;
    for n in 0..CONNECTIONS + 20 {
        if n == 20 {
            before = rss_bytes(way.pid());
        }
        let mut client = Raw::connect(way.traffic).await;
        client.send(&get).await;
        client.until("GET /x|").await;
        open.push(client);
    }
    let each = rss_bytes(way.pid()).saturating_sub(before) / CONNECTIONS as u64;
    eprintln!("{setup:?}: {each} bytes a connection at rest");
    assert!(each < MOST, "{each} bytes a connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_out_of_open_files_breaks_nothing() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let mut command = Command::new("sh");
    let proxy = env!("CARGO_BIN_EXE_pilotlight");
    let run = format!(
        "ulimit -n 60; exec {proxy} queue-proxy --listen 127.0.0.1:0 --admin 127.0.0.1:0 --app {addr} --max-connections 1000"
    );
    command.args(["-c", &run]);
    let mut proxy = Program::spawn(command, lab.dir());
    let (to, admin) = (proxy.listening("traffic").await, proxy.listening("admin").await);
    let get = || Call::get("x", "/");
    wait_until(SOON, "it serves", async || match get().send(to).await {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let mut first = Wire::open(to, false).await.unwrap();
    assert_eq!(first.send(get()).await.unwrap().status, 200);
    // More than there are descriptors. All are accepted by the kernel, not all by the proxy.
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(Raw::connect(to).await);
    }
    wait_until(SOON, "it says so", async || {
        let log = proxy.log();
        holds(log.contains("cannot accept connections"), log)
    })
    .await;
    // Whoever has a connection is served, or told at once that there is none to the app; the app is not blamed.
    for _ in 0..20 {
        let status = first.send(get()).await.unwrap().status;
        assert!(status == 200 || status == 503, "{status}");
    }
    let told = proxy.log().matches("cannot accept connections").count();
    assert!(told < 5, "told {told} times: {}", proxy.log());
    drop(open);
    wait_until(SOON, "it serves newcomers again", async || match get().send(to).await {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(Call::get("localhost", "/readyz").send(admin).await.unwrap().status, 200);
    assert!(!proxy.log().contains("cannot be reached"), "{}", proxy.log());
    assert_eq!(proxy.terminate().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_say_nothing_more_do_not_hold_up_the_drain() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).start().await;
        let mut half = Raw::connect(way.traffic).await;
        half.send("GET / HTTP/1.1\r\nhost: a\r\n").await;
        let idle = Raw::connect(way.traffic).await;
        // HTTP/2 that never answers a PING, and so never takes leave.
        let mut mute = Raw::connect(way.traffic).await;
        mute.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        mute.until("\x04").await;
        let mut rests = Wire::open(way.traffic, false).await.unwrap();
        assert_eq!(rests.send(way.get("/")).await.unwrap().status, 200);
        way.front().signal(rustix::process::Signal::TERM);
        assert_eq!(way.front().wait(Duration::from_secs(20)).await, 0, "{way}: the header timeout is 30 s");
        drop((half, idle, mute, rests));
    }
}
