//! Flow control in both directions, and nobody pays for another's slowness.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::h2_apps::{Asked, Count, h2_connections, h2_only};
use crate::h2_raw::{DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, RawH2, frame, request};
use crate::support::{NAME, SOON, Setup, Way, Wire, holds, rss_bytes, wait_until};

const INITIAL_WINDOW_SIZE: u16 = 4;

#[tokio::test]
async fn each_stream_holds_a_slot_of_its_own() {
    for setup in Setup::ALL {
        let way = Way::through(setup).args(&["--limit", "2"]).limit(2).start().await;
        let gate = way.lab.gate("end");
        let get = |path: &str, id: &str| request("GET", &way.host(), path, &[("x-request-id", id)]);
        let mut raw = RawH2::connect(way.traffic, &[]).await;
        for (stream, id) in [(1, "one"), (3, "two")] {
            raw.request(stream, END_STREAM, &get(&format!("/hold?file={gate}"), id)).await;
            way.reached(id).await;
        }
        // The connection has both slots: its third stream waits as another connection's would.
        raw.request(5, END_STREAM, &get("/", "three")).await;
        way.queued(1).await;
        assert_eq!(way.metric("pilotlight_service_in_flight").await, 2.0, "{way}");
        gate.open();
        let mut answered = Vec::new();
        for _ in 0..3 {
            answered.push(raw.until(HEADERS).await.stream);
        }
        answered.sort_unstable();
        assert_eq!(answered, [1, 3, 5], "{way}");
        assert_eq!(way.lab.events(NAME, "violation").len(), 0, "{way}");
        way.idle().await;
    }
}

