//! `httpGet`: ready when a GET answers 200–399.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{ProbeFailure, add_headers, connect, drive};

/// A larger response head is an error.
const HEAD_BYTES: usize = 64 << 10;
/// How much of a body is read, and for how long, so that the app can write its answer without an error.
const DRAIN_BYTES: usize = 256 << 10;
const DRAIN_TIME: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Get {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

// === impl Get ===

impl Get {
    pub(super) async fn check(&self) -> Result<(), ProbeFailure> {
        let request = self.request()?;
        let io = TokioIo::new(connect(self.address).await?);
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let failed = |e: hyper::Error| ProbeFailure::Protocol(format!("GET {}: {e}", self.path));
        let (mut sender, connection) = builder.handshake::<_, Empty<Bytes>>(io).await.map_err(failed)?;
        let mut connection = Box::pin(connection);
        let response = drive(&mut connection, sender.send_request(request)).await.map_err(failed)?;
        let status = response.status().as_u16();
        // The answer is known: the rest must not delay it.
        tokio::spawn(timeout(DRAIN_TIME, drive(connection, drain(response.into_body()))));
        if (200..400).contains(&status) {
            Ok(())
        } else {
            Err(ProbeFailure::Status { path: self.path.clone(), status })
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, ProbeFailure> {
        let mut request = Request::get(&self.path)
            .body(Empty::new())
            .map_err(|e| ProbeFailure::Invalid(format!("path {:?}: {e}", self.path)))?;
        let headers = request.headers_mut();
        let host = HeaderValue::try_from(self.address.to_string());
        headers.extend(host.map(|host| (HOST, host)));
        headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
        add_headers(headers, &self.headers)?;
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(request)
    }
}

async fn drain(mut body: hyper::body::Incoming) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}
