//! All ways of a row, and the replicas behind them. Two `serve` start the replicas, which the others use too.

use std::net::SocketAddr;

use crate::cores::Cores;
use crate::proxies::{self, Job, Kind, Started};
use crate::support::{Call, Lab, SOON, Serve, wait_until};

/// One way, running.
pub(crate) struct Way {
    pub(crate) kind: Kind,
    pub(crate) to: SocketAddr,
    /// The process that does the work.
    pub(crate) pid: u32,
    /// Of nginx: stays only to start the worker again, and its memory is nginx's too.
    pub(crate) master: Option<u32>,
    /// Behind it.
    pub(crate) replicas: Vec<SocketAddr>,
    _started: Option<Started>,
}

pub(crate) struct Site {
    pub(crate) ways: Vec<Way>,
    /// Behind all ways but those with four.
    pub(crate) replica: SocketAddr,
    _serves: Vec<Serve>,
    // Last: its drop kills whatever is left.
    pub(crate) lab: Lab,
}

/// The service's host, at `serve`.
pub(crate) const HOST: &str = "app.default.localhost";

// === impl Site ===

impl Site {
    pub(crate) async fn start(kinds: &[Kind], job: Job, cores: Cores) -> Self {
        let lab = Lab::new();
        let (mut serves, mut ways, mut replica) = (Vec::new(), Vec::new(), None);
        for n in [1, 4] {
            // One replica is there in any case, to be asked directly.
            if n > 1 && !kinds.iter().any(|kind| kind.replicas() == n) {
                continue;
            }
            let (serve, replicas) = proxies::serve(&lab, job, n).await;
            replica = replica.or(Some(replicas[0]));
            for kind in kinds.iter().copied().filter(|kind| kind.replicas() == n) {
                let way = if matches!(kind, Kind::Serve1 | Kind::Serve4) {
                    Way::new(kind, serve.traffic, serve.pid(), &replicas)
                } else {
                    Way::of(kind, proxies::start(kind, &lab, &replicas, job).await, &replicas)
                };
                cores.proxy(way.pid);
                ways.push(way);
            }
            serves.push(serve);
        }
        ways.sort_by_key(|way: &Way| kinds.iter().position(|kind| *kind == way.kind));
        Self { ways, replica: replica.expect("the first serve has one"), _serves: serves, lab }
    }
}

// === impl Way ===

impl Way {
    fn new(kind: Kind, to: SocketAddr, pid: u32, replicas: &[SocketAddr]) -> Self {
        Self { kind, to, pid, master: None, replicas: replicas.to_vec(), _started: None }
    }

    fn of(kind: Kind, started: Started, replicas: &[SocketAddr]) -> Self {
        let way = Self::new(kind, started.to, started.pid, replicas);
        Self { master: started.master, _started: Some(started), ..way }
    }

    /// Waits until nothing is left at its replicas of whoever was there before, and has them forget it.
    pub(crate) async fn settle(&self) {
        let what = format!("nobody asks the replicas of {}", self.kind.name());
        wait_until(SOON, what, async || match self.counts().await {
            (0, _) => Ok(()),
            (now, _) => Err(now),
        })
        .await;
        // The look that saw nobody saw the most of before.
        self.counts().await;
    }

    /// The most requests that one of its replicas has had at once since then.
    pub(crate) async fn most_at_once(&self) -> u32 {
        self.counts().await.1
    }

    /// Requests at its replicas together, and the most that one of them has had.
    async fn counts(&self) -> (u32, u32) {
        let (mut all, mut most) = (0, 0);
        for replica in &self.replicas {
            let said = Call::get(HOST, "/stats").send(*replica).await.unwrap().text();
            let (now, of_one) = said.split_once(' ').expect("two numbers");
            all += now.parse::<u32>().expect("a number");
            most = most.max(of_one.parse().expect("a number"));
        }
        (all, most)
    }
}
