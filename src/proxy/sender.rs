//! Sends requests on one HTTP/1.1 connection to an app.

use std::io;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::app_stream::{AppStream, Seen};
use super::body::RequestBody;
use crate::net::TcpStream;

/// Bounds what one app can make us hold: the head of a response, and what is read ahead of a slow client.
const MAX_READ_BUFFER: usize = 64 * 1024;
const MAX_RESPONSE_HEADERS: usize = 256;

/// Sends requests, one after the other.
#[derive(Debug)]
pub struct Sender {
    inner: http1::SendRequest<RequestBody>,
    seen: Arc<Seen>,
    connection: AbortHandle,
}

// === impl Sender ===

impl Sender {
    /// Speaks HTTP/1.1 on `stream`.
    pub async fn handshake(stream: TcpStream) -> io::Result<Self> {
        let (stream, seen) = AppStream::new(stream);
        let (inner, connection) = http1::Builder::new()
            .max_buf_size(MAX_READ_BUFFER)
            .max_header_size(MAX_READ_BUFFER)
            .max_headers(MAX_RESPONSE_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Its errors reach the request that is on it; between requests nobody minds.
        let task = tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Self { inner, seen, connection: task.abort_handle() })
    }

    /// Sends a request and waits for its response's head. Gives it back if it was not sent.
    pub async fn try_send_request(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.seen.sent();
        let answered = self.inner.try_send_request(request).await;
        self.seen.answered();
        answered
    }

    /// Whether it can take a request now.
    pub fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    /// Whether it never will again.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Whether the app closed it without reading what was sent last.
    pub fn was_cut(&self) -> bool {
        self.seen.was_cut()
    }

    /// Waits until it can take a request.
    pub async fn ready(&mut self) -> Result<(), hyper::Error> {
        self.inner.ready().await
    }

    /// Ends the connection, whatever it is at.
    pub fn abort(self) {
        self.connection.abort();
    }
}
