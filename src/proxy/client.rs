//! Connections to one address of one replica.
//!
//! HTTP/1.1: a stack of idle connections, the most recently used on top, so that few stay warm and the rest age out.
//! HTTP/2: connections that requests share ([`Shared`]). hyper's own pooled client is not used: it locks, hashes and
//! allocates per request for a generality that one address does not need (reference/engineering.md §4).

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::net::TcpStream;
use http::{Request, Response};
use parking_lot::Mutex;
use rustix::net::sockopt;

use super::detect::Spoken;
use super::download::Download;
use super::h1::{self, Connection, Finished, Unanswered};
use super::head;
use super::replay::Kept;
use super::request_body::RequestBody;
use super::send_error::{SendError, Unprocessed};
use super::shared::Shared;
use crate::clock;
use crate::config::spec::Protocol;

/// A connection is not used again after resting this long: below the 2 s after which the most impatient common
/// server (gunicorn) closes it, so that a request never races with that close.
const MAX_REST: Duration = Duration::from_millis(1_800);
/// An app that closes what rests sooner is learned from: half of what it did not wait for is safe. Forgotten after this
/// long, since it may have closed that one connection for a reason of its own.
const REMEMBERED: Duration = Duration::from_mins(1);
/// One that closes so soon after its answer is taken to close after every one: nothing of it is used again meanwhile.
const AT_ONCE: Duration = Duration::from_millis(10);
/// How often connections at rest are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A replica answers from the same machine or cluster; longer means that it is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request's body may still be sent on after its response is complete. Most clients stop once they have
/// their answer, and nobody waits for what becomes of the rest.
const MAX_AFTERMATH: Duration = Duration::from_secs(5);
/// Connections that close under a request before one takes it. A new one that closes at once means no more.
const H2_ATTEMPTS: usize = 3;
/// A connection on which nothing comes for so long is checked,
const DEATH_CHECK_AFTER: Duration = Duration::from_secs(15);
/// and so often,
const DEATH_CHECK_EVERY: Duration = Duration::from_secs(5);
/// and after so many checks without an answer it is closed.
const DEATH_CHECKS: u32 = 3;

/// Connections to one address.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    protocol: Protocol,
    /// What the replica was found to speak.
    spoken: Spoken,
    /// An exchange over HTTP/2 went well, so that a broken one has other reasons than the protocol.
    h2_proven: AtomicBool,
    max_idle: usize,
    idle: Mutex<Pool>,
    shared: Shared,
}

/// Connections at rest, the most recently used last, and how long they may be.
#[derive(Debug)]
struct Pool {
    stack: Vec<Idle>,
    max_rest: Duration,
    /// When what was learned is forgotten.
    forget_at: Option<Instant>,
    /// [`sweep`] looks after it.
    swept: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// Which HTTP goes to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 with prior knowledge.
    H2,
}

// === impl Client ===

impl Client {
    /// No connection yet. `max_idle` bounds the idle stack.
    pub fn new(addr: SocketAddr, protocol: Protocol, max_idle: usize) -> Self {
        Self {
            addr,
            protocol,
            spoken: Spoken::default(),
            h2_proven: AtomicBool::new(false),
            max_idle,
            idle: Mutex::new(Pool { stack: Vec::new(), max_rest: MAX_REST, forget_at: None, swept: false }),
            shared: Shared::default(),
        }
    }

    /// Where it connects to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What to speak for a request, as far as that is known without asking. With `auto`, one that came over HTTP/1 goes
    /// out as it came, since nearly every app takes it, until the app is found to speak HTTP/2 alone.
    pub fn known_wire(&self, came_h2: bool, grpc: bool) -> Option<Wire> {
        match self.protocol {
            Protocol::Http1 => Some(Wire::H1),
            Protocol::H2c => Some(Wire::H2),
            Protocol::Auto if !came_h2 && !grpc => {
                Some(if self.spoken.takes_h1() { Wire::H1 } else { Wire::H2 })
            }
            Protocol::Auto => self.spoken.known_h2().map(|h2| if h2 { Wire::H2 } else { Wire::H1 }),
        }
    }

    /// Asks what the app speaks. If it does not say, gRPC has no choice.
    pub async fn wire(&self, grpc: bool) -> Wire {
        match self.spoken.takes_h2(self.addr).await {
            Some(true) => Wire::H2,
            None if grpc => Wire::H2,
            Some(false) | None => Wire::H1,
        }
    }

