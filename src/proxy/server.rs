//! Listeners and their connections: HTTP/1.1 and HTTP/2 with prior knowledge on the same port.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::net::{TcpListener, TcpStream};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::runtime::Handle;

use super::body::{Body, BodyError};
use super::error::{Dialect, ProxyError};
use super::forwarded::Forwarded;
use super::framing::{MAX_HEAD, MAX_TARGET, Refused};
use super::guarded::{Guarded, Patience};
use super::hangup::Hangup;
use super::metrics::{self, OpenConnection};
use super::places::Places;
use super::request_body::RequestBody;
use super::seldom::Seldom;
use super::signals::Signals;
use super::watch::{Watched, WatchedExecutor};
use crate::drain::{Drain, Open};

/// Bounds of one connection; what a client can make us hold.
/// Up to a hundred hyper keeps where they lie on the stack.
const MAX_HEADERS: usize = 100;
const MAX_STREAMS: u32 = 256;
/// Also what a waiting HTTP/2 request is charged for: the sender may have this much on its way.
pub const STREAM_WINDOW: u32 = 64 * 1024;
/// Room for every stream's window: uploads that wait for a slot cannot stall the one that has it.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;
/// Streams that a client resets before we have looked at them (rapid reset), and streams that we reset for its errors:
/// beyond, the connection ends with `ENHANCE_YOUR_CALM`.
const MAX_EARLY_RESETS: usize = 20;
const MAX_STREAM_ERRORS: usize = 256;
/// How long a connection on which nothing is answered may stay when we leave: for a head that is half there.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How long to rest when the process has no descriptor left for another connection.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Answers requests. One value serves one listener.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; dropping the future is the client's going away.
    fn handle(
        &self,
        conn: Arc<Conn>,
        request: Box<Request<RequestBody>>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// What a request can know of its connection.
#[derive(Debug)]
pub struct Conn {
    /// What apps are told of the peer.
    pub forwarded: Forwarded,
    /// Tells when the peer is gone.
    pub hangup: Hangup,
    signals: Arc<Signals>,
}

/// What bounds the connections of all listeners together.
#[derive(Clone, Debug)]
pub struct Connections {
    /// One for each. Without one, newcomers wait in the kernel's backlog.
    pub places: Arc<Places>,
    /// How long a client may take.
    pub patience: Patience,
}

/// A response body that tells its connection of its end.
#[derive(Debug)]
pub struct Served {
    body: Body,
    signals: Arc<Signals>,
}

/// Serves `listener`, which is non-blocking and belongs to no runtime yet, on `runtime`.
pub fn spawn<H: Handler>(
    runtime: &Handle,
    listener: std::net::TcpListener,
    handler: H,
    connections: Connections,
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
pub async fn serve<H: Handler>(listener: TcpListener, handler: H, connections: Connections, drain: Drain) {
    let handler = Arc::new(handler);
    let mut builder = auto::Builder::new(WatchedExecutor);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Counts a connection's rest too, and costs a timer per request: `Guarded` has a cheaper one.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_EARLY_RESETS)
        .max_local_error_reset_streams(MAX_STREAM_ERRORS)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .max_header_list_size(MAX_HEAD as u32);
    let builder = Arc::new(builder);
    let mut begun = pin!(drain.begun());
    loop {
        let accept = async {
            let (stream, peer) = accept(&listener).await;
            // After the accept: a listener that rests must not hold a place. At the limit, one newcomer waits here and
            // the others in the kernel's backlog.
            let place = connections.places.take().await;
            (stream, peer, place)
        };
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut begun => return,
            accepted = accept => accepted,
        };
        let (builder, handler, drain) = (builder.clone(), handler.clone(), drain.clone());
        let connections = connections.clone();
        // Here: a drain that begins now must know of it.
        let open = drain.open();
        tokio::spawn(async move {
            connection(&builder, stream, peer, &connections, handler, &drain, open).await;
            drop(place);
        });
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                }
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
    builder: &auto::Builder<WatchedExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    connections: &Connections,
    handler: Arc<H>,
    drain: &Drain,
    _open: Open,
) {
    if stream.set_nodelay(true).is_err() {
        return; // It is gone already.
    }
    let conn = Arc::new(Conn::new(&stream, peer, drain));
    let signals = conn.signals.clone();
    let stream = Guarded::new(stream, signals.clone(), connections.patience);
    let service = service_fn(|request: Request<Incoming>| {
        // No block around it: every connection would hold the request's memory once more.
        drain.arrived();
        // In a box of its own: it goes through many hands, each of which would have the connection hold its memory.
        let request = Box::new(request.map(RequestBody::from));
        answer(handler.clone(), conn.clone(), request)
    });
    let _counted = OpenConnection::count();
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let leaves = Seldom::new(async {
        tokio::select! {
            biased;
            () = drain.begun() => {}
            () = signals.rested() => {}
            () = connections.places.wanted(|| signals.rests()) => {}
        }
    });
    let finished = Watched::new(async {
        tokio::select! {
            biased;
            result = &mut connection => result,
            () = leaves => {
                // HTTP/1.1: `Connection: close` on what is running; HTTP/2: GOAWAY. Idle ones close at once.
                connection.as_mut().graceful_shutdown();
                loop {
                    tokio::select! {
                        biased;
                        result = tokio::time::timeout(LAST_WORD, connection.as_mut()) => match result {
                            Ok(finished) => break finished,
                            // Half a head, or a peer that does not answer our GOAWAY's PING: nothing to wait for.
                            Err(_) if !signals.is_busy() => break Ok(()),
                            Err(_) => {}
                        },
                        () = drain.aborted() => break Ok(()),
                    }
                }
            }
        }
    });
    match finished.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
                metrics::Connections::of_process().refused(metrics::MALFORMED);
            }
            tracing::debug!(%peer, error, "a connection ended early");
        }
        Err(stage) => {
            signals.reset();
            tracing::debug!(%peer, "a connection was reset: the {stage} timeout passed");
        }
    }
}

