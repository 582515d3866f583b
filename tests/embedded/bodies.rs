//! Bodies, streams and tunnels: forwarded as they come, and load until their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{Call, Lab, Raw, SOON, Serve, holds, host, rss_bytes, wait_until};

const GIB: u64 = 1 << 30;

/// Watches the memory of a process until it is asked for the peak.
struct Peak {
    stop: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    before: u64,
}

impl Peak {
    fn watch(serve: &Serve) -> Self {
        let pid = serve.pid();
        let (stop, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, seen) = (stop.clone(), highest.clone());
        // A thread: it looks at regular times however busy the test's runtime is.
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) && crate::support::alive(pid) {
                seen.fetch_max(rss_bytes(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, highest, before: rss_bytes(pid) }
    }

    /// The most that it grew by.
    fn growth(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.highest.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gib_up_and_down_leaves_memory_flat() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    assert_eq!(serve.get("iris", "/").await.status, 200);
    let peak = Peak::watch(&serve);
    let up = Call::post_zeros(&host("iris"), "/sink", GIB).send(serve.traffic).await.unwrap();
    assert_eq!((up.status, &up.json()["bytes"]), (200, &GIB.into()), "{up}");
    let down = Call::get(&host("iris"), &format!("/bytes?n={GIB}")).open(serve.traffic).await.unwrap();
    assert_eq!(down.headers["content-length"], GIB.to_string(), "the framing stays");
    assert_eq!(down.count().await.unwrap(), GIB);
    let growth = peak.growth();
    eprintln!("1 GiB up and 1 GiB down: serve grew by {} KiB at most", growth >> 10);
    assert!(growth < 32 << 20, "grew by {growth} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_holds_back_the_app() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    for h2 in [false, true] {
        let call = Call::get(&host("iris"), &format!("/bytes?n={GIB}"));
        let call = if h2 { call.h2() } else { call };
        assert_eq!(serve.get("iris", "/").await.status, 200);
        let peak = Peak::watch(&serve);
        let mut open = call.open(serve.traffic).await.unwrap();
        assert!(open.chunk().await.unwrap().is_ok());
        // Not reading on: what is under way may fill its buffers, and no more.
        let (mut last, mut same) = (0, 0);
        wait_until(SOON, "memory stands still", async || {
            let now = rss_bytes(serve.pid());
            same = if now == last { same + 1 } else { 0 };
            last = now;
            holds(same > 20, now)
        })
        .await;
        drop(open);
        let growth = peak.growth();
        assert!(growth < 32 << 20, "h2 {h2}: grew by {growth} bytes");
        serve.wait_service("iris", "nothing in flight", |s| s["in_flight"] == 0).await;
    }
}

#[tokio::test]
async fn events_come_through_as_they_are_made_and_hold_the_slot() {
    let lab = Lab::new();
    let gate = lab.gate("rest");
    let serve = lab.services(&[&lab.app("iris").limit(1).max(1)]).serve().start().await;
    let call = Call::get(&host("iris"), &format!("/sse?n=3&ms=1&hold={gate}"));
    let mut events = call.open(serve.traffic).await.unwrap();
    assert_eq!(events.headers["content-type"], "text/event-stream");
    // The app makes no second event before the gate opens: this one was not held back for it.
    assert_eq!(events.chunk().await.unwrap().unwrap(), "data: 0\n\n");
    let second = serve.send(Call::get(&host("iris"), "/"));
    let state = serve.wait_queued("iris", 1).await;
    assert!(state["in_flight"] == 1 && state["replicas"][0]["in_flight"] == 1, "{state}");
    gate.open();
    assert_eq!(events.rest().await.unwrap().text(), "data: 1\n\ndata: 2\n\n");
    assert_eq!(second.await.unwrap().unwrap().json()["max_in_flight"], 1);
    serve.wait_service("iris", "nothing in flight", |s| s["in_flight"] == 0).await;
}

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel_and_is_load() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris").limit(1).max(1), &lab.app("other")]).serve().start().await;
    let mut socket = Raw::connect(serve.traffic).await;
    let head = "GET /ws-echo HTTP/1.1\r\nconnection: keep-alive, Upgrade\r\nupgrade: echo\r\nhost: ";
    socket.send(format!("{head}{}\r\n\r\n", host("iris"))).await;
    let answer = socket.until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("upgrade: echo"), "{answer}");
    for i in 0..3 {
        socket.send(format!("frame {i};")).await;
        socket.until(&format!("frame {i};")).await;
    }
    let waits = serve.send(Call::get(&host("iris"), "/"));
    let state = serve.wait_queued("iris", 1).await;
    assert_eq!(state["in_flight"], 1);
    // A neighbour that goes to zero shows that windows have passed; the tunnel kept its replica.
    assert_eq!(serve.get("other", "/").await.status, 200);
    serve.wait_service("other", "at zero", |s| s["state"] == "zero").await;
    socket.send("alive;").await;
    socket.until("alive;").await;
    drop(socket);
    assert_eq!(waits.await.unwrap().unwrap().status, 200);
    serve.wait_service("iris", "nothing in flight", |s| s["in_flight"] == 0).await;
    assert_eq!(lab.events("iris", "boot").len(), 1);
}

