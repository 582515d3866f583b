//! Ten times the capacity.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pilotlight::clock;
use tokio::task::JoinSet;

use crate::hop::{ALL, Hop, Setup};
use crate::support::{Lab, SOON, Wire, holds, rss_bytes, wait_until};

#[tokio::test]
async fn what_does_not_fit_is_refused_at_once() {
    for kind in ALL {
        let lab = Lab::new();
        let gate = lab.gate("end");
        let setup = Setup { limit: 2, queue: 5, ..Setup::default() }.app(&["--limit", "2"]);
        let hop = Hop::start(kind, lab, &setup, true).await;
        let mut calls = JoinSet::new();
        for n in 0..70 {
            let call = hop.get(&format!("/hold?file={gate}")).id(&n.to_string());
            calls.spawn(if n % 2 == 0 { call } else { call.h2() }.send(hop.traffic));
        }
        // The gate is closed: what is answered now did not wait for anybody.
        for _ in 0..63 {
            let refused = calls.join_next().await.unwrap().unwrap().unwrap();
            refused.error(503, "");
            assert_eq!(refused.json()["error"]["code"], "overflow", "{kind:?}: {refused}");
            assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| s >= 1), "{refused}");
        }
        gate.open();
        let rest = calls.join_all().await;
        assert!(rest.len() == 7 && rest.into_iter().all(|reply| reply.unwrap().status == 200), "{kind:?}");
        assert_eq!(hop.metric("pilotlight_refused_total{reason=\"overflow\"}").await, 63.0, "{kind:?}");
        assert_eq!(hop.lab.events("app", "violation").len(), 0, "{kind:?}");
        assert_eq!(hop.reached().len(), 8, "{kind:?}: who was refused reached nothing");
    }
}

/// What one app does alone with as many clients as it has slots, and with ten times as many that all come again.
#[tokio::test]
async fn goodput_stays_and_memory_is_flat() {
    const SLOTS: u32 = 4;
    const SAMPLE: usize = 80;
    for kind in ALL {
        let setup =
            Setup { limit: SLOTS, queue: SLOTS, ..Setup::default() }.app(&["--delay", "50", "--limit", "4"]);
        let hop = Hop::start(kind, Lab::new(), &setup, true).await;
        let calm = Flood::start(&hop, SLOTS as usize);
        let alone = calm.seconds_for(SAMPLE).await;
        calm.stop().await;
        let flood = Flood::start(&hop, 10 * SLOTS as usize);
        flood.seconds_for(SAMPLE).await;
        let before = rss_bytes(hop.pid);
        let flooded = flood.seconds_for(SAMPLE).await;
        wait_until(SOON, "there was a flood", async || {
            let refused = flood.refused.load(Ordering::Relaxed);
            holds(refused > 1_000, refused)
        })
        .await;
        let after = rss_bytes(hop.pid);
        let errors = flood.stop().await;
        assert_eq!(errors, 0, "{kind:?}: every request is answered");
        // The machine is shared with the clients of the flood: half is far from what a collapse looks like.
        assert!(
            flooded < 2.5 * alone,
            "{kind:?}: {SAMPLE} answers took {flooded:.2} s, {alone:.2} s without a flood"
        );
        assert!(after < before + (4 << 20), "{kind:?}: {before} → {after} bytes");
        assert_eq!(hop.lab.events("app", "violation").len(), 0, "{kind:?}");
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
    fn start(hop: &Hop, clients: usize) -> Self {
        let [served, refused, errors] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        for _ in 0..clients {
            let (to, stop) = (hop.traffic, stop.clone());
            let (served, refused, errors) = (served.clone(), refused.clone(), errors.clone());
            workers.spawn(async move {
                let mut wire = None;
                while !stop.load(Ordering::Relaxed) {
                    if wire.is_none() {
                        wire = Wire::open(to, false).await.ok();
                    }
                    let Some(open) = &mut wire else { continue };
                    match open.send(crate::support::Call::get("app.default.localhost", "/")).await {
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