    /// Sends a request that is already in the form that `wire` wants, and waits for the response's head.
    pub async fn send(
        self: &Arc<Self>,
        wire: Wire,
        request: &mut Request<RequestBody>,
        now: Instant,
    ) -> Result<Response<Download>, SendError> {
        match wire {
            Wire::H1 if self.protocol == Protocol::Auto && !self.spoken.h1_proven() => {
                // Off the way of all others, whose connections would hold its memory.
                Box::pin(self.try_h1(request, now)).await
            }
            Wire::H1 => self.send_h1(request, now).await,
            Wire::H2 => Box::pin(self.send_h2(request)).await,
        }
    }

    /// The first HTTP/1 exchanges, before one went well. An app that speaks HTTP/2 alone takes the request for a broken
    /// preface: it answers with a frame, which is no HTTP/1, and has done nothing. Asked, it says so; nothing odd is
    /// sent to an app that answers HTTP/1.
    async fn try_h1(
        self: &Arc<Self>,
        request: &mut Request<RequestBody>,
        now: Instant,
    ) -> Result<Response<Download>, SendError> {
        let kept = Kept::of(request);
        let error = match self.send_h1(request, now).await {
            Ok(response) => {
                self.spoken.set_h1(true);
                return Ok(response);
            }
            Err(error) => error,
        };
        let h2_alone = error.is_unlike_h1() && self.spoken.takes_h2(self.addr).await == Some(true);
        if h2_alone {
            self.spoken.set_h1(false);
        }
        let again = match &error {
            // One that only closed the connection may be one that speaks both and crashed over this request.
            SendError::Broken { error, .. } => h2_alone && error.is_garbage(),
            SendError::Connect { .. } => true,
            _ => false,
        };
        if again {
            let Some(unread) = kept.take() else { return Err(error) };
            *request = unread;
            if h2_alone && head::shape(request, Wire::H2).is_ok() {
                return self.send_h2(request).await;
            }
        }
        Err(error)
    }

    async fn send_h1(
        self: &Arc<Self>,
        request: &mut Request<RequestBody>,
        now: Instant,
    ) -> Result<Response<Download>, SendError> {
        loop {
            let (connection, rested) = match self.checkout(now) {
                Some((connection, rested)) => (connection, Some(rested)),
                None => (
                    Box::new(Connection::new(
                        Box::pin(self.connect()).await.map_err(|e| self.unreachable(e))?,
                    )),
                    None,
                ),
            };
            match (connection.send(request).await, rested) {
                (Ok(response), _) => return Ok(response.map(|answer| Download::H1(answer, self.clone()))),
                // A connection that the app closed while it rested: try the next.
                (Err(Unanswered::Unsent), Some(_)) => {}
                (Err(Unanswered::Unsent), None) => {
                    return Err(self.unreachable(io::ErrorKind::ConnectionReset.into()));
                }
                (Err(Unanswered::Broken { error: error @ h1::Error::Unread, intact }), Some(rested)) => {
                    self.idle.lock().learn(rested, clock::now());
                    return Err(SendError::Unread { error: error.into(), intact });
                }
                (Err(Unanswered::Broken { error, intact }), _) => {
                    return Err(SendError::Broken { error: error.into(), intact });
                }
            }
        }
    }

