//! Floods: what one client can make us do is bounded, and nobody else notices.

use std::time::Duration;

use pilotlight::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::h2_raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, RawH2, SETTINGS, frame, request,
};
use crate::support::{Setup, Way, rss_bytes};

/// For so long it is flooded at least, unless it hangs up.
const FLOOD: Duration = Duration::from_secs(2);
const MAX_GROWTH: u64 = 24 << 20;

/// Floods with what `more` makes of a running number; meanwhile others are served, and memory stays.
async fn flood(way: &Way, reads: bool, mut more: impl FnMut(u32) -> Vec<u8>) -> bool {
    assert_eq!(way.get("/").send(way.traffic).await.unwrap().status, 200);
    let pid = way.pid();
    let before = rss_bytes(pid);
    let raw = RawH2::connect(way.traffic, &[]).await;
    let (mut from, mut to) = raw.into_stream().into_split();
    let reading = tokio::spawn(async move {
        let mut waste = vec![0; 64 * 1024];
        while reads && from.read(&mut waste).await.is_ok_and(|n| n > 0) {}
        if !reads {
            std::future::pending::<()>().await;
        }
    });
    let (addr, call) = (way.traffic, || way.get("/"));
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
    // At least once, however slow the machine is, and all the time while the flood lasts.
    let others = async {
        let (begun, mut peak) = (clock::now(), 0);
        while begun.elapsed() < FLOOD {
            for h2 in [false, true] {
                let call = if h2 { call().h2() } else { call() };
                let reply = call.send(addr).await.unwrap();
                assert_eq!(reply.status, 200, "{reply}");
            }
            peak = peak.max(rss_bytes(pid));
            tokio::task::yield_now().await;
        }
        peak
    };
    let mut others = std::pin::pin!(others);
    let (cut_off, peak) = tokio::select! {
        peak = &mut others => (false, peak),
        () = writing => (true, others.await),
    };
    reading.abort();
    let growth = peak.saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{way}: grew by {growth} bytes");
    way.idle().await;
    cut_off
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continuation_without_end_is_cut_off() {
    for setup in Setup::ALL {
        let way = Way::through(setup).start().await;
        let head = request("GET", &way.host(), "/", &[]);
        let piece = crate::h2_raw::fields(&[("x-more", "and more of it")]);
        let cut = flood(&way, true, |n| match n {
            0 => frame(HEADERS, END_STREAM, 1, &head),
            _ => frame(CONTINUATION, 0, 1, &piece),
        });
        assert!(cut.await, "{way}: an endless head was read on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_are_cut_off() {
    for setup in Setup::ALL {
        let way = Way::through(setup).start().await;
        let head = request("GET", &way.host(), "/", &[]);
        let cut = flood(&way, true, |n| {
            let open = frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &head);
            [open, frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat()
        });
        assert!(cut.await, "{way}: resets went on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_make_us_reset_are_cut_off() {
    for setup in Setup::ALL {
        // "MadeYouReset": the client's own mistakes (a window update of 0) have us reset streams that the app works on.
        let way = Way::through(setup).start().await;
        let head = request("GET", &way.host(), "/sleep?ms=1000", &[]);
        let cut = flood(&way, true, |n| {
            let open = frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &head);
            [open, frame(super::h2_raw::WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])].concat()
        });
        assert!(cut.await, "{way}: errors went on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_settings_and_empty_frames_cost_no_memory() {
    for setup in Setup::ALL {
        for reads in [true, false] {
            let way = Way::through(setup).start().await;
            flood(&way, reads, |_| frame(PING, 0, 0, &[1; 8])).await;
            flood(&way, reads, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])).await;
            let head = request("POST", &way.host(), "/sink", &[]);
            flood(&way, reads, |n| match n {
                0 => frame(HEADERS, END_HEADERS, 1, &head),
                _ => frame(DATA, 0, 1, &[]),
            })
            .await;
        }
    }
}
