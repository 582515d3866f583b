//! A response's body: no boxing, and the request's guards end with its last byte.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::download::Download;
use super::exchange::Exchange;
use super::head;
use super::heartbeat::{Heartbeat, NoStream};
use super::send_error::ExchangeError;
use super::watch::{Armed, Deadline, Watch};
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
                let of_client = error.of_client().is_some();
                let error = BodyError::App(error);
                this.armed = None;
                match this.exchange.take() {
                    Some(exchange) if !of_client => exchange.cut_short(&error),
                    _ => {}
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