/// Refuses what must not be forwarded, whatever it is for, and has the rest handled.
async fn answer<H: Handler>(
    handler: Arc<H>,
    conn: Arc<Conn>,
    mut request: Box<Request<RequestBody>>,
) -> Result<Response<Served>, Infallible> {
    let h2 = request.version() == Version::HTTP_2;
    let head_over_h2 = h2 && request.method() == Method::HEAD;
    let signals = conn.signals.clone();
    let taken = if h2 {
        signals.next_stream();
        if *request.method() == Method::CONNECT {
            request.extensions_mut().insert(signals.clone().hold());
        }
        Ok(())
    } else {
        signals.next_request(request.version() == Version::HTTP_10)
    };
    let body = (!h2 && !request.body().is_end_stream()).then(|| request.body().size_hint());
    // From here on, so that it is told of the end however this ends.
    let mut served = Served { body: Body::Empty, signals };
    let taken = taken.map_err(|refused| match refused {
        Refused::HeadTooLarge => ProxyError::HeadTooLarge { limit: MAX_HEAD },
        Refused::TargetTooLong => ProxyError::TargetTooLong { limit: MAX_TARGET },
        refused => ProxyError::BadRequest(refused.reason()),
    });
    let mut response = match taken.and_then(|()| target_fits(&request)) {
        Ok(()) => handler.handle(conn, request).await,
        Err(error) => {
            tracing::debug!(%error, "a request is refused before it is looked at");
            metrics::Connections::of_process().refused(error.code());
            error.response(Dialect::of(request.headers()), "")
        }
    };
    if !h2 {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            served.signals.over();
        } else if served.signals.is_last()
            || body.is_some_and(|body| unread(&response, &body, &served.signals))
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    if head_over_h2 {
        bare(&mut response);
    }
    Ok(response.map(|body| {
        served.body = body;
        served
    }))
}

/// Whether it is an answer made here to a request with a body that was not read and not skipped either: the connection
/// ends, and the client must know before it sends its next request.
fn unread(response: &Response<Body>, body: &SizeHint, signals: &Signals) -> bool {
    matches!(response.body(), Body::Full(_)) && signals.is_last_unless_read(body)
}

/// Leaves out the body of an answer made here, which hyper does over HTTP/1 only.
fn bare(response: &mut Response<Body>) {
    if let Body::Full(Some(bytes)) = response.body() {
        let length = HeaderValue::from(bytes.len());
        response.headers_mut().insert(CONTENT_LENGTH, length);
        *response.body_mut() = Body::Empty;
    }
}

fn target_fits(request: &Request<RequestBody>) -> Result<(), ProxyError> {
    let length = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if length > MAX_TARGET { Err(ProxyError::TargetTooLong { limit: MAX_TARGET }) } else { Ok(()) }
}

// === impl Served ===

impl HttpBody for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.signals.answered();
    }
}

// === impl Conn ===

impl Conn {
    fn new(stream: &TcpStream, peer: SocketAddr, drain: &Drain) -> Self {
        let signals = Arc::new(Signals::new(drain.announced()));
        Self { forwarded: Forwarded::new(peer.ip()), hangup: Hangup::of(stream), signals }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn for_test(peer: SocketAddr) -> Self {
        let hangup = Hangup::of(&std::io::stdin());
        Self { forwarded: Forwarded::new(peer.ip()), hangup, signals: Arc::default() }
    }
}
