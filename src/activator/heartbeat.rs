//! Streaming requests hear something while they wait for a replica, where their service wants it so (`heartbeat`).
//!
//! A request is one when its head says so (`Accept: text/event-stream`), or its body in OpenAI's way (`"stream": true`),
//! as far as that was read while it waited. After a period in line without a slot its response begins; see
//! [`crate::proxy::heartbeat`] for what follows.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, EXPECT, UPGRADE};
use http::{HeaderValue, Method, Request, Response, Version};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::Activator;
use super::models::{Look, json};
use super::service::Service;
use crate::clock;
use crate::proxy::body::Body;
use crate::proxy::error::Dialect;
use crate::proxy::heartbeat::{EVENT_STREAM, begin};
use crate::proxy::request_body::RequestBody;
use crate::proxy::server::Conn;

/// Waits with a request, to begin its response once it has waited for a period.
#[derive(Debug)]
pub struct Pulse {
    period: Duration,
    next: Pin<Box<Sleep>>,
    /// Whether the head says that it streams; else the body may.
    by_head: bool,
    /// None once it has begun.
    begin: Option<oneshot::Sender<()>>,
}

/// Answers a request that may stream.
pub async fn answer(
    activator: Arc<Activator>,
    service: Arc<Service>,
    conn: Arc<Conn>,
    request: Box<Request<RequestBody>>,
    period: Duration,
) -> Response<Body> {
    let metrics = service.metrics.clone();
    let (mut pulse, mut begun) = Pulse::new(&request, period);
    let mut rest: Pin<Box<dyn Future<Output = Response<Body>> + Send>> =
        Box::pin(async move { activator.answer(&service, &conn, request, Some(&mut pulse)).await });
    tokio::select! {
        biased;
        response = &mut rest => response,
        Ok(()) = &mut begun => begin(rest, period, metrics).await,
    }
}

/// Whether a request is of a kind that may stream events.
pub fn may_stream(request: &Request<RequestBody>) -> bool {
    let headers = request.headers();
    // Who waits for `100 Continue` would take our head for the app's last word.
    let sends = matches!(request.body(), RequestBody::Empty | RequestBody::Prefetched(_));
    let waits_to_send = headers.contains_key(EXPECT) && !sends;
    matches!(*request.method(), Method::GET | Method::POST)
        && !matches!(request.version(), Version::HTTP_09 | Version::HTTP_10)
        && !headers.contains_key(UPGRADE)
        && !waits_to_send
        && Dialect::of(headers) == Dialect::Http
        && (accepts_events(request) || is_openai(request))
}

fn accepts_events(request: &Request<RequestBody>) -> bool {
    let values = request.headers().get_all(ACCEPT).iter().map(HeaderValue::as_bytes);
    let mut ranges = values.flat_map(|value| value.split(|byte| *byte == b','));
    ranges.any(|range| {
        let range = range.split(|byte| *byte == b';').next().unwrap_or_default();
        range.trim_ascii().eq_ignore_ascii_case(EVENT_STREAM.as_bytes())
    })
}

fn is_openai(request: &Request<RequestBody>) -> bool {
    let path = request.uri().path();
    let is_path = path.strip_prefix("/openai").unwrap_or(path).starts_with("/v1/");
    *request.method() == Method::POST && is_path && !matches!(request.body(), RequestBody::Empty)
}

// === impl Pulse ===

impl Pulse {
    fn new(request: &Request<RequestBody>, period: Duration) -> (Self, oneshot::Receiver<()>) {
        let (begin, begun) = oneshot::channel();
        let next = Box::pin(tokio::time::sleep(period));
        (Self { period, next, by_head: accepts_events(request), begin: Some(begin) }, begun)
    }

    /// Ready when a period is over; never again once the response has begun.
    pub async fn due(&mut self) {
        if self.begin.is_none() {
            return std::future::pending().await;
        }
        self.next.as_mut().await;
        self.next.as_mut().reset((clock::now() + self.period).into());
    }

    /// A period is over. `read` is what is known of the body.
    pub fn beat(&mut self, read: &[u8]) {
        if (self.by_head || says_stream(read))
            && let Some(begin) = self.begin.take()
        {
            // It is there as long as the request is.
            let _ = begin.send(());
        }
    }

    /// Whether the response has begun, in no coding.
    pub fn has_begun(&self) -> bool {
        self.begin.is_none()
    }
}

fn says_stream(body: &[u8]) -> bool {
    json::Finder::new("stream").look(body) == Look::Found(b"true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, path: &str, fields: &[(&str, &str)]) -> Request<RequestBody> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(RequestBody::Empty).unwrap()
    }

    #[test]
    fn a_head_says_that_it_streams() {
        let streams = |method, fields: &[_]| may_stream(&request(method, "/x", fields));
        assert!(streams(Method::GET, &[("accept", "text/event-stream")]));
        assert!(streams(
            Method::POST,
            &[("accept", "application/json"), ("accept", "*/*, Text/Event-Stream;q=1")]
        ));
        assert!(!streams(Method::GET, &[("accept", "text/*")]));
        assert!(!streams(Method::HEAD, &[("accept", "text/event-stream")]));
        assert!(!streams(Method::GET, &[("accept", "text/event-stream"), ("upgrade", "websocket")]));
        assert!(!streams(
            Method::POST,
            &[("accept", "text/event-stream"), ("content-type", "application/grpc")]
        ));
    }

    #[test]
    fn a_body_says_so_in_the_outermost_object() {
        assert!(says_stream(br#"{"messages":[{"stream":false}],"stream": true}"#));
        assert!(!says_stream(br#"{"messages":[{"stream":true}],"stream":false}"#));
        assert!(
            !says_stream(br#"{"stream":"true"}"#) && !says_stream(br#"{"stream":tr"#) && !says_stream(b"")
        );
    }
}
