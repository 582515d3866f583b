//! Listeners and their connections: HTTP/1.1 and HTTP/2 with prior knowledge on the same port.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::body::Body;
use super::hangup::Hangup;
use super::metrics::OpenConnection;
use crate::drain::Drain;

/// Bounds of one connection; what a client can make us hold.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
const MAX_STREAMS: u32 = 256;
/// Also what a waiting HTTP/2 request is charged for: the sender may have this much on its way.
pub const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How long to rest when the process has no descriptor left for another connection.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Answers requests. One value serves one listener.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request; dropping the future is the client's going away.
    fn handle(
        &self,
        conn: Arc<Conn>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// What a request can know of its connection.
#[derive(Debug)]
pub struct Conn {
    /// The peer's address, as it goes into `X-Forwarded-For`.
    pub peer_ip: HeaderValue,
    /// Tells when the peer is gone.
    pub hangup: Hangup,
}

/// Serves `listener`, which is non-blocking and belongs to no runtime yet, on `runtime`.
pub fn spawn<H: Handler>(
    runtime: &Handle,
    listener: std::net::TcpListener,
    handler: H,
    connections: Arc<Semaphore>,
    drain: Drain,
) {
    runtime.spawn(async move {
        // Here, not in the caller: a socket belongs to the runtime that it is made on.
        match TcpListener::from_std(listener) {
            Ok(listener) => serve(listener, handler, connections, drain).await,
            Err(error) => tracing::error!(%error, "cannot listen"),
        }
    });
}

/// Accepts connections until the drain begins, then lets those that it has finish.
pub async fn serve<H: Handler>(listener: TcpListener, handler: H, connections: Arc<Semaphore>, drain: Drain) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Counts a connection's rest too, and costs a timer per request; the connection limit bounds what rests.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .max_header_list_size(MAX_HEAD as u32);
    let builder = Arc::new(builder);
    let mut begun = pin!(drain.begun());
    loop {
        let accept = async {
            let (stream, peer) = accept(&listener).await;
            // After the accept: a listener that rests must not hold a place. At the limit, one newcomer waits here and
            // the others in the kernel's backlog.
            let place = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            (stream, peer, place)
        };
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut begun => return,
            accepted = accept => accepted,
        };
        let (builder, handler, drain) = (builder.clone(), handler.clone(), drain.clone());
        tokio::spawn(async move {
            connection(&builder, stream, peer, handler, &drain).await;
            drop(place);
        });
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn connection<H: Handler>(
    builder: &auto::Builder<TokioExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    handler: H,
    drain: &Drain,
) {
    if stream.set_nodelay(true).is_err() {
        return; // It is gone already.
    }
    let conn = Arc::new(Conn::new(&stream, peer));
    let service = service_fn(move |request| {
        let (handler, conn) = (handler.clone(), conn.clone());
        async move { Ok::<_, Infallible>(handler.handle(conn, request).await) }
    });
    let _open = (drain.open(), OpenConnection::count());
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let finished = tokio::select! {
        biased;
        result = &mut connection => result,
        () = drain.begun() => {
            // HTTP/1.1: `Connection: close` on what is running; HTTP/2: GOAWAY. Idle ones close at once.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = finished {
        tracing::debug!(%peer, error, "a connection ended early");
    }
}

// === impl Conn ===

impl Conn {
    fn new(stream: &TcpStream, peer: SocketAddr) -> Self {
        let ip = peer.ip().to_canonical().to_string();
        Self { peer_ip: HeaderValue::try_from(ip).expect("an address is ASCII"), hangup: Hangup::of(stream) }
    }

    #[cfg(test)]
    pub(crate) fn for_test(peer: SocketAddr) -> Self {
        let ip = HeaderValue::try_from(peer.ip().to_string()).unwrap();
        Self { peer_ip: ip, hangup: Hangup::of(&std::io::stdin()) }
    }
}
