//! Requests over hyper's bare connections, HTTP/1.1 and h2c.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::payload::{self, Payload};

/// No answer at all after this long is an error, so that a hanging proxy fails a test by name.
const PATIENCE: Duration = Duration::from_mins(2);

/// A request that can be sent anywhere.
pub(crate) struct Call {
    method: Method,
    host: String,
    path: String,
    headers: HeaderMap,
    body: Payload,
    h2: bool,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

/// An answer whose body is still coming. Dropped: the connection is closed.
pub(crate) struct Open {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _wire: Wire,
}

/// One connection that can be used again.
pub(crate) struct Wire {
    send: Send,
    /// Ends the connection with the last of its users.
    task: Arc<AbortOnDropHandle<()>>,
}

enum Send {
    H1(http1::SendRequest<Payload>),
    H2(http2::SendRequest<Payload>),
}

// === impl Call ===

impl Call {
    pub(crate) fn get(host: &str, path: &str) -> Self {
        Self {
            method: Method::GET,
            host: host.to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: payload::empty(),
            h2: false,
        }
    }

    pub(crate) fn head(host: &str, path: &str) -> Self {
        Self { method: Method::HEAD, ..Self::get(host, path) }
    }

    pub(crate) fn post(host: &str, path: &str, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, body: payload::full(body), ..Self::get(host, path) }
    }

    /// POST of `n` zero bytes, streamed.
    pub(crate) fn post_zeros(host: &str, path: &str, n: u64) -> Self {
        let call = Self { method: Method::POST, body: payload::zeros(n), ..Self::get(host, path) };
        call.header("content-length", &n.to_string())
    }

    /// POST of what the test sends piece by piece; its end is the sender's drop.
    pub(crate) fn post_pieces(host: &str, path: &str) -> (Self, tokio::sync::mpsc::Sender<Bytes>) {
        let (pieces, body) = payload::pieces();
        (Self { method: Method::POST, body, ..Self::get(host, path) }, pieces)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    /// Another method.
    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.parse().unwrap();
        self
    }

    /// The id under which testapp records it.
    pub(crate) fn id(self, id: &str) -> Self {
        self.header("x-request-id", id)
    }

    /// HTTP/2 with prior knowledge.
    pub(crate) fn h2(mut self) -> Self {
        self.h2 = true;
        self
    }

    /// Sends it on a connection of its own and reads the whole answer.
    pub(crate) async fn send(self, to: SocketAddr) -> Result<Reply, String> {
        let all = async { self.open(to).await?.rest().await };
        tokio::time::timeout(PATIENCE, all)
            .await
            .unwrap_or_else(|_| Err(format!("no answer in {PATIENCE:?}")))
    }

    /// Sends it on a connection of its own and returns at the answer's head.
    pub(crate) async fn open(self, to: SocketAddr) -> Result<Open, String> {
        let mut wire = Wire::open(to, self.h2).await?;
        let answer = wire.request(self).await?;
        let (head, body) = answer.into_parts();
        Ok(Open { status: head.status.as_u16(), headers: head.headers, body, _wire: wire })
    }

    /// HTTP/1.1 takes the path and `Host`, HTTP/2 the whole URI.
    fn into_request(self) -> Request<Payload> {
        let target = if self.h2 { format!("http://{}{}", self.host, self.path) } else { self.path };
        let mut req = Request::new(self.body);
        *req.method_mut() = self.method;
        *req.uri_mut() = target.parse().unwrap();
        *req.headers_mut() = self.headers;
        if self.h2 {
            *req.version_mut() = Version::HTTP_2;
        } else {
            req.headers_mut().insert("host", HeaderValue::from_str(&self.host).unwrap());
        }
        req
    }
}

// === impl Wire ===

