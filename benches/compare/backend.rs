//! The replicas: as little as an HTTP server can do, so that the proxy is what is measured.
//!
//! The bench starts itself again as `compare backend --port N`. It counts who is in flight, as testapp does, but keeps
//! no records and makes no JSON per request.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::h2load::MESSAGE;

/// What `/` answers.
const SMALL: &[u8] = &[b'x'; 66];
/// What `/body` answers.
const BIG: &[u8] = &[b'x'; 64 * 1024];
/// How long `/slow` takes.
const SLOW: Duration = Duration::from_millis(2);
/// Between two events of a stream.
const PERIOD: Duration = Duration::from_millis(100);

/// Requests at this replica.
#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One request, from its head until its answer's end. By default one that does not count.
#[derive(Default)]
struct Flight(Option<Arc<Counts>>);

struct Body {
    what: What,
    _flight: Flight,
}

enum What {
    Whole(Bytes),
    /// A message, then its status.
    Grpc(Bytes),
    Status,
    Events(Interval),
    Ended,
}

pub(crate) fn main(mut arguments: impl Iterator<Item = String>) {
    let port = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--port"), Some(port)) => port.parse().expect("a port"),
        _ => panic!("backend --port N"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(port)).unwrap();
}

async fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let builder = Arc::new(auto::Builder::new(TokioExecutor::new()));
    let counts = Arc::new(Counts::default());
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (builder, counts) = (builder.clone(), counts.clone());
        tokio::spawn(async move {
            let service = service_fn(move |req| answer(counts.clone(), req));
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(counts: Arc<Counts>, req: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if req.uri().path() == "/stats" {
        let now = counts.now.load(Ordering::Relaxed);
        // The next look is at what comes after this one.
        let most = counts.most.swap(now, Ordering::Relaxed);
        let said = format!("{now} {most}").into();
        return Ok(Body::new(What::Whole(said), Flight::default()).answer("text/plain"));
    }
    let flight = Flight::enter(counts);
    if req.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/grpc") {
        let whole = req.into_body().collect().await.is_ok();
        let what = if whole { What::Grpc(Bytes::from_static(MESSAGE)) } else { What::Ended };
        return Ok(Body::new(what, flight).answer("application/grpc"));
    }
    let (what, kind) = match req.uri().path() {
        "/body" => {
            let mut body = req.into_body();
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
            }
            let whole = if read == BIG.len() { BIG } else { b"that was not all" };
            (What::Whole(Bytes::from_static(whole)), "application/octet-stream")
        }
        "/slow" => {
            tokio::time::sleep(SLOW).await;
            (What::Whole(Bytes::from_static(SMALL)), "application/octet-stream")
        }
        "/events" => (What::events(), "text/event-stream"),
        "/seen" => (What::Whole(seen(&req).into()), "application/json"),
        _ => (What::Whole(Bytes::from_static(SMALL)), "application/octet-stream"),
    };
    Ok(Body::new(what, flight).answer(kind))
}

/// The request as it came, for the check that all ways do the same job.
fn seen(req: &Request<Incoming>) -> String {
    let fields: Vec<_> = req
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let authority = req.uri().authority().map(hyper::http::uri::Authority::as_str);
    json!({ "version": format!("{:?}", req.version()), "authority": authority, "fields": fields }).to_string()
}

// === impl Flight ===

impl Flight {
    fn enter(counts: Arc<Counts>) -> Self {
        let now = counts.now.fetch_add(1, Ordering::Relaxed) + 1;
        counts.most.fetch_max(now, Ordering::Relaxed);
        Self(Some(counts))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(counts) = &self.0 {
            counts.now.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

// === impl What ===

impl What {
    fn events() -> Self {
        let mut interval = tokio::time::interval_at(Instant::now(), PERIOD);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Events(interval)
    }
}

// === impl Body ===

impl Body {
    fn new(what: What, flight: Flight) -> Self {
        Self { what, _flight: flight }
    }

    fn answer(self, kind: &'static str) -> Response<Self> {
        let mut answer = Response::new(self);
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        answer
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (frame, next) = match std::mem::replace(&mut self.what, What::Ended) {
            What::Whole(bytes) => (Frame::data(bytes), What::Ended),
            What::Grpc(message) => (Frame::data(message), What::Status),
            What::Status => {
                let mut status = HeaderMap::new();
                status.insert("grpc-status", HeaderValue::from_static("0"));
                (Frame::trailers(status), What::Ended)
            }
            What::Events(mut interval) => {
                let due = interval.poll_tick(cx).is_ready();
                self.what = What::Events(interval);
                if !due {
                    return Poll::Pending;
                }
                return Poll::Ready(Some(Ok(Frame::data(event()))));
            }
            What::Ended => return Poll::Ready(None),
        };
        self.what = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.what, What::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.what {
            What::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            What::Ended => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

/// Of the size of a language model's token, and when it was made.
fn event() -> Bytes {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    Bytes::from(format!("data: {{\"at\":{now},\"token\":\" a token\"}}\n\n"))
}
