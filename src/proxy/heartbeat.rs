//! An event stream that begins before its app answers: comments, until the app's own stream follows.
//!
//! Its status and headers are ours and cannot be taken back. So if the answer then is anything but a plain event
//! stream, or an error, the response is aborted: nothing in its body could tell the two apart for every client.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use tokio::task::JoinError;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::body::{Body, BodyError};
use super::metrics::ServiceMetrics;
use super::watch;

/// What event streams are sent as.
pub const EVENT_STREAM: &str = "text/event-stream";
/// A comment: clients pass over it, and load balancers see bytes.
const COMMENT: &[u8] = b": waiting for a replica\n\n";
/// nginx buffers responses unless this says no.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The body: comments, then the answer's.
#[derive(Debug)]
pub struct Heartbeat {
    /// Dropped: the request leaves the line, or its replica.
    answer: AbortOnDropHandle<Response<Body>>,
    /// An answer that was there at once.
    early: Option<Result<Response<Body>, JoinError>>,
    beats: Interval,
    stream: Option<Body>,
    metrics: Arc<ServiceMetrics>,
    /// What came of it.
    outcome: Outcome,
}

/// What came instead of an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoStream {
    /// Another status.
    Status(StatusCode),
    /// Something else than events, or events in a coding that the head does not tell.
    Kind,
    /// A panic.
    Bug,
}

/// What came of a stream that had begun with heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The app's stream followed.
    Stream,
    /// Something else would have followed.
    Aborted,
    /// The client went before either.
    ClientGone,
}

/// A response that has begun: its head now, `answer`'s body when that has come.
///
/// `answer` goes on in a task of its own, since a body is not polled while its client reads nothing: a slot that it
/// gets must be used, and its time bounds must count.
pub async fn begin(
    answer: Pin<Box<dyn Future<Output = Response<Body>> + Send>>,
    period: Duration,
    metrics: Arc<ServiceMetrics>,
) -> Response<Body> {
    let mut answer = AbortOnDropHandle::new(tokio::spawn(watch::for_current(answer)));
    // So that this task is woken by the answer even if the client never lets it poll the body, and looks at the watch.
    let early = std::future::poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut answer).poll(cx) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        })
    });
    let early = early.await;
    let mut beats = interval(period);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = Heartbeat { answer, early, beats, stream: None, metrics, outcome: Outcome::ClientGone };
    let mut response = Response::new(Body::Early(Box::new(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Whether this content type is an event stream's.
pub fn is_event_stream(kind: &HeaderValue) -> bool {
    kind.to_str().is_ok_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case(EVENT_STREAM)
    })
}

fn check(status: StatusCode, headers: &HeaderMap) -> Result<(), NoStream> {
    if status != StatusCode::OK {
        return Err(NoStream::Status(status));
    }
    let is_stream = headers.get(CONTENT_TYPE).is_some_and(is_event_stream);
    if is_stream && !headers.contains_key(CONTENT_ENCODING) { Ok(()) } else { Err(NoStream::Kind) }
}

// === impl Heartbeat ===

impl Heartbeat {
    fn follow(&mut self, answer: Response<Body>) -> Result<&mut Body, NoStream> {
        let (head, body) = answer.into_parts();
        let checked = check(head.status, &head.headers);
        self.outcome = if checked.is_ok() { Outcome::Stream } else { Outcome::Aborted };
        checked?;
        Ok(self.stream.insert(body))
    }
}

impl HttpBody for Heartbeat {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(stream) = &mut this.stream {
            return Pin::new(stream).poll_frame(cx);
        }
        let answer = match this.early.take() {
            Some(answer) => Poll::Ready(answer),
            None => Pin::new(&mut this.answer).poll(cx),
        };
        if let Poll::Ready(answer) = answer {
            let stream = match answer {
                Ok(answer) => this.follow(answer),
                Err(_) => Err(NoStream::Bug),
            };
            return match stream {
                Ok(stream) => Pin::new(stream).poll_frame(cx),
                Err(why) => {
                    tracing::debug!(
                        "a stream that had begun with heartbeats is aborted: the answer was {why}"
                    );
                    Poll::Ready(Some(Err(BodyError::NoStream(why))))
                }
            };
        }
        ready!(this.beats.poll_tick(cx));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(COMMENT)))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_some_and(HttpBody::is_end_stream)
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.metrics.heartbeat(self.outcome);
    }
}

// === impl Outcome ===

impl Outcome {
    /// A short word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Aborted => "aborted",
            Self::ClientGone => "client_gone",
        }
    }
}

impl fmt::Display for NoStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Kind => f.write_str("no plain event stream"),
            Self::Bug => f.write_str("a bug of ours"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_event_streams_may_follow() {
        let with = |fields: &[(HeaderName, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            check(StatusCode::OK, &fields.collect())
        };
        assert_eq!(with(&[(CONTENT_TYPE, "text/event-stream; charset=utf-8")]), Ok(()));
        assert_eq!(with(&[(CONTENT_TYPE, "Text/Event-Stream")]), Ok(()));
        assert_eq!(with(&[(CONTENT_TYPE, "application/json")]), Err(NoStream::Kind));
        assert_eq!(with(&[]), Err(NoStream::Kind));
        assert_eq!(with(&[(CONTENT_TYPE, EVENT_STREAM), (CONTENT_ENCODING, "gzip")]), Err(NoStream::Kind));
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(check(busy, &HeaderMap::new()), Err(NoStream::Status(busy)));
    }
}
