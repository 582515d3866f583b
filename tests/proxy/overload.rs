//! Ten times the capacity.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pilotlight::clock;
use tokio::task::JoinSet;

use crate::support::{Call, NAME, SOON, Setup, Way, Wire, holds, host, rss_bytes, wait_until};

#[tokio::test]
async fn what_does_not_fit_is_refused_at_once() {
    for setup in Setup::ALL {
        let way = Way::through(setup).args(&["--limit", "2"]).limit(2).queue(5).start().await;
        let gate = way.lab.gate("end");
        let mut calls = JoinSet::new();
        for n in 0..70 {
            let call = way.get(&format!("/hold?file={gate}")).id(&n.to_string());
            calls.spawn(if n % 2 == 0 { call } else { call.h2() }.send(way.traffic));
        }
        // The gate is closed: what is answered now did not wait for anybody.
        for _ in 0..63 {
            let refused = calls.join_next().await.unwrap().unwrap().unwrap();
            refused.error(503, "");
            assert_eq!(refused.json()["error"]["code"], "overflow", "{way}: {refused}");
            assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| s >= 1), "{refused}");
        }
        gate.open();
        let rest = calls.join_all().await;
        assert!(rest.len() == 7 && rest.into_iter().all(|reply| reply.unwrap().status == 200), "{way}");
        assert_eq!(way.metric("pilotlight_refused_total{reason=\"overflow\"}").await, 63.0, "{way}");
        assert_eq!(way.lab.events(NAME, "violation").len(), 0, "{way}");
        assert_eq!(way.arrived().len(), 8, "{way}: who was refused reached nothing");
    }
}

/// What one app does alone with as many clients as it has slots, and with ten times as many that all come again.
#[tokio::test]
async fn goodput_stays_and_memory_is_flat() {
    const SLOTS: u32 = 4;
    const SAMPLE: usize = 80;
    for setup in Setup::ALL {
        let way = Way::through(setup).args(&["--delay", "50", "--limit", "4"]).limit(SLOTS).queue(SLOTS);
        let way = way.start().await;
        let calm = Flood::start(&way, SLOTS as usize);
        let alone = calm.seconds_for(SAMPLE).await;
        calm.stop().await;
        let flood = Flood::start(&way, 10 * SLOTS as usize);
        flood.seconds_for(SAMPLE).await;
        let before = rss_bytes(way.pid());
        // Other programs may take the machine for a moment; a collapse lasts.
        let mut flooded = f64::INFINITY;
        for _ in 0..5 {
            flooded = flooded.min(flood.seconds_for(SAMPLE).await);
            if flooded < 2.5 * alone {
                break;
            }
        }
        wait_until(SOON, "there was a flood", async || {
            let refused = flood.refused.load(Ordering::Relaxed);
            holds(refused > 1_000, refused)
        })
        .await;
        let after = rss_bytes(way.pid());
        let errors = flood.stop().await;
        assert_eq!(errors, 0, "{way}: every request is answered");
        // The machine is shared with the clients of the flood: half is far from what a collapse looks like.
        assert!(
            flooded < 2.5 * alone,
            "{way}: {SAMPLE} answers took {flooded:.2} s, {alone:.2} s without a flood"
        );
        assert!(after < before + (4 << 20), "{way}: {before} → {after} bytes");
        assert_eq!(way.lab.events(NAME, "violation").len(), 0, "{way}");
    }
}

/// Clients that come again, a moment after they were refused.
struct Flood {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    errors: Arc<AtomicUsize>,
    workers: JoinSet<()>,
}

impl Flood {
    fn start(way: &Way, clients: usize) -> Self {
        let [served, refused, errors] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        for _ in 0..clients {
            let (to, stop) = (way.traffic, stop.clone());
            let (served, refused, errors) = (served.clone(), refused.clone(), errors.clone());
            workers.spawn(async move {
                let mut wire = None;
                while !stop.load(Ordering::Relaxed) {
                    if wire.is_none() {
                        wire = Wire::open(to, false).await.ok();
                    }
                    let Some(open) = &mut wire else { continue };
                    match open.send(Call::get(&host(NAME), "/")).await {
                        Ok(reply) if reply.status == 200 => _ = served.fetch_add(1, Ordering::Relaxed),
                        Ok(reply) if reply.status == 503 => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(40)).await;
                        }
                        _ => {
                            errors.fetch_add(1, Ordering::Relaxed);
                            wire = None;
                        }
                    }
                }
            });
        }
        Self { stop, served, refused, errors, workers }
    }

    async fn seconds_for(&self, n: usize) -> f64 {
        let (begun, first) = (clock::now(), self.served.load(Ordering::Relaxed));
        wait_until(SOON, format!("{n} are served"), async || {
            let served = self.served.load(Ordering::Relaxed) - first;
            holds(served >= n, served)
        })
        .await;
        begun.elapsed().as_secs_f64()
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.join_all().await;
        self.errors.load(Ordering::Relaxed)
    }
}
