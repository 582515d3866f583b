//! Flow control in both directions, and nobody pays for another's slowness.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::h2_apps::{Asked, Count, h2_connections, h2_only};
use crate::h2_front::Hop;
use crate::h2_raw::{DATA, GOAWAY, HEADERS, PING, RST_STREAM, RawH2, frame, request};
use crate::support::{Call, SOON, Wire, holds, rss_bytes, wait_until};

const INITIAL_WINDOW_SIZE: u16 = 4;

#[tokio::test]
async fn a_client_gets_no_more_than_its_window() {
    for hop in Hop::ALL {
        let mut front = hop.setup().testapp().await;
        assert_eq!(front.get("/").send(front.addr).await.unwrap().status, 200);
        let before = rss_bytes(front.program().pid());
        let mut raw = RawH2::connect(front.addr, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        raw.request(1, 1, &request("GET", &front.host(), "/bytes?n=1073741824", &[])).await;
        raw.until(HEADERS).await;
        for more in [1, 999, 20_000] {
            raw.window(1, more).await;
            let mut got = 0;
            while got < more {
                let data = raw.until(DATA).await;
                assert!(!data.payload.is_empty());
                got += data.payload.len() as u32;
            }
            assert_eq!(got, more, "{hop:?}");
            // Frames come in order: whatever would be too much would come before the answer to this.
            raw.send(frame(PING, 0, 0, &[7; 8])).await.unwrap();
            let pong = raw.until_any(&[PING, DATA]).await.unwrap();
            assert_eq!((pong.kind, pong.flags), (PING, 1), "{hop:?}: more than the window");
        }
        let grown = rss_bytes(front.program().pid()).saturating_sub(before);
        assert!(grown < 16 << 20, "{hop:?}: grew by {grown} bytes for a client that reads nothing");
        drop(raw);
        front.settled().await;
    }
}

#[tokio::test]
async fn an_app_that_does_not_read_holds_the_sender_back() {
    for hop in Hop::ALL {
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
        let front = hop.setup().protocol("h2c").app(app).await;
        let sent = Count::default();
        let upload = tokio::spawn(upload(front.addr, front.host(), 32 << 20, sent.clone()));
        let (mut last, mut same) = (0, 0);
        wait_until(SOON, "the sender is held back", async || {
            same = if sent.get() == last && last > 0 { same + 1 } else { 0 };
            last = sent.get();
            holds(same > 50, last)
        })
        .await;
        // In pieces of 16 KiB: windows and buffers of each hop, not the whole.
        assert!(last < 8 << 6, "{hop:?}: {last} pieces were taken");
        release.send(true).unwrap();
        assert_eq!(upload.await.unwrap(), 200, "{hop:?}");
        front.settled().await;
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
    for hop in Hop::ALL {
        let front = hop.setup().protocol("http1").limit(1).testapp().await;
        let stream = tokio::net::TcpStream::connect(front.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // One connection for all, as a gateway has.
        let builder = h2::client::Builder::new();
        let (client, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
        tokio::spawn(connection);
        let mut calls = JoinSet::new();
        for _ in 0..UPLOADS {
            let mut client = client.clone().ready().await.unwrap();
            let request = http::Request::post(format!("http://{}/sink", front.host())).body(()).unwrap();
            let (answer, mut body) = client.send_request(request, false).unwrap();
            calls.spawn(async move {
                body.send_data(Bytes::from(vec![0; 1 << 20]), true).unwrap();
                answer.await.map(|answer| answer.status().as_u16())
            });
        }
        let all = tokio::time::timeout(SOON, calls.join_all());
        let all = all.await.unwrap_or_else(|_| panic!("{hop:?}: uploads stalled"));
        assert!(all.iter().all(|status| matches!(status, Ok(200))), "{hop:?}: {all:?}");
        front.settled().await;
    }
}

#[tokio::test]
async fn clients_that_do_not_read_do_not_stall_others_at_an_http2_app() {
    for hop in Hop::ALL {
        let front = hop.setup().protocol("h2c").testapp().await;
        let mut unread = Vec::new();
        for _ in 0..100 {
            let mut raw = RawH2::connect(front.addr, &[(INITIAL_WINDOW_SIZE, 0)]).await;
            raw.request(1, 1, &request("GET", &front.host(), "/bytes?n=10000000", &[])).await;
            raw.until(HEADERS).await;
            unread.push(raw);
        }
        let big = front.get("/bytes?n=20000000").open(front.addr).await.unwrap();
        let read = tokio::time::timeout(SOON, big.count()).await;
        assert_eq!(read.unwrap_or_else(|_| panic!("{hop:?}: stalled")).unwrap(), 20_000_000);
        drop(unread);
        front.settled().await;
    }
}

#[tokio::test]
async fn an_app_with_few_streams_gets_more_connections() {
    // Two streams a connection: six requests at once need three, and a seventh is not lost either.
    for hop in [Hop::QueueProxy, Hop::Both] {
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
        let front = hop.setup().protocol("h2c").app(app).await;
        assert_eq!(front.get("/first").send(front.addr).await.unwrap().status, 200);
        let mut calls = JoinSet::new();
        for _ in 0..6 {
            calls.spawn(front.get("/").send(front.addr));
        }
        wait_until(SOON, "all six are at the app", async || holds(together.get() == 7, together.get())).await;
        open.send(true).unwrap();
        assert!(calls.join_all().await.into_iter().all(|reply| reply.unwrap().status == 200), "{hop:?}");
    }
}

#[tokio::test]
async fn streams_and_heads_are_limited() {
    for hop in Hop::ALL {
        let front = hop.setup().testapp().await;
        // A head beyond the limit: 431 or a reset of that stream, and the connection goes on.
        let mut wire = Wire::open(front.addr, true).await.unwrap();
        let big = front.get("/").h2();
        let big = (0..100).fold(big, |call, i| call.header(&format!("x-{i}"), &"v".repeat(1000)));
        match wire.send(big).await {
            Ok(reply) => assert_eq!(reply.status, 431, "{hop:?}: {reply}"),
            Err(reset) => panic!("{hop:?}: {reset}"),
        }
        assert_eq!(wire.send(front.get("/").h2()).await.unwrap().status, 200);
        // More streams than allowed: the one above is refused, those below live.
        let gate = front.lab.gate("go");
        let mut raw = RawH2::connect(front.addr, &[]).await;
        let hold = request("GET", &front.host(), &format!("/hold?file={gate}"), &[]);
        for n in 0..257 {
            raw.request(2 * n + 1, 1, &hold).await;
        }
        let refused = raw.until_any(&[RST_STREAM, GOAWAY]).await.unwrap();
        assert_eq!((refused.kind, refused.stream, refused.code()), (RST_STREAM, 513, 7), "{hop:?}");
        gate.open();
        for _ in 0..256 {
            raw.until(HEADERS).await;
        }
        drop(raw);
        front.settled().await;
    }
}

#[tokio::test]
async fn a_connection_that_takes_no_streams_for_good_is_left() {
    // GOAWAY right after the first answer, on every connection: each request needs a new one, and none is lost.
    for hop in Hop::ALL {
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
        let front = hop.setup().protocol("h2c").app(app).await;
        let mut calls = JoinSet::new();
        for i in 0..30 {
            let call = Call::post(&front.host(), "/", format!("body {i}"));
            calls.spawn(call.send(front.addr));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for reply in calls.join_all().await {
            let reply = reply.unwrap();
            assert_eq!(reply.status, 200, "{hop:?}: {reply}");
        }
    }
}