impl Wire {
    pub(crate) async fn open(to: SocketAddr, h2: bool) -> Result<Self, String> {
        let stream = TcpStream::connect(to).await.map_err(|e| format!("connect {to}: {e}"))?;
        stream.set_nodelay(true).unwrap();
        let io = TokioIo::new(stream);
        // The connection's own error is not lost: the request on it fails with the same.
        let (send, task) = if h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (send, conn) = builder.timer(TokioTimer::new()).handshake(io).await.map_err(text)?;
            (Send::H2(send), tokio::spawn(async move { drop(conn.await) }))
        } else {
            let (send, conn) = http1::handshake(io).await.map_err(text)?;
            (Send::H1(send), tokio::spawn(async move { drop(conn.with_upgrades().await) }))
        };
        Ok(Self { send, task: Arc::new(AbortOnDropHandle::new(task)) })
    }

    /// The same HTTP/2 connection, for requests side by side.
    pub(crate) fn share(&self) -> Self {
        let Send::H2(send) = &self.send else { panic!("HTTP/1.1 has one request at a time") };
        Self { send: Send::H2(send.clone()), task: self.task.clone() }
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(&mut self, call: Call) -> Result<Reply, String> {
        let all = async {
            let (head, body) = self.request(call).await?.into_parts();
            whole(head.status.as_u16(), head.headers, body).await
        };
        tokio::time::timeout(PATIENCE, all)
            .await
            .unwrap_or_else(|_| Err(format!("no answer in {PATIENCE:?}")))
    }

    async fn request(&mut self, call: Call) -> Result<Response<Incoming>, String> {
        let req = call.into_request();
        match &mut self.send {
            Send::H1(send) => {
                send.ready().await.map_err(text)?;
                send.send_request(req).await.map_err(text)
            }
            Send::H2(send) => {
                send.ready().await.map_err(text)?;
                send.send_request(req).await.map_err(text)
            }
        }
    }
}

// === impl Open ===

impl Open {
    /// The next piece of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match tokio::time::timeout(PATIENCE, self.body.frame()).await {
                Err(_) => return Some(Err(format!("no piece of the body in {PATIENCE:?}"))),
                Ok(None) => return None,
                Ok(Some(Err(e))) => return Some(Err(text(e))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
            }
        }
    }

    /// Reads the rest without keeping it and returns its length.
    pub(crate) async fn count(mut self) -> Result<u64, String> {
        let mut bytes = 0;
        while let Some(data) = self.chunk().await {
            bytes += data?.len() as u64;
        }
        Ok(bytes)
    }

    pub(crate) async fn rest(self) -> Result<Reply, String> {
        whole(self.status, self.headers, self.body).await
    }
}

async fn whole(status: u16, headers: HeaderMap, mut incoming: Incoming) -> Result<Reply, String> {
    let (mut body, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = incoming.frame().await {
        match frame.map_err(|e| format!("{status}, then: {}", text(e)))?.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok(Reply { status, headers, body: body.freeze(), trailers })
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(e: hyper::Error) -> String {
    use std::error::Error as _;
    e.source().map_or_else(|| e.to_string(), |source| format!("{e}: {source}"))
}

// === impl Reply ===

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Asserts an error made by pilotlight (JSON of the design's shape) and returns its message.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, service: &str) -> String {
        assert_eq!(self.status, status, "{self}");
        assert!(self.header("content-type").starts_with("application/json"), "{self}");
        let error = &self.json()["error"];
        assert!(
            !error["code"].is_null() && error.get("retry_after").is_some(),
            "code and retry_after: {self}"
        );
        if !service.is_empty() {
            assert!(
                error["service"].as_str().is_some_and(|s| s.contains(service)),
                "service {service}: {self}"
            );
        }
        error["message"].as_str().unwrap_or_else(|| panic!("no message: {self}")).to_owned()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.path, http_body::Body::size_hint(&self.body))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.text();
        write!(f, "{} {:?} {}", self.status, self.headers, body.chars().take(2000).collect::<String>())
    }
}