    async fn send_h2(
        self: &Arc<Self>,
        request: &mut Request<RequestBody>,
    ) -> Result<Response<Download>, SendError> {
        for _ in 0..H2_ATTEMPTS {
            let (mut sender, stream) = match self.shared.stream(self.connect()).await {
                Ok(taken) => taken,
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData && self.speaks_h1_alone().await {
                        return Err(SendError::NoHttp2);
                    }
                    return Err(self.unreachable(error));
                }
            };
            let kept = Kept::of(request);
            let mut error = match sender.try_send_request(std::mem::take(request)).await {
                Ok(response) => {
                    self.h2_proven.store(true, Ordering::Relaxed);
                    return Ok(response.map(|incoming| Download::H2(incoming, stream)));
                }
                Err(error) => error,
            };
            // A shared connection that has just been closed gives the request back unsent.
            let unsent = error.take_message().is_some();
            let error = error.into_error();
            let why = if unsent { Some(Unprocessed::GoAway) } else { Unprocessed::of(&error) };
            let Some((why, kept)) = why.and_then(|why| Some((why, kept.take()?))) else {
                return Err(SendError::Broken { error: error.into(), intact: false });
            };
            *request = kept;
            if matches!(why, Unprocessed::RefusedStream) {
                return Err(SendError::Refused(error));
            }
        }
        Err(self.unreachable(io::ErrorKind::ConnectionReset.into()))
    }

    fn unreachable(&self, error: io::Error) -> SendError {
        SendError::Connect { addr: self.addr, error }
    }

    /// Whether a handshake failed because the app speaks HTTP/1 alone: it is asked, unless it has answered before.
    async fn speaks_h1_alone(&self) -> bool {
        !self.h2_proven.load(Ordering::Relaxed) && self.spoken.takes_h2(self.addr).await == Some(false)
    }

    /// The most recently used connection that is still open, and how long it rested.
    fn checkout(&self, now: Instant) -> Option<(Box<Connection>, Duration)> {
        let mut pool = self.idle.lock();
        loop {
            let Idle { mut connection, since } = pool.stack.pop()?;
            let rested = now.saturating_duration_since(since);
            if pool.forget_at.is_some_and(|at| now >= at) {
                (pool.max_rest, pool.forget_at) = (MAX_REST, None);
            }
            if rested > pool.max_rest {
                // The top rested too long, so all below did.
                let stale = std::mem::take(&mut pool.stack);
                drop(pool);
                drop((connection, stale));
                return None;
            }
            if connection.is_ready() {
                return Some((connection, rested));
            }
            pool.learn(rested, now);
        }
    }

    /// What is left of a connection whose response was read to its end.
    pub fn take_back(self: Arc<Self>, finished: Finished, now: Instant) {
        match finished {
            Finished::Ready(connection) => self.rest(connection, now),
            // An early response: the request's body is still on its way.
            sending @ Finished::Sending(..) => {
                tokio::spawn(async move {
                    if let Ok(Some(connection)) = tokio::time::timeout(MAX_AFTERMATH, sending.ready()).await {
                        self.rest(connection, clock::now());
                    }
                });
            }
            Finished::Over => {}
        }
    }

    fn rest(self: &Arc<Self>, connection: Box<Connection>, now: Instant) {
        let mut pool = self.idle.lock();
        if pool.stack.len() < self.max_idle {
            pool.stack.push(Idle { connection, since: now });
            if !std::mem::replace(&mut pool.swept, true) {
                drop(pool);
                tokio::spawn(sweep(Arc::downgrade(self)));
            }
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.addr)).await??;
        stream.set_nodelay(true)?;
        notice_death(&stream)?;
        Ok(stream)
    }
}

// === impl Pool ===

impl Pool {
    /// The app has closed a connection that rested for no longer than this.
    fn learn(&mut self, rested: Duration, now: Instant) {
        self.max_rest = if rested < AT_ONCE { Duration::ZERO } else { rested / 2 };
        self.forget_at = Some(now + REMEMBERED);
    }
}

/// Has the kernel find out that a peer died without a word. Not by HTTP/2 PINGs: gRPC servers answer more than two in
/// five minutes of silence with GOAWAY (`too_many_pings`), and a model server that computes in its event loop answers
/// none for as long as an inference takes. Its kernel answers all the time.
fn notice_death(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, DEATH_CHECK_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, DEATH_CHECK_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, DEATH_CHECKS)?;
    Ok(())
}

/// Closes connections that nobody will use again, as long as there are any: those that rested too long, and those that
/// the app has closed.
async fn sweep(client: Weak<Client>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(client) = client.upgrade() else { return };
        let mut pool = client.idle.lock();
        let (now, max_rest) = (clock::now(), pool.max_rest);
        let stale = |idle: &mut Idle| {
            now.saturating_duration_since(idle.since) > max_rest || !idle.connection.is_ready()
        };
        let stale: Vec<_> = pool.stack.extract_if(.., stale).collect();
        pool.swept = !pool.stack.is_empty();
        let on = pool.swept;
        drop(pool);
        drop(stale);
        if !on {
            return;
        }
    }
}
