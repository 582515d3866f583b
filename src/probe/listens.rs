//! Who listens now? Asked of the kernel, often.
//!
//! Between the app's `listen` and our next look somebody waits, so the looks are [`LEAST`] apart, and later one
//! [`SHARE`]th of the time so far. All are made by one thread, which is there while something starts: tokio's timers
//! count in milliseconds, and asking by connecting costs ten times as much. A look takes 4 µs and to sleep until the next
//! one four times that, so there is a bound: beyond a first [`AHEAD`], 1 % of a core for all starts together.
//!
//! What the kernel says is a hint. A port may be redirected, or the kernel may not tell: the prober goes on to connect
//! by itself, only less often.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::ProbeFailure;
use crate::clock;
use crate::runtime::process::sock_diag::SockDiag;

/// Between two looks for the same port: found out a quarter of a millisecond late on average.
const LEAST: Duration = Duration::from_micros(500);
/// A start that takes 10 s is found within 2.5 ms.
const SHARE: u32 = 4000;
const MOST: Duration = Duration::from_millis(25);
/// The looks take one part in so many of a core.
const CORE: u32 = 100;
/// What they may take at once, after a rest: a start of less than half a second is looked at as often as it can be.
const AHEAD: Duration = Duration::from_millis(10);

static WATCH: Mutex<Watch> = Mutex::new(Watch { ports: Vec::new(), thread: false });

/// All that is waited for in this process.
struct Watch {
    ports: Vec<Port>,
    /// Whether somebody looks.
    thread: bool,
}

/// One that is waited for.
struct Port {
    address: SocketAddr,
    kernel: SockDiag,
    since: Instant,
    due: Instant,
    told: Option<oneshot::Sender<()>>,
}

/// What a prober knows of who listens where it asks.
#[derive(Debug, Default)]
pub(super) enum Listener {
    /// Nothing yet. After a refused connection → `Watched`, `Untold`.
    #[default]
    Unknown,
    /// Nobody did a moment ago. When the kernel says that somebody does → `There`.
    Watched(Listens),
    /// Somebody does. After a refused connection → `Unknown`.
    There,
    /// It cannot be found out.
    Untold,
}

/// Resolves when somebody listens, or with an error when that cannot be found out any more. Dropping it ends the looks.
type Listens = oneshot::Receiver<()>;

// === impl Listener ===

impl Listener {
    /// An attempt failed.
    pub(super) fn after(&mut self, failure: &ProbeFailure) {
        *self = match (std::mem::take(self), failure) {
            (Self::Unknown, ProbeFailure::Refused(address)) => {
                watch(*address).map_or(Self::Untold, Self::Watched)
            }
            // Once by the ordinary schedule: what the kernel says may not hold for connections.
            (Self::There, ProbeFailure::Refused(_)) => Self::Unknown,
            (same @ Self::Watched(_), ProbeFailure::Refused(_))
            | (same @ (Self::Untold | Self::Unknown), _) => same,
            (Self::Watched(_) | Self::There, _) => Self::There,
        };
    }

    pub(super) fn is_watched(&self) -> bool {
        matches!(self, Self::Watched(_))
    }

    /// Waits until somebody listens if that is watched, and for `pause` at most.
    pub(super) async fn or_pause(&mut self, pause: Duration) {
        let Self::Watched(listens) = self else { return sleep(pause).await };
        match timeout(pause, listens).await {
            Ok(Ok(())) => *self = Self::There,
            Ok(Err(_)) => *self = Self::Untold,
            Err(_) => {}
        }
    }
}

/// Begins to look who listens at `address`. `None` where that cannot be found out: on another machine, and where the
/// kernel does not tell.
fn watch(address: SocketAddr) -> Option<Listens> {
    if !address.ip().is_loopback() {
        return None;
    }
    let kernel = SockDiag::open().ok()?;
    // Not every kernel answers, and not every sandbox lets it.
    kernel.listener(address).ok()?;
    let now = clock::now();
    let (tell, told) = oneshot::channel();
    let mut watch = WATCH.lock();
    watch.ports.push(Port { address, kernel, since: now, due: now, told: Some(tell) });
    if !watch.thread {
        watch.thread = thread::Builder::new().name("listens".into()).spawn(look).is_ok();
        if !watch.thread {
            watch.ports.clear();
        }
    }
    Some(told)
}

