//! gRPC's codes.

use hyper::{HeaderMap, Response, StatusCode};

use crate::outcome::{Code, Failure};

/// The code of an answer that was read to its end. It is in the trailers, or in the head of an answer without messages.
pub(super) fn code(answer: &Response<impl Sized>, trailers: Option<&HeaderMap>) -> Result<Code, Failure> {
    if answer.status() != StatusCode::OK {
        return Ok(Code::Http(answer.status().as_u16()));
    }
    let status = trailers.and_then(|t| t.get("grpc-status")).or_else(|| answer.headers().get("grpc-status"));
    let code = status.and_then(|s| s.to_str().ok()).and_then(|s| s.parse().ok());
    code.map(Code::Grpc).ok_or(Failure::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(status: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            hyper::header::HeaderName::from_static("grpc-status"),
            hyper::header::HeaderValue::from_static(status),
        )])
    }

    #[test]
    fn trailers_head_and_neither() {
        let mut answer = Response::new(());
        assert_eq!(code(&answer, Some(&with("0"))), Ok(Code::Grpc(0)));
        assert_eq!(code(&answer, Some(&with("x"))), Err(Failure::Protocol));
        assert_eq!(code(&answer, None), Err(Failure::Protocol));
        *answer.headers_mut() = with("14");
        assert_eq!(code(&answer, None), Ok(Code::Grpc(14)));
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        assert_eq!(code(&answer, None), Ok(Code::Http(502)));
    }
}
