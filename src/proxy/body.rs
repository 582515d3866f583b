//! Bodies in both directions: no boxing, and the request's guards end with the response's last byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus::IntCounter;

use super::error::Stage;
use super::exchange::Exchange;
use super::timeout::IdleTimer;

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
}

/// An app's response body. Ends the [`Exchange`] (and so gives the slot back) at its last byte, at an error, or
/// when it is dropped; never before.
#[derive(Debug)]
pub struct AppBody {
    incoming: Incoming,
    exchange: Option<Exchange>,
    idle: IdleTimer,
}

/// What goes to an app.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// Nothing.
    #[default]
    Empty,
    /// As it comes.
    Stream(Incoming, Tally),
    /// Partly read while the request waited.
    Prefetched(Box<Prefetched>),
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
    rest: Incoming,
    error: Option<hyper::Error>,
    tally: Tally,
}

/// Why a response body stopped in the middle. The connection is aborted, never ended cleanly.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The app broke off.
    #[error("the app broke off its response: {0}")]
    App(#[from] hyper::Error),
    /// A timeout passed after the head went out.
    #[error("the {0} timeout passed")]
    Timeout(Stage),
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::App(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::App(body) => body.size_hint(),
        }
    }
}

// === impl AppBody ===

impl AppBody {
    /// The body of an app's response, whose end is the end of `exchange`.
    pub fn new(incoming: Incoming, exchange: Exchange, idle: IdleTimer) -> Self {
        // Nothing to come: the slot is free before the head is on its way to the client.
        let exchange = if incoming.is_end_stream() {
            exchange.end();
            None
        } else {
            Some(exchange)
        };
        Self { incoming, exchange, idle }
    }

    fn end(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.end();
        }
    }

    fn abort(&mut self) {
        drop(self.exchange.take());
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
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.idle.touch();
                if let (Some(exchange), Some(data)) = (&mut this.exchange, frame.data_ref()) {
                    exchange.came(data.len());
                }
                if this.incoming.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.abort();
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Pending => match this.idle.poll_expired(cx) {
                Poll::Ready(stage) => {
                    this.abort();
                    Poll::Ready(Some(Err(BodyError::Timeout(stage))))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

// === impl RequestBody ===

impl From<Incoming> for RequestBody {
    fn from(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::Empty } else { Self::Stream(incoming, Tally::default()) }
    }
}

impl RequestBody {
    /// Counts the bytes that are read of it from now on. A body that there is none of costs nothing.
    pub fn count_into(&mut self, counter: &IntCounter) {
        match self {
            Self::Empty => {}
            Self::Stream(_, tally) => tally.0 = Some(counter.clone()),
            Self::Prefetched(body) => body.tally.0 = Some(counter.clone()),
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
            Self::Stream(incoming, tally) => tally.count(Pin::new(incoming).poll_frame(cx)),
            Self::Prefetched(body) => {
                let polled = body.poll_frame(cx);
                body.tally.count(polled)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(incoming, _) => incoming.is_end_stream(),
            Self::Prefetched(body) => body.is_empty() && body.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(incoming, _) => incoming.size_hint(),
            Self::Prefetched(body) => {
                // The rest counts down as it is read, so the sum stays what the sender declared.
                let rest = body.rest.size_hint();
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

// === impl Tally ===

impl Tally {
    fn count(
        &self,
        polled: Poll<Option<Result<Frame<Bytes>, hyper::Error>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let (Some(counter), Poll::Ready(Some(Ok(frame)))) = (&self.0, &polled) {
            counter.inc_by(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        polled
    }
}

// === impl Prefetched ===

impl Prefetched {
    /// Nothing read yet.
    pub fn new(incoming: Incoming) -> Self {
        Self { data: BytesMut::new(), trailers: None, rest: incoming, error: None, tally: Tally::default() }
    }

    /// Reads one more frame. False when there is nothing more to read. Safe to cancel.
    pub async fn more(&mut self) -> bool {
        if self.error.is_some() || self.rest.is_end_stream() {
            return false;
        }
        match self.rest.frame().await {
            Some(Ok(frame)) => {
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

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.data.split().freeze()))));
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match self.trailers.take() {
            Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    /// Whether the sender broke off.
    pub fn failed(&self) -> bool {
        self.error.is_some()
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

    /// The whole body, to be forwarded.
    pub fn into_body(self) -> RequestBody {
        if self.is_empty() {
            return RequestBody::from(self.rest);
        }
        RequestBody::Prefetched(Box::new(self))
    }
}
