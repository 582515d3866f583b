//! Websockets and other upgrades: tunnels that are load, cross between HTTP/1.1 and HTTP/2, and end properly.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::ext::Protocol;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Lab, NAME, Raw, SOON, Setup, Way, host, wait_until};

/// "Going Away", as a server sends it.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// A client's close 1001, masked with zeros.
const CLIENT_CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];
const TEXT: &[u8] = b"\x81\x85\0\0\0\0hello";

/// A connection that speaks `protocol` to testapp, which echoes.
async fn tunnel(to: SocketAddr, protocol: &str, id: &str) -> Raw {
    let mut raw = Raw::connect(to).await;
    raw.send(format!(
        "GET /ws-echo HTTP/1.1\r\nhost: {}\r\nconnection: keep-alive, Upgrade\r\nupgrade: {protocol}\r\n\
         x-request-id: {id}\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        host(NAME)
    ))
    .await;
    let answer = raw.until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(
        answer.starts_with("http/1.1 101") && answer.contains(&format!("upgrade: {protocol}")),
        "{answer}"
    );
    raw.read.clear();
    raw
}

#[tokio::test]
async fn a_tunnel_is_in_flight_until_it_is_closed() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).start().await;
        for protocol in ["websocket", "echo"] {
            let mut raw = tunnel(way.traffic, protocol, protocol).await;
            raw.send(TEXT).await;
            assert_eq!(raw.bytes(TEXT.len()).await, TEXT);
            let waits = way.send(way.get("/").id("waits"));
            raw.send(TEXT).await;
            raw.bytes(2 * TEXT.len()).await;
            assert!(!waits.is_finished(), "{way}: the slot is held");
            drop(raw);
            assert_eq!(waits.await.unwrap().unwrap().status, 200, "{way}");
            way.done(protocol).await;
        }
        way.idle().await;
    }
}

#[tokio::test]
async fn sigterm_says_going_away_between_two_frames() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).start().await;
        let mut raw = tunnel(way.traffic, "websocket", "ws").await;
        let mut other = tunnel(way.traffic, "echo", "echo").await;
        raw.send(TEXT).await;
        raw.bytes(TEXT.len()).await;
        raw.read.clear();
        way.front().signal(Signal::TERM);
        // The echo of what the app was told comes after, if at all, and is not for the client.
        assert_eq!(&raw.bytes(4).await[..4], GOING_AWAY, "{way}");
        raw.send(CLIENT_CLOSE).await;
        raw.end().await.unwrap();
        assert_eq!(raw.read, GOING_AWAY, "{way}: nothing after a close");
        other.end().await.unwrap();
        assert_eq!(way.front().wait(SOON).await, 0, "{way}");
    }
}

#[tokio::test]
async fn a_client_that_answers_no_close_does_not_hold_the_program_up() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).start().await;
        let mut raw = tunnel(way.traffic, "websocket", "ws").await;
        // In the middle of a frame that never ends.
        raw.send(&TEXT[..4]).await;
        raw.bytes(4).await;
        way.front().signal(Signal::TERM);
        // Far below the drain timeout of ten minutes.
        assert_eq!(way.front().wait(SOON).await, 0, "{way}");
    }
}

#[tokio::test]
async fn a_service_that_is_removed_says_going_away() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app(NAME)]).serve().start().await;
    let mut raw = tunnel(serve.traffic, "websocket", "ws").await;
    lab.services(&[&lab.app("other")]);
    assert_eq!(raw.bytes(4).await, GOING_AWAY);
    raw.send(CLIENT_CLOSE).await;
    raw.end().await.unwrap();
    wait_until(SOON, "the replica is gone", async || {
        let left = lab.replicas();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_new_version_says_going_away_to_the_old_ones_sockets() {
    let lab = Lab::new();
    let app = lab.app(NAME).set("scaling.min", 1);
    let serve = lab.services(&[&app]).serve().start().await;
    let mut raw = tunnel(serve.traffic, "websocket", "ws").await;
    lab.services(&[&app.args(["--version", "2"])]);
    assert_eq!(raw.bytes(4).await, GOING_AWAY);
    raw.send(CLIENT_CLOSE).await;
    raw.end().await.unwrap();
    wait_until(SOON, "the new version answers", async || {
        let reply = serve.get(NAME, "/").await;
        if reply.status == 200 && reply.json()["version"] == "2" { Ok(()) } else { Err(reply.to_string()) }
    })
    .await;
}

/// An app that does nothing but agree, so that the test sees every byte.
async fn bare_app() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// The first connection that sends a request; probes send none.
async fn agree(listener: &TcpListener) -> TcpStream {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
        if !head.is_empty() {
            let answer =
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            return stream;
        }
    }
}

#[tokio::test]
async fn the_app_gets_the_whole_frame_and_then_a_masked_close() {
    for setup in Setup::ALL {
        let (addr, listener) = bare_app().await;
        let app = tokio::spawn(async move { agree(&listener).await });
        let mut way = Way::through(setup).at(addr).start().await;
        let mut client = tunnel(way.traffic, "websocket", "ws").await;
        let mut app = app.await.unwrap();
        client.send(&TEXT[..8]).await;
        let mut got = vec![0; 8];
        app.read_exact(&mut got).await.unwrap();
        // A frame of the app's is under way as well.
        app.write_all(b"\x81\x05he").await.unwrap();
        client.bytes(4).await;
        way.front().signal(Signal::TERM);
        wait_until(SOON, "it drains", async || match TcpStream::connect(way.traffic).await {
            Ok(_) => Err("still listens"),
            Err(_) => Ok(()),
        })
        .await;
        client.send(&TEXT[8..]).await;
        let mut rest = vec![0; 3 + 8];
        app.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest[..3], &TEXT[8..]);
        let (head, mask, code) = (&rest[3..5], &rest[5..9], &rest[9..]);
        assert_eq!(head, [0x88, 0x82], "masked");
        assert_eq!([code[0] ^ mask[0], code[1] ^ mask[1]], 1001_u16.to_be_bytes());
        app.write_all(b"llo").await.unwrap();
        assert_eq!(client.bytes(7 + 4).await, [b"\x81\x05hello".as_slice(), &GOING_AWAY].concat());
        app.write_all(&GOING_AWAY).await.unwrap();
        client.send(CLIENT_CLOSE).await;
        client.end().await.unwrap();
        assert_eq!(app.read(&mut rest).await.unwrap(), 0);
        assert_eq!(way.front().wait(SOON).await, 0);
    }
}

