//! A request's body on its way to an app: as it comes, or partly read while its request waited.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus::IntCounter;

use super::head;
use super::replay::Taped;
use super::watch::Watch;

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
