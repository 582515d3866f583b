//! A request at hand while a connection may still say that it did nothing with it.
//!
//! An app refuses HTTP/2 streams (`REFUSED_STREAM`, or a GOAWAY that names an earlier stream) when hyper has long
//! taken the request, and one that speaks HTTP/2 alone takes an HTTP/1 request for a broken preface. Both are safe to
//! send again (RFC 9113 §8.7), provided that what was read of the body is still there.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

use super::head;
use super::request_body::{Prefetched, RequestBody};
use super::watch::Watch;

/// As much of a body is kept until its request is answered. Apps refuse streams at once, so more is seldom sent.
const KEPT: u64 = 64 * 1024;

/// Gives a request back that was handed to a connection. Dropped when the answer comes: nothing is kept any more.
#[derive(Debug)]
pub struct Kept {
    head: Option<Request<()>>,
    tape: Option<Arc<Mutex<Tape>>>,
}

/// A body of which what was read is kept.
#[derive(Debug)]
pub struct Taped {
    tape: Arc<Mutex<Tape>>,
}

#[derive(Debug)]
struct Tape {
    /// `None` when it was taken back: whoever still polls has no use for it.
    body: Option<RequestBody>,
    read: Vec<Frame<Bytes>>,
    bytes: u64,
    /// `read` is all that was read.
    whole: bool,
}

// === impl Kept ===

impl Kept {
    /// Keeps `request` at hand. Costs a copy of its head, and a lock for each frame of its body.
    pub fn of(request: &mut Request<RequestBody>) -> Self {
        let tape = match std::mem::take(request.body_mut()) {
            RequestBody::Empty => None,
            body => {
                let tape = Tape { body: Some(body), read: Vec::new(), bytes: 0, whole: true };
                let tape = Arc::new(Mutex::new(tape));
                *request.body_mut() = RequestBody::Taped(Taped { tape: tape.clone() });
                Some(tape)
            }
        };
        Self { head: Some(head::copy(request)), tape }
    }

    /// The request as it was, unless more of its body was read than is kept.
    pub fn take(mut self) -> Option<Request<RequestBody>> {
        let head = self.head.take()?;
        let body = match &self.tape {
            None => RequestBody::Empty,
            Some(tape) => tape.lock().rewind()?,
        };
        Some(head.map(|()| body))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(tape) = &self.tape {
            tape.lock().forget();
        }
    }
}

// === impl Tape ===

impl Tape {
    fn rewind(&mut self) -> Option<RequestBody> {
        if !self.whole {
            return None;
        }
        let body = self.body.take()?;
        let read = std::mem::take(&mut self.read);
        Prefetched::rewound(read, body)
    }

    fn forget(&mut self) {
        self.whole = false;
        self.read = Vec::new();
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        if !self.whole {
            return;
        }
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len() as u64;
            self.read.push(Frame::data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.read.push(Frame::trailers(trailers.clone()));
        }
        if self.bytes > KEPT {
            self.forget();
        }
    }
}

// === impl Taped ===

impl Taped {
    /// The watch that its bytes are noted in.
    pub fn watch(&self) -> Option<Arc<Watch>> {
        self.tape.lock().body.as_ref().and_then(RequestBody::watch)
    }
}

impl HttpBody for Taped {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut tape = self.tape.lock();
        let Some(body) = &mut tape.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => tape.note(frame),
            // The client broke off: there is nothing to send again.
            Poll::Ready(Some(Err(_))) => tape.forget(),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.tape.lock().body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.tape.lock().body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