#[tokio::test]
async fn a_client_gets_no_more_than_its_window() {
    for setup in Setup::ALL {
        let way = Way::through(setup).start().await;
        assert_eq!(way.get("/").send(way.traffic).await.unwrap().status, 200);
        let before = rss_bytes(way.pid());
        let mut raw = RawH2::connect(way.traffic, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        raw.request(1, 1, &request("GET", &way.host(), "/bytes?n=1073741824", &[])).await;
        raw.until(HEADERS).await;
        for more in [1, 999, 20_000] {
            raw.window(1, more).await;
            let mut got = 0;
            while got < more {
                let data = raw.until(DATA).await;
                assert!(!data.payload.is_empty());
                got += data.payload.len() as u32;
            }
            assert_eq!(got, more, "{way}");
            // Frames come in order: whatever would be too much would come before the answer to this.
            raw.send(frame(PING, 0, 0, &[7; 8])).await.unwrap();
            let pong = raw.until_any(&[PING, DATA]).await.unwrap();
            assert_eq!((pong.kind, pong.flags), (PING, 1), "{way}: more than the window");
        }
        let grown = rss_bytes(way.pid()).saturating_sub(before);
        assert!(grown < 16 << 20, "{way}: grew by {grown} bytes for a client that reads nothing");
        drop(raw);
        way.idle().await;
    }
}

#[tokio::test]
async fn an_app_that_does_not_read_holds_the_sender_back() {
    for setup in Setup::ALL {
        let (release, gate) = tokio::sync::watch::channel(false);
        let app = h2_only(move |mut asked: Asked| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                let mut n = 0;
                while let Some(Ok(data)) = asked.request.body_mut().data().await {
                    n += data.len();
                    let _ = asked.request.body_mut().flow_control().release_capacity(data.len());
                }
                assert_eq!(n, 32 << 20);
                asked.ok("all");
            }
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let sent = Count::default();
        let upload = tokio::spawn(upload(way.traffic, way.host(), 32 << 20, sent.clone()));
        let (mut last, mut same) = (0, 0);
        wait_until(SOON, "the sender is held back", async || {
            same = if sent.get() == last && last > 0 { same + 1 } else { 0 };
            last = sent.get();
            holds(same > 50, last)
        })
        .await;
        // In pieces of 16 KiB: windows and buffers of each hop, not the whole.
        assert!(last < 8 << 6, "{way}: {last} pieces were taken");
        release.send(true).unwrap();
        assert_eq!(upload.await.unwrap(), 200, "{way}");
        way.idle().await;
    }
}

/// POSTs zeros with h2's own client, as fast as windows allow; counts pieces of 16 KiB.
async fn upload(to: std::net::SocketAddr, host: String, bytes: usize, sent: Count) -> u16 {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{host}/sink")).body(()).unwrap();
    let (answer, mut body) = client.send_request(request, false).unwrap();
    let mut left = bytes;
    while left > 0 {
        body.reserve_capacity(left.min(16 << 10));
        let granted = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
        let n = granted.min(left);
        body.send_data(Bytes::from(vec![0; n]), n == left).unwrap();
        left -= n;
        sent.one();
    }
    answer.await.unwrap().status().as_u16()
}

#[tokio::test]
async fn uploads_that_wait_do_not_stall_the_one_that_has_the_slot() {
    const UPLOADS: usize = 40;
    for setup in Setup::ALL {
        let way = Way::through(setup).protocol("http1").limit(1).cold().start().await;
        let stream = tokio::net::TcpStream::connect(way.traffic).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // One connection for all, as a gateway has.
        let builder = h2::client::Builder::new();
        let (client, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
        tokio::spawn(connection);
        let mut calls = JoinSet::new();
        for _ in 0..UPLOADS {
            let mut client = client.clone().ready().await.unwrap();
            let request = http::Request::post(format!("http://{}/sink", way.host())).body(()).unwrap();
            let (answer, mut body) = client.send_request(request, false).unwrap();
            calls.spawn(async move {
                body.send_data(Bytes::from(vec![0; 1 << 20]), true).unwrap();
                answer.await.map(|answer| answer.status().as_u16())
            });
        }
        let all = tokio::time::timeout(SOON, calls.join_all());
        let all = all.await.unwrap_or_else(|_| panic!("{way}: uploads stalled"));
        assert!(all.iter().all(|status| matches!(status, Ok(200))), "{way}: {all:?}");
        way.idle().await;
    }
}

#[tokio::test]
async fn clients_that_do_not_read_do_not_stall_others_at_an_http2_app() {
    for setup in Setup::ALL {
        let way = Way::through(setup).protocol("h2c").start().await;
        let mut unread = Vec::new();
        for _ in 0..100 {
            let mut raw = RawH2::connect(way.traffic, &[(INITIAL_WINDOW_SIZE, 0)]).await;
            raw.request(1, 1, &request("GET", &way.host(), "/bytes?n=10000000", &[])).await;
            raw.until(HEADERS).await;
            unread.push(raw);
        }
        let big = way.get("/bytes?n=20000000").open(way.traffic).await.unwrap();
        let read = tokio::time::timeout(SOON, big.count()).await;
        assert_eq!(read.unwrap_or_else(|_| panic!("{way}: stalled")).unwrap(), 20_000_000);
        drop(unread);
        way.idle().await;
    }
}

#[tokio::test]
async fn an_app_with_few_streams_gets_more_connections() {
    // Two streams a connection: six requests at once need three, and a seventh is not lost either.
    for setup in Setup::ALL {
        let (together, gate) = (Count::default(), tokio::sync::watch::channel(false));
        let (open, closed) = gate;
        let seen = together.clone();
        let app = super::h2_apps::listen(move |_, stream| {
            let (seen, closed) = (seen.clone(), closed.clone());
            async move {
                let mut builder = h2::server::Builder::new();
                builder.max_concurrent_streams(2);
                let Ok(mut streams) = builder.handshake::<_, Bytes>(stream).await else { return };
                while let Some(Ok((request, answer))) = streams.accept().await {
                    seen.one();
                    let mut closed = closed.clone();
                    let first = request.uri().path() == "/first";
                    let asked = Asked { request, answer };
                    tokio::spawn(async move {
                        if !first {
                            let _ = closed.wait_for(|open| *open).await;
                        }
                        asked.ok("ok");
                    });
                }
            }
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        assert_eq!(way.get("/first").send(way.traffic).await.unwrap().status, 200);
        let mut calls = JoinSet::new();
        for _ in 0..6 {
            calls.spawn(way.get("/").send(way.traffic));
        }
        wait_until(SOON, "all six are at the app", async || holds(together.get() == 7, together.get())).await;
        open.send(true).unwrap();
        assert!(calls.join_all().await.into_iter().all(|reply| reply.unwrap().status == 200), "{way}");
    }
}

#[tokio::test]
async fn streams_and_heads_are_limited() {
    for setup in Setup::ALL {
        let way = Way::through(setup).start().await;
        // A head beyond the limit: 431 or a reset of that stream, and the connection goes on.
        let mut wire = Wire::open(way.traffic, true).await.unwrap();
        let big = way.get("/").h2();
        let big = (0..100).fold(big, |call, i| call.header(&format!("x-{i}"), &"v".repeat(1000)));
        match wire.send(big).await {
            Ok(reply) => assert_eq!(reply.status, 431, "{way}: {reply}"),
            Err(reset) => panic!("{way}: {reset}"),
        }
        assert_eq!(wire.send(way.get("/").h2()).await.unwrap().status, 200);
        // More streams than allowed: the one above is refused, those below live.
        let gate = way.lab.gate("go");
        let mut raw = RawH2::connect(way.traffic, &[]).await;
        let hold = request("GET", &way.host(), &format!("/hold?file={gate}"), &[]);
        for n in 0..257 {
            raw.request(2 * n + 1, 1, &hold).await;
        }
        let refused = raw.until_any(&[RST_STREAM, GOAWAY]).await.unwrap();
        assert_eq!((refused.kind, refused.stream, refused.code()), (RST_STREAM, 513, 7), "{way}");
        gate.open();
        for _ in 0..256 {
            raw.until(HEADERS).await;
        }
        drop(raw);
        way.idle().await;
    }
}

#[tokio::test]
async fn a_connection_that_takes_no_streams_for_good_is_left() {
    // GOAWAY right after the first answer, on every connection: each request needs a new one, and none is lost.
    for setup in Setup::ALL {
        let app = h2_connections(|_, mut streams| async move {
            let Some(Ok((request, answer))) = streams.accept().await else { return };
            Asked { request, answer }.ok("ok");
            streams.graceful_shutdown();
            // Those that came before the client knew are answered as well.
            while let Some(Ok((request, answer))) = streams.accept().await {
                Asked { request, answer }.ok("ok");
            }
        })
        .await;
        let way = Way::through(setup).protocol("h2c").at(app).start().await;
        let mut calls = JoinSet::new();
        for i in 0..30 {
            let call = way.post("/", format!("body {i}"));
            calls.spawn(call.send(way.traffic));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for reply in calls.join_all().await {
            let reply = reply.unwrap();
            assert_eq!(reply.status, 200, "{way}: {reply}");
        }
    }
}
