//! Puts a load on an address, and looks at the proxy's processor time meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::cpu::Threads;
use crate::common::wrk::Wrk;
use crate::events;
use crate::h2load::H2load;
use crate::paced;
use crate::rows::Shape;
use crate::site::{HOST, Site};

/// A load, ready to be put on.
pub(crate) enum Load {
    Wrk { wrk: Wrk, connections: u32 },
    H2load(H2load),
    Events { streams: u32 },
    Paced { connections: u32, per_second: f64 },
}

/// What came of it. Times in µs.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// At a constant rate: of the part, out of many short ones, that is the median of them.
    pub(crate) calm_p99: f64,
    pub(crate) failed: u64,
    /// Of the proxy, meanwhile.
    pub(crate) ran: Duration,
}

/// Times the processor time of a process, if there is one.
pub(crate) struct Stopwatch(Option<(u32, Threads)>);

// === impl Load ===

impl Load {
    /// For half of the capacity, it measures the capacity of each way first.
    pub(crate) async fn prepare(shape: Shape, site: &Site, seconds: u32) -> Self {
        match shape {
            Shape::Closed { connections, path, body } => {
                let body = (body > 0).then(|| "x".repeat(body));
                let wrk = Wrk::new(site.lab.dir(), HOST, path, body.as_deref());
                Self::Wrk { wrk, connections }
            }
            Shape::Multiplexed { connections, streams, grpc } => {
                Self::H2load(H2load::new(site.lab.dir(), connections, streams, grpc))
            }
            Shape::Events { streams } => Self::Events { streams },
            Shape::Half { connections } => {
                let wrk = Wrk::new(site.lab.dir(), HOST, "/", None);
                let closed = Self::Wrk { wrk, connections };
                let mut slowest = f64::INFINITY;
                for way in &site.ways {
                    closed.run(way.to, None, 1).await;
                    slowest = slowest.min(closed.run(way.to, None, seconds).await.per_second);
                }
                Self::Paced { connections, per_second: (slowest / 2.0).floor() }
            }
            Shape::Resting => unreachable!("memory has no load"),
        }
    }

    pub(crate) async fn run(&self, to: SocketAddr, pid: Option<u32>, seconds: u32) -> Outcome {
        match self {
            Self::Wrk { wrk, connections } => {
                let watch = Stopwatch::start(pid);
                let run = wrk.run(to, *connections, seconds);
                Outcome {
                    requests: run.requests,
                    per_second: run.per_second,
                    p50: run.p50,
                    p99: run.p99,
                    calm_p99: f64::NAN,
                    failed: run.failed,
                    ran: watch.stop(),
                }
            }
            Self::H2load(h2load) => h2load.run(to, pid, seconds),
            Self::Events { streams } => events::run(to, *streams, pid, seconds).await,
            Self::Paced { connections, per_second } => {
                paced::run(to, *connections, *per_second, pid, seconds)
            }
        }
    }
}

// === impl Stopwatch ===

impl Stopwatch {
    pub(crate) fn start(pid: Option<u32>) -> Self {
        Self(pid.map(|pid| (pid, Threads::look(pid))))
    }

    pub(crate) fn stop(self) -> Duration {
        self.0.map_or(Duration::ZERO, |(pid, before)| Threads::look(pid).since(&before).ran)
    }
}

// === impl Outcome ===

impl Outcome {
    /// µs of the proxy for each request that was answered as it should be.
    pub(crate) fn cpu(&self) -> f64 {
        self.ran.as_secs_f64() * 1e6 / self.requests.saturating_sub(self.failed) as f64
    }

    /// Sorts the latencies, in µs.
    pub(crate) fn of(mut latencies: Vec<f64>, failed: u64, wall: Duration, ran: Duration) -> Self {
        latencies.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let rank = (q * latencies.len() as f64).ceil() as usize;
            latencies.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
        };
        let answered = latencies.len() as u64;
        Self {
            requests: answered + failed,
            per_second: answered as f64 / wall.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            calm_p99: f64::NAN,
            failed,
            ran,
        }
    }
}
