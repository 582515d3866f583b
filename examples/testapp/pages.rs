//! What each path answers.

use std::future::ready;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::app::{App, Flight, until_exists};
use crate::body::{Body, full, repeat};

/// Health and statistics: answered at once, not counted, not recorded.
pub(crate) fn probe(app: &App, req: &Request<Incoming>) -> Option<Response<Body>> {
    match req.uri().path() {
        "/healthz" => Some(text(StatusCode::OK, "ok")),
        "/ready" if app.ready() => Some(text(StatusCode::OK, "ready")),
        "/ready" => Some(text(StatusCode::SERVICE_UNAVAILABLE, "not ready")),
        "/stats" => {
            let (now, max, total) = app.counts();
            Some(reply(
                &json!({ "pid": std::process::id(), "in_flight": now, "max_in_flight": max, "total": total }),
            ))
        }
        // grpc.health.v1: a message with field 1 = SERVING (1) or NOT_SERVING (2).
        "/grpc.health.v1.Health/Check" => {
            Some(grpc(full(vec![0, 0, 0, 0, 2, 8, if app.ready() { 1 } else { 2 }])))
        }
        _ => None,
    }
}

/// Everything that counts as load.
pub(crate) async fn answer(app: &App, req: Request<Incoming>) -> Response<Body> {
    let is_grpc =
        req.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    if is_grpc && req.uri().path().ends_with("/Stream") {
        // The client's last frame may be empty: with trailers behind it, it would be no end any more, and HTTP/2
        // stacks count such frames.
        let messages = BodyStream::new(req.into_body());
        let messages =
            messages.try_filter(|frame| ready(frame.data_ref().is_some_and(|data| !data.is_empty())));
        return grpc(StreamBody::new(messages));
    }
    if is_grpc {
        return match req.into_body().collect().await {
            Ok(message) => grpc(full(message.to_bytes())),
            Err(e) => text(StatusCode::BAD_REQUEST, &e.to_string()),
        };
    }
    // Also where OpenAI's paths are.
    let path = req.uri().path();
    match path.strip_prefix("/v1").unwrap_or(path) {
        "/sleep" => {
            let ms = param(&req, "ms").unwrap_or(50);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            about(app, &req)
        }
        // Answers once the file exists: a request whose end the test decides.
        "/hold" => {
            until_exists(&param::<PathBuf>(&req, "file").unwrap_or_default()).await;
            about(app, &req)
        }
        "/hang" => std::future::pending().await,
        "/crash" => std::process::abort(),
        "/status" => {
            let code = param(&req, "code").and_then(|c| StatusCode::from_u16(c).ok());
            text(code.unwrap_or(StatusCode::BAD_REQUEST), "as asked")
        }
        "/echo" => {
            let kind = req.headers().get(CONTENT_TYPE).cloned();
            let mut answer = Response::new(req.into_body().boxed_unsync());
            kind.map(|kind| answer.headers_mut().insert(CONTENT_TYPE, kind));
            answer
        }
        "/sink" => sink(req).await,
        "/early" => text(StatusCode::OK, "not read"),
        "/bytes" => {
            let n = param(&req, "n").unwrap_or(1 << 30);
            let mut answer = Response::new(repeat(n));
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(n));
            answer
        }
        "/sse" => events(&req),
        "/trailers" => trailers(),
        _ => about(app, &req),
    }
}

/// `101 Switching Protocols`, then every byte comes back until the peer closes.
pub(crate) fn upgrade(mut req: Request<Incoming>, flight: Flight) -> Response<Body> {
    let Some(protocol) = req.headers().get("upgrade").cloned() else {
        return text(StatusCode::UPGRADE_REQUIRED, "upgrade required");
    };
    let on_upgrade = hyper::upgrade::on(&mut req);
    tokio::spawn(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        let mut io = TokioIo::new(upgraded);
        let mut buf = vec![0; 16 * 1024];
        while let Ok(n) = io.read(&mut buf).await {
            if n == 0 {
                let _ = io.shutdown().await;
                return flight.end();
            }
            if io.write_all(&buf[..n]).await.is_err() {
                break;
            }
        }
    });
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert("upgrade", protocol);
    answer
}

