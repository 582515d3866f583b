//! HTTP/2 connections to one address, each shared by many requests.
//!
//! A connection takes no more streams than its window has room for, so that clients who do not read on hold back
//! nobody but themselves, and no more than the app says; then another connection is made.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use crate::net::TcpStream;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;

use super::request_body::RequestBody;
use crate::clock;

/// Read ahead of a slow client, for each stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Streams on one connection; see [`CONNECTION_WINDOW`].
const MAX_STREAMS: usize = 64;
/// Room for every stream's window: streams that are not read cannot stall the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// Written ahead of a slow app, for each stream.
const SEND_BUFFER: usize = 64 * 1024;
/// The head of a response.
const MAX_HEAD: u32 = 64 * 1024;
/// With more than these full, requests wait on the connections for a stream to end.
const MAX_CONNECTIONS: usize = 64;

/// How long a new connection waits for the app's SETTINGS before it is used regardless: a model server that computes in
/// its event loop takes as long as that.
const SETTINGS_WAIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(1);

type Driver = http2::Connection<TokioIo<TcpStream>, RequestBody, TokioExecutor>;
/// Sends requests on a shared connection.
pub type Sender = http2::SendRequest<RequestBody>;

/// The connections to one address. Those that are closed leave when somebody looks.
#[derive(Debug, Default)]
pub struct Shared {
    connections: Mutex<Vec<Connection>>,
    /// One at a time makes a connection; the others find it when it is their turn.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Connection {
    sender: Sender,
    load: Arc<Load>,
}

#[derive(Debug, Default)]
struct Load {
    streams: AtomicUsize,
    /// What the app allows, as of the last request.
    limit: AtomicUsize,
}

/// One stream's place on its connection.
#[derive(Debug)]
pub struct Stream {
    load: Arc<Load>,
}

// === impl Shared ===

impl Shared {
    /// A connection with room for one more stream, made by `connect` if there is none.
    pub async fn stream(
        &self,
        connect: impl Future<Output = io::Result<TcpStream>>,
    ) -> io::Result<(Sender, Stream)> {
        if let Some(found) = self.find() {
            return Ok(found);
        }
        let _turn = self.dialling.lock().await;
        if let Some(found) = self.find() {
            return Ok(found);
        }
        let connection = Connection::open(connect.await?).await?;
        let taken = (connection.sender.clone(), Stream::new(&connection.load));
        self.connections.lock().push(connection);
        Ok(taken)
    }

    /// The first with room, so that few are in use and the rest can be closed by the app.
    fn find(&self) -> Option<(Sender, Stream)> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| !connection.sender.is_closed());
        let found = match connections.iter().find(|connection| connection.load.has_room()) {
            Some(found) => found,
            None if connections.len() < MAX_CONNECTIONS => return None,
            None => connections.iter().min_by_key(|c| c.load.streams.load(Ordering::Relaxed))?,
        };
        Some((found.sender.clone(), Stream::new(&found.load)))
    }
}

// === impl Connection ===

impl Connection {
    async fn open(stream: TcpStream) -> io::Result<Self> {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            // None before the app has said how many.
            .initial_max_send_streams(0)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let load = Arc::new(Load::default());
        load.see(settled(&mut connection).await?);
        let seen = load.clone();
        // Its errors reach the requests that are on it. It is polled for each request, and tells the limit then.
        tokio::spawn(async move {
            let watched = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                seen.see(connection.current_max_send_streams());
                polled
            });
            drop(watched.await);
        });
        Ok(Self { sender, load })
    }
}

/// Waits a moment for the app's SETTINGS, and returns how many streams it allows; 0 when it has not said. A burst of
/// requests onto a connection that then allows two would wait for each other. hyper tells nobody, so this looks.
async fn settled(connection: &mut Driver) -> io::Result<usize> {
    let until = clock::now() + SETTINGS_WAIT;
    loop {
        if let Poll::Ready(ended) = poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx))).await {
            let error = ended.err().map_or_else(|| "closed".into(), |error| error.to_string());
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("HTTP/2 handshake: {error}")));
        }
        let allowed = connection.current_max_send_streams();
        if allowed > 0 || clock::now() > until {
            return Ok(allowed);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

// === impl Load ===

impl Load {
    fn see(&self, limit: usize) {
        // One at least: the stream that waits finds out when an app that allows none changes its mind.
        self.limit.store(limit.clamp(1, MAX_STREAMS), Ordering::Relaxed);
    }

    fn has_room(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < self.limit.load(Ordering::Relaxed)
    }
}

// === impl Stream ===

impl Stream {
    fn new(load: &Arc<Load>) -> Self {
        load.streams.fetch_add(1, Ordering::Relaxed);
        Self { load: load.clone() }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.load.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
