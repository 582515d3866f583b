//! Large bodies both ways: all of them arrive, and memory stays flat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{Call, NAME, Setup, Way, alive, host, rss_bytes};

/// 256 MiB, and 2 GiB where time is no matter (`PILOTLIGHT_LONG=1`): past every 32-bit count.
fn size() -> u64 {
    let long = std::env::var_os("PILOTLIGHT_LONG").is_some_and(|long| long == "1");
    if long { (2 << 30) + 1 } else { 256 << 20 }
}

/// What all of ours may grow by, however large the body.
const GROWTH: u64 = 16 << 20;

/// Watches the memory of every pilotlight process on the way, by a thread of its own.
struct Peak {
    stop: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    before: u64,
}

fn rss(pids: &[u32]) -> u64 {
    pids.iter().filter(|pid| alive(**pid)).map(|pid| rss_bytes(*pid)).sum()
}

impl Peak {
    fn watch(way: &Way) -> Self {
        let ours =
            |command: &str| command.split(' ').next().is_some_and(|program| program.ends_with("/pilotlight"));
        let pids: Vec<u32> = way.lab.processes().iter().filter(|p| ours(&p.command)).map(|p| p.pid).collect();
        let (stop, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, seen, before) = (stop.clone(), highest.clone(), rss(&pids));
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(rss(&pids), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, highest, before }
    }

    fn growth(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.highest.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_size_passes_in_constant_memory() {
    let size = size();
    for setup in Setup::ALL {
        let way = Way::through(setup).start().await;
        for h2 in [false, true] {
            let over = |call: Call| if h2 { call.h2() } else { call };
            // Buffers and allocator arenas are made by the first body, whatever its size.
            let first =
                over(Call::post_zeros(&host(NAME), "/sink", 32 << 20)).send(way.traffic).await.unwrap();
            assert_eq!(first.status, 200, "{way} h2 {h2}: {first}");
            let peak = Peak::watch(&way);
            let up = over(Call::post_zeros(&host(NAME), "/sink", size)).send(way.traffic).await.unwrap();
            assert_eq!((up.status, &up.json()["bytes"]), (200, &size.into()), "{way} h2 {h2}: {up}");
            let growth_up = peak.growth();
            let peak = Peak::watch(&way);
            let down = over(way.get(&format!("/bytes?n={size}"))).open(way.traffic).await.unwrap();
            assert_eq!(down.headers["content-length"], size.to_string(), "{way} h2 {h2}: the framing stays");
            assert_eq!(down.count().await.unwrap(), size, "{way} h2 {h2}");
            let growth_down = peak.growth();
            eprintln!(
                "{way} h2 {h2}: {} MiB up +{} KiB, down +{} KiB",
                size >> 20,
                growth_up >> 10,
                growth_down >> 10
            );
            assert!(growth_up < GROWTH && growth_down < GROWTH, "{way} h2 {h2}: {growth_up} {growth_down}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_does_not_read_holds_back_the_sender() {
    for setup in Setup::ALL {
        let way = Way::through(setup).start().await;
        for h2 in [false, true] {
            let peak = Peak::watch(&way);
            let (call, pieces) = Call::post_pieces(&host(NAME), "/hang");
            let call = if h2 { call.h2() } else { call };
            let held = way.send(call);
            let piece = bytes::Bytes::from(vec![0; 1 << 20]);
            let mut sent = 0_u64;
            while let Ok(Ok(())) =
                tokio::time::timeout(Duration::from_secs(1), pieces.send(piece.clone())).await
            {
                sent += 1;
                assert!(sent < 256, "{way} h2 {h2}: nobody holds the sender back");
            }
            let growth = peak.growth();
            assert!(growth < GROWTH, "{way} h2 {h2}: {growth}");
            held.abort();
        }
    }
}
