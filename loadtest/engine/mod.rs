//! Carries a scenario out. Open loop: every request leaves when the scenario says, whatever the answers do.
//!
//! The main thread leads ([`conductor`]), some others send ([`worker`]): each of these has a runtime and connections of
//! its own and takes its share of the arrivals, so nothing but counters is shared on the way of a request.

mod alarm;
mod conductor;
mod order;
mod shared;
mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;

pub(crate) use conductor::{IsZero, Stage};
pub(crate) use shared::Shared;

use self::conductor::Conductor;
use self::worker::{Order, Share};
use crate::client::Tls;
use crate::run::Finished;

/// After an early end, what is open has so long.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks whether anything is open.
const LOOK: Duration = Duration::from_millis(2);
/// Orders that wait for a thread that is late.
const ORDERS: usize = 4;

/// Threads that send.
pub(crate) struct Threads {
    orders: Vec<Vec<mpsc::Sender<Order>>>,
    handles: Vec<JoinHandle<std::io::Result<()>>>,
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// No thread, runtime or timer.
    #[error("cannot start a sending thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A bug.
    #[error("a sending thread panicked")]
    Panic,
}

// === impl Threads ===

impl Threads {
    /// Starts them; they wait for the run's beginning.
    pub(crate) fn start(shared: &Arc<Shared>, threads: usize, tls: &Tls) -> Result<Self, EngineError> {
        let mut all = Self { orders: Vec::new(), handles: Vec::new() };
        for number in 0..threads {
            let (senders, receivers) =
                shared.scenario.timelines.iter().map(|_| mpsc::channel(ORDERS)).unzip();
            let (shared, tls) = (shared.clone(), tls.clone());
            let share = Share { number, of: threads };
            let thread = std::thread::Builder::new().name(format!("send-{number}"));
            let run = move || {
                let ran = worker::run(&shared, share, &tls, receivers);
                if ran.is_err() {
                    shared.cut();
                }
                ran
            };
            all.orders.push(senders);
            all.handles.push(thread.spawn(run)?);
        }
        Ok(all)
    }

    /// Leads the run to its end.
    pub(crate) async fn lead(
        self,
        shared: &Arc<Shared>,
        stage: &Stage,
        is_zero: &IsZero<'_>,
    ) -> Result<Finished, EngineError> {
        let mut first = 0;
        let conductors = shared.scenario.timelines.iter().enumerate().map(|(timeline, line)| {
            let threads = self.orders.iter().map(|orders| orders[timeline].clone()).collect();
            let conductor = Conductor { shared: shared.clone(), stage, timeline, first, threads, is_zero };
            first += line.phases.len();
            conductor.run()
        });
        let conducted = join_all(conductors.collect::<Vec<_>>());
        let most = shared.began + shared.scenario.limits.duration;
        tokio::select! {
            biased;
            _ = conducted => {}
            () = tokio::time::sleep_until(most.into()) => shared.limit_reached(),
        }
        let limit_reached = shared.limit_reached.load(Ordering::Relaxed);
        let interrupted = shared.halt.is_cancelled() && !limit_reached;
        tokio::select! {
            () = shared.cut.cancelled() => {}
            () = shared.over() => {}
            // What was sent in time may be answered in time: each request has its own timeout.
            () = tokio::time::sleep(GRACE), if interrupted => {}
            () = tokio::time::sleep_until((most + GRACE).into()) => {}
        }
        let ended_early = shared.cut.is_cancelled() && !limit_reached;
        shared.cut();
        for handle in self.handles {
            handle.join().map_err(|_| EngineError::Panic)??;
        }
        Ok(
            match (limit_reached || shared.limit_reached.load(Ordering::Relaxed), interrupted || ended_early)
            {
                (true, _) => Finished::LimitReached,
                (_, true) => Finished::Interrupted,
                _ => Finished::Complete,
            },
        )
    }
}

impl Shared {
    /// Returns when nothing is open.
    async fn over(&self) {
        while self.open() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}
