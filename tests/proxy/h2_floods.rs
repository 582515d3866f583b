//! Floods: what one client can make us do is bounded, and nobody else notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::h2_front::{Front, Hop};
use crate::h2_raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, RawH2, SETTINGS, frame, request,
};
use crate::support::rss_bytes;

/// For so long it is flooded, unless it hangs up.
const FLOOD: Duration = Duration::from_secs(2);
const MAX_GROWTH: u64 = 24 << 20;

/// Floods with what `more` makes of a running number; meanwhile others are served, and memory stays.
async fn flood(front: &mut Front, reads: bool, mut more: impl FnMut(u32) -> Vec<u8>) -> bool {
    assert_eq!(front.get("/").send(front.addr).await.unwrap().status, 200);
    let pid = front.program().pid();
    let before = rss_bytes(pid);
    let raw = RawH2::connect(front.addr, &[]).await;
    let (mut from, mut to) = raw.into_stream().into_split();
    let reading = tokio::spawn(async move {
        let mut waste = vec![0; 64 * 1024];
        while reads && from.read(&mut waste).await.is_ok_and(|n| n > 0) {}
        if !reads {
            std::future::pending::<()>().await;
        }
    });
    let (addr, call) = (front.addr, || front.get("/"));
    let mut peak = 0;
    let writing = async {
        let mut number = 0;
        loop {
            let mut batch = Vec::new();
            while batch.len() < 32 * 1024 {
                batch.extend(more(number));
                number += 1;
            }
            if to.write_all(&batch).await.is_err() {
                return;
            }
        }
    };
    let others = async {
        let mut served = 0;
        loop {
            for h2 in [false, true] {
                let call = if h2 { call().h2() } else { call() };
                let reply = call.send(addr).await.unwrap();
                assert_eq!(reply.status, 200, "{reply}");
                served += 1;
            }
            peak = peak.max(rss_bytes(pid));
            tokio::task::yield_now().await;
            if served > 10_000 {
                return;
            }
        }
    };
    // Others are served all the time, whether or not the flood was cut off.
    let cut_off =
        tokio::join!(tokio::time::timeout(FLOOD, writing), tokio::time::timeout(FLOOD, others)).0.is_ok();
    reading.abort();
    let growth = peak.saturating_sub(before);
    assert!(peak > 0, "nobody else was served");
    assert!(growth < MAX_GROWTH, "grew by {growth} bytes");
    front.settled().await;
    cut_off
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continuation_without_end_is_cut_off() {
    for hop in Hop::ALL {
        let mut front = hop.setup().testapp().await;
        let head = request("GET", &front.host(), "/", &[]);
        let piece = crate::h2_raw::fields(&[("x-more", "and more of it")]);
        let cut = flood(&mut front, true, |n| match n {
            0 => frame(HEADERS, END_STREAM, 1, &head),
            _ => frame(CONTINUATION, 0, 1, &piece),
        });
        assert!(cut.await, "{hop:?}: an endless head was read on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_are_cut_off() {
    for hop in Hop::ALL {
        let mut front = hop.setup().testapp().await;
        let head = request("GET", &front.host(), "/", &[]);
        let cut = flood(&mut front, true, |n| {
            let open = frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &head);
            [open, frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat()
        });
        assert!(cut.await, "{hop:?}: resets went on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_make_us_reset_are_cut_off() {
    // "MadeYouReset": the client's own mistakes (a window update of 0) have us reset streams that the app works on.
    let mut front = Hop::QueueProxy.setup().testapp().await;
    let head = request("GET", &front.host(), "/sleep?ms=1000", &[]);
    let cut = flood(&mut front, true, |n| {
        let open = frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &head);
        [open, frame(super::h2_raw::WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])].concat()
    });
    assert!(cut.await, "errors went on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_settings_and_empty_frames_cost_no_memory() {
    for hop in [Hop::QueueProxy, Hop::Serve] {
        for reads in [true, false] {
            let mut front = hop.setup().testapp().await;
            flood(&mut front, reads, |_| frame(PING, 0, 0, &[1; 8])).await;
            flood(&mut front, reads, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])).await;
            let head = request("POST", &front.host(), "/sink", &[]);
            flood(&mut front, reads, |n| match n {
                0 => frame(HEADERS, END_HEADERS, 1, &head),
                _ => frame(DATA, 0, 1, &[]),
            })
            .await;
        }
    }
}
