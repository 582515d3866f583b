//! Readiness: can a replica serve?
//!
//! A start is felt by whoever waits, so what is lost between "the app could answer" and "we know" must be small beside the
//! start itself. While nobody listens, the kernel is asked who does (`listens`), about once in a millisecond: as soon as
//! somebody does, the next attempt of [`Prober::until_ready`] is made. Beside that, and where the kernel cannot be asked,
//! attempts follow their own schedule: the pause after one is 0.2 % of the time spent so far, at least 1 ms, at most 50 ms
//! (while the kernel is asked, 50 ms). An app that listens before it is ready is so found within 1 ms if it takes 500 ms,
//! within 4 ms if it takes 2 s, and within 50 ms if it takes minutes; that costs about 500 attempts for each factor e in
//! time between 500 ms and 25 s, a few thousand in all, and 20 per second after that.
//!
//! An attempt is cheap until the app listens: every kind that has a port connects first, and a refused connection
//! (about 30 µs on loopback) ends the attempt; only then HTTP or gRPC is spoken. An exec probe costs a process, so its
//! pause is at least as long as the attempt took (still at most 50 ms): no more than half a core while waiting.
//!
//! An attempt that gets no answer ends after its timeout (1 s unless stated, [`MAX_TIMEOUT`] at most). The next one is a
//! new connection, so a lost one delays readiness and nothing more.

mod exec;
pub(crate) mod grpc;
mod http;
mod listens;
mod schedule;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::net::TcpStream;
use ::http::HeaderMap;
use listens::Listener;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::config::spec::{Addresses, Probe};

/// How long one attempt may take unless stated.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Attempts in a row without any answer after which a replica that had been ready no longer is.
const SILENT: u32 = 3;
/// An exec probe that is repeated takes no more of a core than a share of this.
const EXEC_SHARE: u32 = 10;
/// How long one attempt may take at most.
pub const MAX_TIMEOUT: Duration = Duration::from_mins(1);
/// What probes call themselves.
pub const USER_AGENT: &str = concat!("pilotlight-probe/", env!("CARGO_PKG_VERSION"));

/// Where an exec probe runs: as the replica does.
#[derive(Clone, Debug, Default)]
pub struct ExecContext {
    /// Set over the environment of this process; a later entry of the same name wins.
    pub env: Vec<(String, String)>,
    /// Empty = that of this process.
    pub working_dir: PathBuf,
}

/// Asks one replica whether it can serve.
#[derive(Clone, Debug)]
pub struct Prober {
    kind: Kind,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Kind {
    Tcp(SocketAddr),
    Http(http::Get),
    Grpc(grpc::Check),
    Exec(exec::Command),
}

/// Why an attempt failed. Each is the app's state, not an error of ours; trying again is always safe.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// Nothing listens yet.
    #[error("{0}: connection refused")]
    Refused(SocketAddr),
    /// The connection failed in another way.
    #[error("{0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// HTTP, but not 200–399.
    #[error("GET {path} answered {status}")]
    Status {
        /// The path asked.
        path: String,
        /// The answer.
        status: u16,
    },
    /// gRPC, but not SERVING.
    #[error("gRPC health check: {0}")]
    NotServing(String),
    /// What came back is not what was spoken.
    #[error("{0}")]
    Protocol(String),
    /// The command did not end with 0, or could not run.
    #[error("{0}")]
    Exec(String),
    /// The probe itself cannot be made: a header or path that HTTP does not allow. The specification's fault.
    #[error("probe: {0}")]
    Invalid(String),
}

/// Readiness did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("not ready after {after:.1?}: {last}")]
pub struct NotReady {
    /// Since the start.
    pub after: Duration,
    /// Attempts made.
    pub attempts: u32,
    /// How the last one failed.
    pub last: ProbeFailure,
}

// === impl Prober ===

impl Prober {
    /// Asks what `probe` says at `addresses`; `exec` is where a command runs.
    pub fn new(probe: &Probe, addresses: Addresses, exec: ExecContext) -> Self {
        let at = |port: Option<u16>, own: SocketAddr| port.map_or(own, |p| SocketAddr::new(own.ip(), p));
        let kind = match probe {
            Probe::TcpSocket { port } => Kind::Tcp(at(*port, addresses.http)),
            Probe::HttpGet { path, port, headers } => Kind::Http(http::Get {
                address: at(*port, addresses.http),
                path: path.clone(),
                headers: headers.clone(),
            }),
            Probe::Grpc { port, service } => Kind::Grpc(grpc::Check {
                address: at(*port, addresses.grpc.unwrap_or(addresses.http)),
                service: service.clone(),
            }),
            Probe::Exec { command } => Kind::Exec(exec::Command { argv: command.clone(), context: exec }),
        };
        Self { kind, timeout: DEFAULT_TIMEOUT }
    }

