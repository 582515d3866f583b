//! Connections to one address of one replica.
//!
//! HTTP/1.1: a stack of idle connections, the most recently used on top, so that few stay warm and the rest age out.
//! HTTP/2: one connection that all requests share. hyper's own pooled client is not used: it locks, hashes and
//! allocates per request for a generality that one address does not need (reference/engineering.md §4).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::body::RequestBody;
use super::cut::{Cut, Noting};
use super::detect;
use crate::clock;
use crate::config::spec::Protocol;

/// A connection is not used again after resting this long: below the 2 s after which the most impatient common
/// server (gunicorn) closes it, so that a request never races with that close.
const MAX_REST: Duration = Duration::from_millis(1_800);
/// An app that closes what rests sooner is learned from: half of what it did not wait for is safe. Forgotten after this
/// long, since it may have closed that one connection for a reason of its own.
const REMEMBERED: Duration = Duration::from_mins(1);
/// A replica answers from the same machine or cluster; longer means that it is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds what one app can make us hold: the head of a response, and what is read ahead of a slow client.
const MAX_READ_BUFFER: usize = 64 * 1024;
const MAX_RESPONSE_HEADERS: usize = 256;

/// Connections to one address.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    protocol: Protocol,
    /// What `protocol: auto` found out; see [`Spoken`].
    spoken: AtomicU8,
    max_idle: usize,
    idle: Mutex<Pool>,
    h2: tokio::sync::Mutex<Option<http2::SendRequest<RequestBody>>>,
}

/// Connections at rest, the most recently used last, and how long they may be.
#[derive(Debug)]
struct Pool {
    stack: Vec<Idle>,
    max_rest: Duration,
    /// When what was learned is forgotten.
    forget_at: Option<Instant>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    cut: Cut,
    since: Instant,
}

/// An HTTP/1.1 connection in use by one request.
#[derive(Debug)]
pub struct Lease {
    client: Arc<Client>,
    sender: http1::SendRequest<RequestBody>,
    cut: Cut,
}

/// Which HTTP goes to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 with prior knowledge.
    H2,
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be made, so nothing was sent: safe on another replica. Gives the request back.
    #[error("cannot connect to {addr}: {error}")]
    Connect {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        error: io::Error,
        /// The request, untouched.
        request: Box<Request<RequestBody>>,
    },
    /// The app had closed the resting connection on which the request went, and did not read it ([`cut`](super::cut)).
    /// Safe to repeat if it has no body.
    #[error("{}", describe(.0))]
    Unread(hyper::Error),
    /// The exchange broke after the app may have got the request. Not safe to repeat.
    #[error("{}", describe(.0))]
    Broken(hyper::Error),
}

// === impl SendError ===

impl SendError {
    /// Whether the client's own body broke off: neither the replica's fault nor worth another try.
    pub fn is_clients(&self) -> bool {
        use std::error::Error;
        let Self::Broken(error) = self else { return false };
        // Over HTTP/2 hyper resets the stream for it: the only reset that is neither the app's nor h2's own.
        let reset = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        error.is_user() || reset.is_some_and(|e| e.is_reset() && !e.is_remote() && !e.is_library())
    }

    /// Whether the connection was reset before a byte of the response came. Linux resets a connection that is closed
    /// with bytes unread; one whose bytes were all read ends with a FIN.
    pub fn is_reset(&self) -> bool {
        use std::error::Error;
        let Self::Broken(error) = self else { return false };
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return matches!(io.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
            }
            cause = inner.source();
        }
        false
    }
}

const UNKNOWN: u8 = 0;
const H1_ONLY: u8 = 1;
const H2_TOO: u8 = 2;

// === impl Client ===

impl Client {
    /// No connection yet. `max_idle` bounds the idle stack.
    pub fn new(addr: SocketAddr, protocol: Protocol, max_idle: usize) -> Self {
        Self {
            addr,
            protocol,
            spoken: AtomicU8::new(UNKNOWN),
            max_idle,
            idle: Mutex::new(Pool { stack: Vec::new(), max_rest: MAX_REST, forget_at: None }),
            h2: tokio::sync::Mutex::new(None),
        }
    }

    /// Where it connects to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What to speak for a request that came over HTTP/2 or not. With `auto`, an HTTP/2 request makes it find out
    /// once what the replica speaks; HTTP/1 requests go out as they came, since nearly every app takes them.
    pub async fn wire(&self, came_h2: bool) -> Wire {
        match self.protocol {
            Protocol::Http1 => Wire::H1,
            Protocol::H2c => Wire::H2,
            Protocol::Auto if !came_h2 => Wire::H1,
            Protocol::Auto => {
                let mut spoken = self.spoken.load(Ordering::Relaxed);
                if spoken == UNKNOWN {
                    // An app that cannot be asked is asked again by the next request.
                    spoken = match detect::speaks_h2(self.addr).await {
                        Ok(true) => H2_TOO,
                        Ok(false) => H1_ONLY,
                        Err(_) => return Wire::H1,
                    };
                    self.spoken.store(spoken, Ordering::Relaxed);
                }
                if spoken == H2_TOO { Wire::H2 } else { Wire::H1 }
            }
        }
    }