/// Looks until nothing is waited for.
fn look() {
    let mut debt = Duration::ZERO;
    let (mut before, mut spent) = (clock::now(), clock::thread_cpu());
    loop {
        let began = clock::now();
        let next = {
            let mut watch = WATCH.lock();
            watch.ports.retain_mut(|port| port.due > began || port.look(began));
            let Some(next) = watch.ports.iter().map(|port| port.due).min() else {
                watch.thread = false;
                return;
            };
            next
        };
        let (now, cpu) = (clock::now(), clock::thread_cpu());
        // Bounded: a look while the machine stood still must not be paid for with seconds.
        debt = (debt + cpu.saturating_sub(spent)).saturating_sub((now - before) / CORE).min(2 * AHEAD);
        (before, spent) = (now, cpu);
        let rest = (debt.saturating_sub(AHEAD) * CORE).min(MOST);
        thread::sleep(next.saturating_duration_since(now).max(rest));
    }
}

// === impl Port ===

impl Port {
    /// Whether it is still waited for.
    fn look(&mut self, now: Instant) -> bool {
        self.due = now + pause(now.saturating_duration_since(self.since));
        match self.kernel.listener(self.address) {
            Ok(None) => self.told.as_ref().is_some_and(|told| !told.is_closed()),
            Ok(Some(_)) => {
                if let Some(told) = self.told.take() {
                    let _ = told.send(());
                }
                false
            }
            Err(_) => false,
        }
    }
}

fn pause(after: Duration) -> Duration {
    (after / SHARE).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn free(ip: impl Into<std::net::IpAddr>) -> Option<SocketAddr> {
        TcpListener::bind((ip.into(), 0)).ok()?.local_addr().ok()
    }

    #[tokio::test]
    async fn tells_of_each_listener_once_it_is_there() {
        let some: Vec<SocketAddr> =
            [free(Ipv4Addr::LOCALHOST), free(Ipv4Addr::LOCALHOST), free(Ipv6Addr::LOCALHOST)]
                .into_iter()
                .flatten()
                .collect();
        let mut told: Vec<Listens> = some.iter().map(|address| watch(*address).unwrap()).collect();
        let mut listeners = Vec::new();
        while let Some(last) = told.pop() {
            for other in &mut told {
                assert!(other.try_recv().is_err(), "nobody listens there yet");
            }
            listeners.push(TcpListener::bind(some[told.len()]).unwrap());
            tokio::time::timeout(SOON, last).await.unwrap().unwrap();
        }
        // Who listens on all addresses listens on this one.
        let address = free(Ipv4Addr::LOCALHOST).unwrap();
        let told = watch(address).unwrap();
        let _all = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).unwrap();
        tokio::time::timeout(SOON, told).await.unwrap().unwrap();
    }

    #[test]
    fn another_machine_is_not_asked_about() {
        assert!(watch(SocketAddr::from(([192, 0, 2, 1], 80))).is_none());
    }

    #[test]
    fn who_does_not_wait_any_more_is_not_looked_for() {
        let address = free(Ipv4Addr::LOCALHOST).unwrap();
        drop(watch(address).unwrap());
        let began = clock::now();
        while WATCH.lock().ports.iter().any(|port| port.address == address) {
            assert!(clock::now() - began < SOON);
            thread::yield_now();
        }
    }

    #[test]
    fn looks_become_rarer() {
        assert_eq!(pause(Duration::ZERO), LEAST);
        assert_eq!(pause(Duration::from_secs(2)), LEAST);
        assert_eq!(pause(Duration::from_secs(10)), Duration::from_micros(2500));
        assert_eq!(pause(Duration::from_mins(10)), MOST);
    }
}