#[tokio::test]
async fn a_socket_whose_app_is_gone_gives_its_slot_back() {
    for setup in Setup::ALL {
        let (addr, listener) = bare_app().await;
        let app = tokio::spawn(async move { agree(&listener).await });
        let way = Way::through(setup).limit(1).at(addr).start().await;
        let mut client = tunnel(way.traffic, "websocket", "ws").await;
        drop(app.await.unwrap());
        // The client stays and sends nothing.
        client.end().await.unwrap();
        way.idle().await;
    }
}

/// A stream of an HTTP/2 connection that asked for `protocol` by extended CONNECT.
async fn connect_h2(
    way: &Way,
    protocol: &'static str,
    path: &str,
) -> (http::Response<h2::RecvStream>, h2::SendStream<Bytes>) {
    let stream = TcpStream::connect(way.traffic).await.unwrap();
    let (send, mut connection) = h2::client::handshake(stream).await.unwrap();
    // Extended CONNECT may be used once the server's SETTINGS have said so.
    while !send.is_extended_connect_protocol_enabled() {
        tokio::select! {
            biased;
            end = &mut connection => panic!("{end:?}"),
            () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
        }
    }
    tokio::spawn(connection);
    let request = http::Request::connect(format!("http://{}{path}", host(NAME)))
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("x-request-id", "connect")
        .body(())
        .unwrap();
    let (response, stream) = send.ready().await.unwrap().send_request(request, false).unwrap();
    (response.await.unwrap(), stream)
}

#[tokio::test]
async fn an_extended_connect_reaches_an_http_1_app() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).limit(1).start().await;
        let (response, mut send) = connect_h2(&way, "websocket", "/ws-echo").await;
        assert_eq!(response.status(), 200, "{way}: {response:?}");
        for name in ["upgrade", "connection", "sec-websocket-accept"] {
            assert!(!response.headers().contains_key(name), "{way}: {response:?}");
        }
        let mut body = response.into_body();
        send.send_data(Bytes::from_static(TEXT), false).unwrap();
        assert_eq!(next(&mut body, TEXT.len()).await, TEXT, "{way}");
        let waits = way.send(way.get("/"));
        send.send_data(Bytes::from_static(TEXT), false).unwrap();
        assert_eq!(next(&mut body, TEXT.len()).await, TEXT, "{way}");
        assert!(!waits.is_finished(), "{way}: the slot is held");
        way.front().signal(Signal::TERM);
        assert_eq!(next(&mut body, 4).await, GOING_AWAY, "{way}");
        send.send_data(Bytes::from_static(&CLIENT_CLOSE), true).unwrap();
        assert_eq!(way.front().wait(SOON).await, 0, "{way}");
    }
}

#[tokio::test]
async fn an_app_that_does_not_agree_is_no_tunnel() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).start().await;
        // Over CONNECT, its 200 would be one.
        let (response, _send) = connect_h2(&way, "websocket", "/").await;
        assert_eq!(response.status(), 502, "{way}: {response:?}");
        assert_eq!(way.get("/").send(way.traffic).await.unwrap().status, 200, "{way}: the slot is free");
    }
}

async fn next(body: &mut h2::RecvStream, n: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < n {
        let data = tokio::time::timeout(SOON, body.data())
            .await
            .expect("a piece comes")
            .expect("it goes on")
            .unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}
