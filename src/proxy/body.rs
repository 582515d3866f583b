//! Bodies in both directions: no boxing, and the request's guards end with the response's last byte.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus::IntCounter;

use super::download::Download;
use super::exchange::Exchange;
use super::head;
use super::heartbeat::{Heartbeat, NoStream};
use super::replay::Taped;
use super::send_error::ExchangeError;
use super::timeout::{Armed, Deadline, Watch};
use crate::clock;

/// What goes to a client.
#[derive(Debug, Default)]
#[allow(clippy::large_enum_variant)] // the large one is what nearly every response is
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// An answer made here.
    Full(Option<Bytes>),
    /// An app's answer.
    App(AppBody),
    /// An app's answer whose head went out before there was one.
    Early(Box<Heartbeat>),
}

/// An app's response body. Ends the [`Exchange`] (and so gives the slot back) at its last byte, at an error, or
/// when it is dropped; never before.
#[derive(Debug)]
pub struct AppBody {
    download: Download,
    exchange: Option<Exchange>,
    /// What the clock said when the head came, until the body had to be waited for: most come with their head.
    now: Option<Instant>,
    watch: Arc<Watch>,
    armed: Option<Armed>,
    /// The app broke off, and the client is about to be told.
    broken: Option<BodyError>,
}

/// What goes to an app.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// Nothing.
    #[default]
    Empty,
    /// As it comes.
    Stream(Upload),
    /// Partly read while the request waited.
    Prefetched(Box<Prefetched>),
    /// What is read of it is kept, for a connection that may refuse it.
    Taped(Taped),
}

/// A request body on its way from client to app.
#[derive(Debug)]
pub struct Upload {
    incoming: Incoming,
    watch: Arc<Watch>,
    tally: Tally,
}

/// Counts what is read of a request's body, once it is on its way.
#[derive(Debug, Default)]
pub struct Tally(Option<IntCounter>);

/// A request body whose beginning was read while the request waited in line, so that a client that goes away is
/// noticed. Bounded by who calls [`Prefetched::more`].
///
/// What is read is copied into one buffer: frames can be a byte each, and would pin the connection's read buffers.
#[derive(Debug)]
pub struct Prefetched {
    data: BytesMut,
    trailers: Option<HeaderMap>,
    rest: Upload,
    error: Option<hyper::Error>,
}

/// Why a response body stopped in the middle. The connection is aborted, never ended cleanly.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The app broke off.
    #[error("the app broke off its response: {0}")]
    App(#[from] ExchangeError),
    /// The stream had begun with heartbeats, and what followed is no stream.
    #[error("after heartbeats, the answer was {0}")]
    NoStream(NoStream),
}

// === impl Body ===

impl Body {
    /// An answer made here.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::App(body) => Pin::new(body).poll_frame(cx),
            Self::Early(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::App(body) => body.is_end_stream(),
            Self::Early(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::App(body) => body.size_hint(),
            Self::Early(_) => SizeHint::default(),
        }
    }
}

// === impl AppBody ===

impl AppBody {
    /// The body of an app's response, whose head came `now`, and whose end is the end of `exchange`.
    /// `idle` bounds the time without a byte, `total` all of it; see [`timeout`](super::timeout).
    pub fn new(
        mut download: Download,
        exchange: Exchange,
        watch: Arc<Watch>,
        now: Instant,
        idle: Duration,
        total: Option<Deadline>,
    ) -> Self {
        // Nothing to come: the slot is free before the head is on its way to the client.
        let (exchange, armed) = if download.is_end_stream() {
            // The connection first, so that whoever gets the slot finds it.
            download.end(now);
            exchange.end(now);
            (None, None)
        } else {
            (Some(exchange), Some(watch.clone().arm(idle, total)))
        };
        Self { download, exchange, now: Some(now), watch, armed, broken: None }
    }

    fn end(&mut self) {
        self.armed = None;
        let now = self.now.unwrap_or_else(clock::now);
        self.download.end(now);
        if let Some(exchange) = self.exchange.take() {
            exchange.end(now);
        }
    }
}

impl HttpBody for AppBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = Pin::new(&mut this.download).poll_frame(cx);
        if polled.is_pending() {
            this.now = None;
        }
        match ready!(polled) {
            Some(Ok(mut frame)) => {
                this.watch.touch();
                frame.trailers_mut().map(head::trailers);
                if let (Some(exchange), Some(data)) = (&mut this.exchange, frame.data_ref()) {
                    exchange.came(data.len());
                }
                // Trailers are last, and hyper does not ask for more.
                if frame.is_trailers() || this.download.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let error = BodyError::App(error);
                this.armed = None;
                if let Some(exchange) = this.exchange.take() {
                    exchange.cut_short(&error);
                }
                // hyper drops what it has not written when a body fails: what came before goes out first, and be it
                // that it came at the same moment.
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                this.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.download.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.download.size_hint()
    }
}

// === impl RequestBody ===

impl From<Incoming> for RequestBody {
    fn from(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Stream(Upload::from(incoming))
    }
}

impl From<Upload> for RequestBody {
    fn from(upload: Upload) -> Self {
        if upload.incoming.is_end_stream() { Self::Empty } else { Self::Stream(upload) }
    }
}

