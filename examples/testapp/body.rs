//! Response bodies.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, SizeHint};

use crate::app::Flight;

/// What every page answers with.
pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Bytes per frame of [`repeat`].
const CHUNK: usize = 64 * 1024;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// A body that keeps its request in flight until it has ended or was dropped.
pub(crate) struct Guarded {
    inner: Body,
    flight: Option<Flight>,
}

/// A body in one piece.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// `n` zero bytes, made as they are asked for.
pub(crate) fn repeat(n: u64) -> Body {
    let chunks = stream::unfold(n, |left| async move {
        let take = left.min(CHUNK as u64);
        let frame = Frame::data(Bytes::from_static(&ZEROS[..usize::try_from(take).unwrap_or(CHUNK)]));
        (take > 0).then_some((Ok(frame), left - take))
    });
    StreamBody::new(chunks).boxed_unsync()
}

// === impl Guarded ===

impl Guarded {
    pub(crate) fn new(inner: Body, flight: Flight) -> Self {
        Self { inner, flight: Some(flight) }
    }
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let ended = frame.is_none() || self.inner.is_end_stream();
        if let Some(flight) = self.flight.take_if(|_| ended) {
            flight.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