#[tokio::test]
async fn odd_answers_and_both_protocols_pass() {
    let lab = Lab::new();
    let h1 = lab.app("h1").set("protocol", "http1");
    let h2 = lab.app("h2").set("protocol", "h2c");
    let serve = lab.services(&[&h1, &h2]).serve().start().await;
    for (service, version) in [("h1", "HTTP/1.1"), ("h2", "HTTP/2.0")] {
        for client_h2 in [false, true] {
            let wire = |call: Call| if client_h2 { call.h2() } else { call };
            let seen = wire(Call::get(&host(service), "/a?b=c")).send(serve.traffic).await.unwrap();
            assert_eq!(seen.status, 200, "{service} {client_h2}: {seen}");
            let seen = seen.json();
            assert_eq!((&seen["protocol"], &seen["path"]), (&version.into(), &"/a?b=c".into()));
            assert_eq!(seen["host"], host(service));
            let echo = wire(Call::post(&host(service), "/echo", "hello")).send(serve.traffic).await.unwrap();
            assert_eq!(echo.text(), "hello");
            let code = wire(Call::get(&host(service), "/status?code=418")).send(serve.traffic).await.unwrap();
            assert_eq!(code.status, 418);
            let call = wire(Call::get(&host(service), "/trailers").header("te", "trailers"));
            let reply = call.send(serve.traffic).await.unwrap();
            assert_eq!(reply.trailers.get("x-checksum").unwrap(), "42", "{service} {client_h2}: {reply}");
            // An answer that comes before the body was read.
            let early = wire(Call::post_zeros(&host(service), "/early", 1000));
            assert_eq!(early.send(serve.traffic).await.unwrap().status, 200);
        }
        serve.wait_service(service, "nothing in flight", |s| s["in_flight"] == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_wait_hold_what_they_say_however_small_their_pieces() {
    const CLIENTS: u64 = 6;
    const BYTES: u64 = 64 * 1024;
    let lab = Lab::new();
    let gate = lab.gate("start");
    let serve = lab.services(&[&lab.app("iris").args(["--start-gate", &gate])]).serve().start().await;
    let peak = Peak::watch(&serve);
    let uploads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let traffic = serve.traffic;
            tokio::spawn(async move {
                let mut raw = Raw::connect(traffic).await;
                let head = "POST /sink HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\nhost: ";
                raw.send(format!("{head}{}\r\n\r\n", host("iris"))).await;
                raw.send("1\r\nx\r\n".repeat(BYTES as usize)).await;
                raw.send("0\r\n\r\n").await;
                raw.until("sha256").await
            })
        })
        .collect();
    let state = serve.wait_service("iris", "all bodies are read", |s| {
        s["queued"] == CLIENTS && s["buffered_bytes"].as_u64() >= Some(CLIENTS * BYTES)
    });
    let buffered = state.await["buffered_bytes"].as_u64().unwrap();
    assert!(buffered <= CLIENTS * (2 * BYTES + 1024), "{buffered} bytes are said to be held");
    let growth = peak.growth();
    eprintln!("{CLIENTS} × {BYTES} bytes one by one: {buffered} counted, serve grew by {} KiB", growth >> 10);
    assert!(growth < 12 << 20, "grew by {growth} bytes");
    gate.open();
    for upload in uploads {
        let answer = upload.await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("\"bytes\":{BYTES}")),
            "{answer}"
        );
    }
    serve.wait_service("iris", "nothing is held", |s| s["buffered_bytes"] == 0).await;
}