    /// Sends a request that is already in the form that `wire` wants, and waits for the response's head.
    pub async fn send(
        self: &Arc<Self>,
        wire: Wire,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Option<Lease>), SendError> {
        match wire {
            Wire::H1 => self.send_h1(request).await.map(|(response, lease)| (response, Some(lease))),
            Wire::H2 => self.send_h2(request).await.map(|response| (response, None)),
        }
    }

    async fn send_h1(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        // A connection that the app closed while it rested gives the request back unsent: try the next.
        while let Some((mut sender, cut)) = self.checkout() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Lease { client: self.clone(), sender, cut })),
                Err(error) => {
                    request = unsent(error).map_err(|error| match error {
                        SendError::Broken(error) if cut.happened() => SendError::Unread(error),
                        other => other,
                    })?;
                }
            }
        }
        let (mut sender, cut) = match self.dial_h1().await {
            Ok(sender) => sender,
            Err(error) => {
                return Err(SendError::Connect { addr: self.addr, error, request: Box::new(request) });
            }
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, Lease { client: self.clone(), sender, cut })),
            Err(error) => {
                let request = Box::new(unsent(error)?);
                let error = io::ErrorKind::ConnectionReset.into();
                Err(SendError::Connect { addr: self.addr, error, request })
            }
        }
    }

    async fn send_h2(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        // Twice: a shared connection that has just been closed gives the request back unsent.
        for _ in 0..2 {
            let mut sender = match self.h2_sender().await {
                Ok(sender) => sender,
                Err(error) => {
                    return Err(SendError::Connect { addr: self.addr, error, request: Box::new(request) });
                }
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => request = unsent(error)?,
            }
        }
        let error = io::ErrorKind::ConnectionReset.into();
        Err(SendError::Connect { addr: self.addr, error, request: Box::new(request) })
    }

    /// The most recently used connection that is still open.
    fn checkout(&self) -> Option<(http1::SendRequest<RequestBody>, Cut)> {
        let mut pool = self.idle.lock();
        let Idle { sender, cut, since } = pool.stack.pop()?;
        let now = clock::now();
        let rested = now.saturating_duration_since(since);
        if pool.forget_at.is_some_and(|at| now >= at) {
            (pool.max_rest, pool.forget_at) = (MAX_REST, None);
        }
        if rested > pool.max_rest {
            // The top rested too long, so all below did.
            let stale = std::mem::take(&mut pool.stack);
            drop(pool);
            drop((sender, stale));
            return None;
        }
        if sender.is_ready() {
            return Some((sender, cut));
        }
        pool.max_rest = rested / 2;
        pool.forget_at = Some(now + REMEMBERED);
        drop(pool);
        self.checkout()
    }

    fn rest(&self, sender: http1::SendRequest<RequestBody>, cut: Cut) {
        let mut pool = self.idle.lock();
        if pool.stack.len() < self.max_idle {
            pool.stack.push(Idle { sender, cut, since: clock::now() });
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.addr)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn dial_h1(&self) -> io::Result<(http1::SendRequest<RequestBody>, Cut)> {
        let (stream, cut) = Noting::new(self.connect().await?);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_READ_BUFFER)
            .max_headers(MAX_RESPONSE_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Its errors reach the request that is on it; between requests nobody minds.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok((sender, cut))
    }

    async fn h2_sender(&self) -> io::Result<http2::SendRequest<RequestBody>> {
        let mut shared = self.h2.lock().await;
        if let Some(sender) = &*shared
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let stream = self.connect().await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(4 << 20)
            .max_send_buf_size(MAX_READ_BUFFER)
            .max_header_list_size(MAX_READ_BUFFER as u32)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        *shared = Some(sender.clone());
        Ok(sender)
    }
}

/// The request, when it was never sent.
fn unsent(mut error: TrySendError<Request<RequestBody>>) -> Result<Request<RequestBody>, SendError> {
    error.take_message().ok_or_else(|| SendError::Broken(error.into_error()))
}

/// hyper's message with its cause, which says what happened.
fn describe(error: &hyper::Error) -> String {
    use std::error::Error;
    if error.is_incomplete_message() {
        return "it closed the connection before its response was complete".into();
    }
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

// === impl Lease ===

impl Lease {
    /// The response was read to its end.
    pub fn give_back(mut self) {
        if self.sender.is_ready() {
            self.client.clone().rest(self.sender, self.cut);
        } else if !self.sender.is_closed() {
            // The request's body is still on its way (an early response), or the connection has yet to notice the
            // end that we saw.
            tokio::spawn(async move {
                if self.sender.ready().await.is_ok() {
                    self.client.clone().rest(self.sender, self.cut);
                }
            });
        }
    }
}