impl RequestBody {
    /// To be read before it is sent, further than it may be already. `None` when there is nothing to read.
    pub fn prefetched(self) -> Option<Box<Prefetched>> {
        match self {
            Self::Stream(rest) => Some(Box::new(Prefetched::of(rest))),
            Self::Prefetched(body) => Some(body),
            // The latter is on its way already.
            Self::Empty | Self::Taped(_) => None,
        }
    }

    /// Counts the bytes that are read of it from now on. A body that there is none of costs nothing.
    pub fn count_into(&mut self, counter: &IntCounter) {
        match self {
            // The one has none, the other is on its way already, and was told.
            Self::Empty | Self::Taped(_) => {}
            Self::Stream(upload) => upload.tally.0 = Some(counter.clone()),
            Self::Prefetched(body) => body.rest.tally.0 = Some(counter.clone()),
        }
    }

    /// The watch that its bytes are noted in; none for a body that has none.
    pub fn watch(&self) -> Option<Arc<Watch>> {
        match self {
            Self::Empty => None,
            Self::Stream(upload) => Some(upload.watch.clone()),
            Self::Prefetched(body) => Some(body.rest.watch.clone()),
            Self::Taped(body) => body.watch(),
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Stream(upload) => upload.poll_frame(cx),
            Self::Taped(body) => Pin::new(body).poll_frame(cx),
            Self::Prefetched(body) => {
                if !body.data.is_empty() {
                    body.rest.tally.add(body.data.len());
                    return Poll::Ready(Some(Ok(Frame::data(body.data.split().freeze()))));
                }
                if let Some(error) = body.error.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                match body.trailers.take() {
                    Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                    None => body.rest.poll_frame(cx),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(upload) => upload.incoming.is_end_stream(),
            Self::Taped(body) => body.is_end_stream(),
            Self::Prefetched(body) => body.is_empty() && body.rest.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(upload) => upload.incoming.size_hint(),
            Self::Taped(body) => body.size_hint(),
            Self::Prefetched(body) => {
                // The rest counts down as it is read, so the sum stays what the sender declared.
                let rest = body.rest.incoming.size_hint();
                let mut hint = SizeHint::new();
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + body.bytes());
                }
                hint.set_lower(rest.lower() + body.bytes());
                hint
            }
        }
    }
}

// === impl Upload ===

impl Upload {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        // Noted before the app gets it: from then on it is the app that is waited for.
        self.watch.waits_for_client(polled.is_pending());
        if let Poll::Ready(Some(Ok(frame))) = &mut polled {
            self.watch.touch();
            frame.trailers_mut().map(head::trailers);
            self.tally.add(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }
}

impl From<Incoming> for Upload {
    fn from(incoming: Incoming) -> Self {
        Self { incoming, watch: Watch::current(), tally: Tally::default() }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.watch.waits_for_client(false);
    }
}

// === impl Tally ===

impl Tally {
    fn add(&self, bytes: usize) {
        if let Some(counter) = &self.0 {
            counter.inc_by(bytes as u64);
        }
    }
}

// === impl Prefetched ===

impl Prefetched {
    /// Nothing read yet.
    pub fn new(incoming: Incoming) -> Self {
        Self::of(Upload::from(incoming))
    }

    fn of(rest: Upload) -> Self {
        Self { data: BytesMut::new(), trailers: None, rest, error: None }
    }

    /// `body` as it was before these frames were read of it.
    pub fn rewound(frames: Vec<Frame<Bytes>>, body: RequestBody) -> Option<RequestBody> {
        if frames.is_empty() {
            return Some(body);
        }
        let mut rewound = match body {
            RequestBody::Stream(rest) => Self::of(rest),
            RequestBody::Prefetched(prefetched) => *prefetched,
            // Nothing can have been read of the one, and the other is never taped again.
            RequestBody::Empty | RequestBody::Taped(_) => return None,
        };
        let mut data = BytesMut::new();
        for frame in frames {
            match frame.into_data() {
                Ok(more) => data.extend_from_slice(&more),
                Err(frame) => rewound.trailers = frame.into_trailers().ok(),
            }
        }
        data.extend_from_slice(&rewound.data);
        rewound.data = data;
        Some(RequestBody::Prefetched(Box::new(rewound)))
    }

    /// Reads one more frame. False when there is nothing more to read. Safe to cancel.
    pub async fn more(&mut self) -> bool {
        if self.error.is_some() || self.rest.incoming.is_end_stream() {
            return false;
        }
        match self.rest.incoming.frame().await {
            Some(Ok(mut frame)) => {
                frame.trailers_mut().map(head::trailers);
                match frame.into_data() {
                    Ok(data) => self.data.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                }
                true
            }
            Some(Err(error)) => {
                self.error = Some(error);
                false
            }
            None => false,
        }
    }

    /// Why it ends before its end: the sender broke off, or sent what is no body.
    pub fn error(&self) -> Option<&hyper::Error> {
        self.error.as_ref()
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.data.len() as u64
    }

    /// Memory that it holds.
    pub fn held(&self) -> u64 {
        self.data.capacity() as u64
    }

    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none() && self.error.is_none()
    }

    /// What was read so far.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The whole body, to be forwarded.
    pub fn into_body(self) -> RequestBody {
        if self.is_empty() {
            return RequestBody::from(self.rest);
        }
        RequestBody::Prefetched(Box::new(self))
    }
}
