//! `grpc`: ready when `grpc.health.v1.Health/Check` answers SERVING.
//!
//! One request message with one string and one response message with one enum: written by hand, that is less than a
//! gRPC library and its generated code.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{ProbeFailure, connect, drive};

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// The answer is 7 bytes.
const RESPONSE_BYTES: usize = 4 << 10;
const SERVING: u64 = 1;

#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) address: SocketAddr,
    pub(super) service: String,
}

// === impl Check ===

impl Check {
    pub(super) async fn check(&self, limit: Duration) -> Result<(), ProbeFailure> {
        let request = self.request(limit)?;
        let io = TokioIo::new(connect(self.address).await?);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(16 << 10);
        let failed = |e: hyper::Error| ProbeFailure::Protocol(format!("gRPC health check: {e}"));
        let (mut sender, connection) = builder.handshake::<_, Full<Bytes>>(io).await.map_err(failed)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let (head, mut body) = response.into_parts();
            if head.status != 200 {
                return Err(ProbeFailure::NotServing(format!("HTTP status {}", head.status.as_u16())));
            }
            let mut data = BytesMut::new();
            let mut trailers = HeaderMap::new();
            while let Some(frame) = body.frame().await {
                match frame.map_err(failed)?.into_data() {
                    Ok(part) if data.len() + part.len() <= RESPONSE_BYTES => data.extend_from_slice(&part),
                    Ok(_) => {
                        return Err(ProbeFailure::Protocol("gRPC health check: answer too long".to_owned()));
                    }
                    Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
                }
            }
            // An error may come without a body: then its status is in the head.
            judge(if trailers.contains_key("grpc-status") { &trailers } else { &head.headers }, &data)
        };
        drive(connection, exchange).await
    }

    fn request(&self, limit: Duration) -> Result<Request<Full<Bytes>>, ProbeFailure> {
        let invalid = |e: http::Error| ProbeFailure::Invalid(e.to_string());
        let authority = self.address.to_string();
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(METHOD).build();
        let mut request =
            Request::post(uri.map_err(invalid)?).body(Full::new(encode(&self.service))).map_err(invalid)?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
        let timeout = HeaderValue::try_from(format!("{}m", limit.as_millis().clamp(1, 99_999_999)));
        headers.extend(timeout.map(|timeout| (http::HeaderName::from_static("grpc-timeout"), timeout)));
        Ok(request)
    }
}

/// `HealthCheckRequest { string service = 1 }` in a gRPC frame.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

fn put_varint(to: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

/// What the call's status and the body say.
fn judge(status: &HeaderMap, body: &[u8]) -> Result<(), ProbeFailure> {
    let text = |name: &str| status.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    match text("grpc-status") {
        "0" => {}
        "" => {
            return Err(ProbeFailure::Protocol("gRPC health check: no grpc-status".to_owned()));
        }
        "5" => return Err(ProbeFailure::NotServing("no such service (NOT_FOUND)".to_owned())),
        "12" => {
            return Err(ProbeFailure::NotServing("the app has no health service (UNIMPLEMENTED)".to_owned()));
        }
        code => {
            return Err(ProbeFailure::NotServing(format!("status {code} {}", text("grpc-message"))));
        }
    }
    match serving_status(body) {
        Some(SERVING) => Ok(()),
        Some(2) => Err(ProbeFailure::NotServing("NOT_SERVING".to_owned())),
        Some(3) => Err(ProbeFailure::NotServing("SERVICE_UNKNOWN".to_owned())),
        Some(other) => Err(ProbeFailure::NotServing(format!("serving status {other}"))),
        None => Err(ProbeFailure::Protocol("gRPC health check: the answer cannot be read".to_owned())),
    }
}

/// Field 1 of the `HealthCheckResponse` in a gRPC frame; 0 when it is left out.
pub(crate) fn serving_status(frame: &[u8]) -> Option<u64> {
    let (head, message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?) as usize;
    if head[0] != 0 || length != message.len() {
        return None;
    }
    let mut status = 0;
    let mut rest = message;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encodes_the_request() {
        assert_eq!(&encode("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&encode("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = encode(&"x".repeat(300));
        assert_eq!(long[..9], [0, 0, 0, 1, 47, 0x0a, 0xac, 2, b'x']);
    }

    #[test]
    fn reads_the_answer() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[0, 0, 0, 0, 7, 0x12, 1, b'x', 0x1d, 0, 0, 0]), None);
        assert_eq!(serving_status(&[0, 0, 0, 0, 10, 0x12, 1, b'x', 0x1d, 0, 0, 0, 0, 8, 2]), Some(2));
        assert_eq!(serving_status(&[1, 0, 0, 0, 0]), None);
        assert_eq!(serving_status(&[]), None);
    }

    #[test]
    fn judges_by_status_first() {
        let status = |code: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static(code),
            )])
        };
        let serving = [0, 0, 0, 0, 2, 8, 1];
        assert!(judge(&status("0"), &serving).is_ok());
        assert!(judge(&status("12"), &serving).unwrap_err().to_string().contains("no health service"));
        assert!(judge(&status("0"), &[0, 0, 0, 0, 2, 8, 2]).unwrap_err().to_string().contains("NOT_SERVING"));
        assert!(judge(&HeaderMap::new(), &serving).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(bytes: Vec<u8>) {
            let mut frame = vec![0];
            frame.extend((bytes.len() as u32).to_be_bytes());
            frame.extend(&bytes);
            serving_status(&frame);
            serving_status(&bytes);
        }
    }
}
