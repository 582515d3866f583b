//! One thread that sends: its own runtime, its own connections, and its share of the arrivals.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pilotlight::clock;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

use super::alarm::Alarm;
use super::order::Line;
use super::shared::Shared;
use crate::arrivals::seed;
use crate::client::{Caller, Tls};
use crate::recorder::Shot;

/// Requests that are sent in one go when it is late, before connections have their turn.
const AT_ONCE: u32 = 32;
/// Polls of tasks between two looks at timers and sockets. Fewer than tokio's 61: a due request must not wait for long.
const EVENT_INTERVAL: u32 = 17;

/// A phase is to begin.
pub(super) struct Order {
    /// Its number in its timeline.
    pub(super) number: usize,
    /// Its number of all phases.
    pub(super) phase: usize,
    /// When.
    pub(super) at: Instant,
    /// Dropped when everything has been sent.
    pub(super) _sending: mpsc::Sender<()>,
}

/// One of several threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) number: usize,
    pub(super) of: usize,
}

/// Runs until the run is cut. `orders`: of each timeline.
pub(super) fn run(
    shared: &Arc<Shared>,
    share: Share,
    tls: &Tls,
    orders: Vec<mpsc::Receiver<Order>>,
) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build_local(LocalOptions::default())?;
    let scenario = &shared.scenario;
    let callers: Vec<Rc<Caller>> = (0_u64..)
        .zip(&scenario.services)
        .map(|(place, service)| Rc::new(Caller::new(service, tls, seed(scenario.seed, place, 0))))
        .collect();
    let callers = Rc::new(callers);
    runtime.block_on(async {
        let paces = orders.into_iter().enumerate().map(|(timeline, orders)| {
            let pacer = Pacer { shared: shared.clone(), share, timeline, callers: callers.clone() };
            tokio::task::spawn_local(pacer.run(orders))
        });
        let paces: Vec<_> = paces.collect();
        shared.cut.cancelled().await;
        for pace in paces {
            // They end by the same signal.
            if let Ok(Err(error)) = pace.await {
                return Err(error);
            }
        }
        Ok(())
    })
    // The runtime ends here, and with it what is still open: its tickets say so.
}

/// Sends one timeline's requests when their time has come.
struct Pacer {
    shared: Arc<Shared>,
    share: Share,
    timeline: usize,
    callers: Rc<Vec<Rc<Caller>>>,
}

// === impl Pacer ===

impl Pacer {
    async fn run(self, mut orders: mpsc::Receiver<Order>) -> std::io::Result<()> {
        let alarm = Alarm::new()?;
        let shared = self.shared.clone();
        // The next request of each of the timeline's services.
        let mut indexes = vec![0; shared.scenario.timelines[self.timeline].services.len()];
        loop {
            tokio::select! {
                biased;
                () = shared.halt.cancelled() => return Ok(()),
                order = orders.recv() => match order {
                    Some(order) => self.send(&order, &alarm, &mut indexes).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Sends this thread's share of a phase.
    async fn send(&self, order: &Order, alarm: &Alarm, indexes: &mut [u64]) -> std::io::Result<()> {
        let timeline = &self.shared.scenario.timelines[self.timeline];
        let phase = &timeline.phases[order.number];
        let line = Line::new(phase, order.phase, &timeline.services, self.shared.scenario.seed);
        let mut at_once = 0;
        for (number, (offset, turn)) in line.enumerate() {
            let index = indexes[turn];
            indexes[turn] += 1;
            if number % self.share.of != self.share.number {
                continue;
            }
            let intended = order.at + offset;
            if intended > clock::now() {
                at_once = 0;
                tokio::select! {
                    biased;
                    () = self.shared.halt.cancelled() => return Ok(()),
                    waited = alarm.until(intended) => waited?,
                }
            } else if at_once == AT_ONCE {
                at_once = 0;
                tokio::task::yield_now().await;
            }
            if self.shared.halt.is_cancelled() {
                return Ok(());
            }
            at_once += 1;
            let service = timeline.services[turn];
            self.fire(Shot { service, phase: order.phase, index, intended });
        }
        Ok(())
    }

    fn fire(&self, shot: Shot) {
        let Some(ticket) = self.shared.ticket(self.timeline, shot) else {
            return;
        };
        let callers = self.callers.clone();
        tokio::task::spawn_local(async move {
            let left = clock::now();
            let came = callers[shot.service].call(ticket.shot(), left, ticket.recorder()).await;
            ticket.end(left, came);
        });
    }
}
