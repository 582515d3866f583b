//! One HTTP/1.1 connection to an app, and how much it may say before it answers.
//!
//! hyper skips interim responses (1xx) without counting them. The connection counts what comes between a request and
//! the head of its response, so that an app cannot keep us busy with 1xx.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use crate::net::TcpStream;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use super::body::RequestBody;
use super::cut::{Cut, Noting};
use super::fault::TooManyInterims;

/// Bounds what one app can make us hold: the head of a response, and what is read ahead of a slow client.
pub const MAX_READ_BUFFER: usize = 64 * 1024;
const MAX_RESPONSE_HEADERS: usize = 256;
/// What may come before a response's head: thousands of interim responses, and what is read ahead of the head.
const MAX_BEFORE_HEAD: usize = 4 * MAX_READ_BUFFER;

/// No request waits for its response's head.
const NONE_WAITS: usize = usize::MAX;

/// Sends requests, one after the other.
#[derive(Debug)]
pub struct Sender {
    inner: http1::SendRequest<RequestBody>,
    before_head: Arc<AtomicUsize>,
    cut: Cut,
    connection: AbortHandle,
}

#[derive(Debug)]
struct AppStream {
    stream: Noting,
    /// Bytes since the request that waits for its response's head was sent, or [`NONE_WAITS`].
    before_head: Arc<AtomicUsize>,
}

// === impl Sender ===

impl Sender {
    /// Speaks HTTP/1.1 on `stream`.
    pub async fn handshake(stream: TcpStream) -> io::Result<Self> {
        let before_head = Arc::new(AtomicUsize::new(NONE_WAITS));
        let (stream, cut) = Noting::new(stream);
        let stream = AppStream { stream, before_head: before_head.clone() };
        let (inner, connection) = http1::Builder::new()
            .max_buf_size(MAX_READ_BUFFER)
            .max_header_size(MAX_READ_BUFFER)
            .max_headers(MAX_RESPONSE_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Its errors reach the request that is on it; between requests nobody minds.
        let task = tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Self { inner, before_head, cut, connection: task.abort_handle() })
    }

    /// Sends a request and waits for its response's head. Gives it back if it was not sent.
    pub async fn try_send_request(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.before_head.store(0, Relaxed);
        let answered = self.inner.try_send_request(request).await;
        self.before_head.store(NONE_WAITS, Relaxed);
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
        self.cut.happened()
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

// === impl AppStream ===

impl AsyncRead for AppStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let so_far = self.before_head.load(Relaxed);
        if so_far != NONE_WAITS {
            let all = so_far + buf.filled().len() - before;
            if all > MAX_BEFORE_HEAD {
                let error = TooManyInterims(MAX_BEFORE_HEAD);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            self.before_head.store(all, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AppStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