    /// With another timeout for each attempt, at most [`MAX_TIMEOUT`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.clamp(Duration::from_millis(1), MAX_TIMEOUT);
        self
    }

    /// The port that is asked; an exec probe has none.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(address) => Some(*address),
            Kind::Http(get) => Some(get.address),
            Kind::Grpc(check) => Some(check.address),
            Kind::Exec(_) => None,
        }
    }

    /// One attempt. Dropping the future ends it; a command is killed with its group.
    pub async fn check(&self) -> Result<(), ProbeFailure> {
        self.check_within(self.timeout).await
    }

    async fn check_within(&self, limit: Duration) -> Result<(), ProbeFailure> {
        let attempt = async {
            match &self.kind {
                Kind::Tcp(address) => connect(*address).await.map(drop),
                Kind::Http(get) => get.check().await,
                Kind::Grpc(check) => check.check(limit).await,
                Kind::Exec(command) => command.check().await,
            }
        };
        timeout(limit, attempt).await.unwrap_or(Err(ProbeFailure::Timeout(limit)))
    }

    /// Attempts until one succeeds, and says how long that took since `started`; until `deadline` at most.
    pub async fn until_ready(&self, started: Instant, deadline: Instant) -> Result<Duration, NotReady> {
        let mut attempts = 0;
        let mut listener = Listener::default();
        loop {
            let begun = clock::now();
            let left = deadline.saturating_duration_since(begun).max(Duration::from_millis(1));
            let result = self.check_within(self.timeout.min(left)).await;
            let now = clock::now();
            let after = now.saturating_duration_since(started);
            attempts += 1;
            let last = match result {
                Ok(()) => return Ok(after),
                Err(failure) => failure,
            };
            let cost = matches!(self.kind, Kind::Exec(_)).then(|| now - begun).unwrap_or_default();
            listener.after(&last);
            let pause = if listener.is_watched() { schedule::MAX } else { schedule::pause(after, cost) };
            if now + pause >= deadline || matches!(last, ProbeFailure::Invalid(_)) {
                return Err(NotReady { after, attempts, last });
            }
            listener.or_pause(pause).await;
        }
    }

    /// Asks one that is ready again and again, `period` apart, until it is not, and says why.
    ///
    /// What says "not ready" is believed at once, and so is a port where nobody listens any more. Silence is not: it
    /// takes `SILENT` of it in a row, and none counts while the app is `busy`, since many a model server has one
    /// thread for everything and answers a probe when it is done with the request before.
    pub async fn until_unready(&self, period: Duration, busy: impl Fn() -> bool) -> ProbeFailure {
        let mut silent = 0;
        let mut pause = period;
        loop {
            sleep(pause).await;
            let (begun, was_busy) = (clock::now(), busy());
            match self.check().await {
                Ok(()) => silent = 0,
                Err(failure) if failure.is_answer() || matches!(failure, ProbeFailure::Refused(_)) => {
                    return failure;
                }
                Err(_) if was_busy || busy() => silent = 0,
                Err(failure) => {
                    silent += 1;
                    if silent == SILENT {
                        return failure;
                    }
                }
            }
            if matches!(self.kind, Kind::Exec(_)) {
                pause = period.max(clock::now().saturating_duration_since(begun) * EXEC_SHARE);
            }
        }
    }
}

// === impl ProbeFailure ===

impl ProbeFailure {
    /// Whether the app itself said that it is not ready, and not just nothing.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::NotServing(_) | Self::Exec(_))
    }
}

/// Every kind with a port begins so.
async fn connect(address: SocketAddr) -> Result<TcpStream, ProbeFailure> {
    let stream = TcpStream::connect(address).await.map_err(|e| match e.kind() {
        io::ErrorKind::ConnectionRefused => ProbeFailure::Refused(address),
        _ => ProbeFailure::Connect(address, e),
    })?;
    // A loopback port from the range of outgoing ones can be connected to itself while nobody listens.
    match (stream.local_addr(), stream.set_nodelay(true)) {
        (Ok(local), Ok(())) if local != address => Ok(stream),
        (Ok(_), Ok(())) => Err(ProbeFailure::Refused(address)),
        (Err(e), _) | (_, Err(e)) => Err(ProbeFailure::Connect(address, e)),
    }
}

/// Drives `connection` as long as `exchange` needs it. When the connection ends first, the exchange knows why.
async fn drive<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => return result,
        _ = connection => {}
    }
    exchange.await
}

/// Adds the names and values to `into`, or says which is not allowed.
fn add_headers(into: &mut HeaderMap, headers: &[(String, String)]) -> Result<(), ProbeFailure> {
    for (name, value) in headers {
        let parsed = (name.parse::<::http::HeaderName>(), value.parse::<::http::HeaderValue>());
        let (Ok(name), Ok(value)) = parsed else {
            return Err(ProbeFailure::Invalid(format!("header {name}: {value:?} is not allowed")));
        };
        into.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