/// A websocket that sends every message back.
pub(crate) fn websocket(mut req: Request<Incoming>, flight: Flight) -> Response<Body> {
    let Some(key) = req.headers().get("sec-websocket-key").cloned() else {
        return text(StatusCode::UPGRADE_REQUIRED, "upgrade required");
    };
    let on_upgrade = hyper::upgrade::on(&mut req);
    tokio::spawn(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                return flight.end();
            }
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let digest = sha1::Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(digest.finalize());
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    answer.headers_mut().insert("sec-websocket-accept", HeaderValue::from_str(&accept).expect("base64"));
    answer
}

/// The request as it arrived.
fn about(app: &App, req: &Request<Incoming>) -> Response<Body> {
    let (now, max, _) = app.counts();
    let headers: Vec<Value> = req
        .headers()
        .iter()
        .map(|(k, v)| json!([k.as_str(), String::from_utf8_lossy(v.as_bytes())]))
        .collect();
    let host = req.headers().get("host").and_then(|v| v.to_str().ok());
    let host = host.or_else(|| req.uri().authority().map(hyper::http::uri::Authority::as_str));
    reply(&json!({
        "pid": std::process::id(),
        "version": app.flags.version,
        "in_flight": now,
        "max_in_flight": max,
        "method": req.method().as_str(),
        "path": req.uri().path_and_query().map(ToString::to_string),
        "protocol": format!("{:?}", req.version()),
        "headers": headers,
        "host": host,
    }))
}

/// Reads all of the body. The digest is on request (`?sha=1`): a debug build hashes some 20 MB/s.
async fn sink(req: Request<Incoming>) -> Response<Body> {
    let mut digest = param::<u8>(&req, "sha").map(|_| Sha256::new());
    let mut bytes = 0;
    let mut body = req.into_body();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                bytes += data.len();
                if let Some(digest) = &mut digest {
                    digest.update(&data);
                }
            }
            Ok(Err(_trailers)) => {}
            Err(e) => return text(StatusCode::BAD_REQUEST, &e.to_string()),
        }
    }
    let sha = digest.map(|d| format!("{:x}", d.finalize()));
    reply(&json!({ "bytes": bytes, "sha256": sha }))
}

/// `n` events, `ms` apart; with `hold`, all but the first wait until that file exists.
fn events(req: &Request<Incoming>) -> Response<Body> {
    let (n, ms) = (param(req, "n").unwrap_or(3_u32), param(req, "ms").unwrap_or(10));
    let hold = param::<PathBuf>(req, "hold");
    let frames = stream::iter(0..n).then(move |i| {
        let hold = hold.clone();
        async move {
            if i > 0 {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                if let Some(hold) = &hold {
                    until_exists(hold).await;
                }
            }
            Ok(Frame::data(Bytes::from(format!("data: {i}\n\n"))))
        }
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}

/// A body with a trailer. HTTP/1.1 sends it only with `Trailer` here and `TE: trailers` in the request.
fn trailers() -> Response<Body> {
    let mut fields = HeaderMap::new();
    fields.insert("x-checksum", HeaderValue::from_static("42"));
    let frames = [Ok(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(fields))];
    let mut answer = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    answer.headers_mut().insert(TRAILER, HeaderValue::from_static("x-checksum"));
    answer
}

/// A gRPC answer: these messages as they come, then status 0.
fn grpc(
    messages: impl hyper::body::Body<Data = Bytes, Error = hyper::Error> + Send + 'static,
) -> Response<Body> {
    let mut status = HeaderMap::new();
    status.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let messages = messages.with_trailers(ready(Some(Ok(status))));
    let mut answer = Response::new(messages.boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

fn reply(value: &Value) -> Response<Body> {
    let mut answer = Response::new(full(value.to_string()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut answer = Response::new(full(text.to_owned()));
    *answer.status_mut() = status;
    answer
}

/// A query parameter; values are taken as they are, without percent decoding.
fn param<T: FromStr>(req: &Request<Incoming>, name: &str) -> Option<T> {
    let pairs = req.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
}
