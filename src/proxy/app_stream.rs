//! An HTTP/1.1 connection to an app, watched by two eyes that hyper does not have. Costs nothing that is not asked for.
//!
//! **How much an app says before it answers.** hyper skips interim responses (1xx) without counting them. What comes
//! between a request and the head of its response is counted, so that an app cannot keep us busy with 1xx.
//!
//! **Whether an app had read what it was sent when it closed:** the race of a request with the end of the connection
//! that it was sent on.
//!
//! An app may close a connection that rests at the very moment at which it is used again. What comes back is its FIN,
//! which was on its way before the request arrived, and then the kernel's RST, which answers bytes for a socket that is
//! closed. An app that had read the whole request and closed then sends a FIN and nothing after it: there is nothing
//! left to refuse. One that closes with bytes unread sends a RST without a FIN. So a FIN with a RST behind it says that
//! the request was not read to its end, and a request without a body that was not read to its end was not acted upon.
//!
//! The RST has come by the time the FIN is read when both ends share a kernel, as a sidecar and its app do. Where it
//! has not, nothing is claimed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::fault::TooManyInterims;
use crate::net::TcpStream;

/// What may come before a response's head: thousands of interim responses, and what is read ahead of the head.
const MAX_BEFORE_HEAD: usize = 256 * 1024;
/// No request waits for its response's head.
const NONE_WAITS: usize = usize::MAX;

/// The connection.
#[derive(Debug)]
pub struct AppStream {
    stream: TcpStream,
    seen: Arc<Seen>,
}

/// What was seen on a connection. Shared with who sends on it.
#[derive(Debug)]
pub struct Seen {
    /// Bytes since the request that waits for its response's head was sent, or [`NONE_WAITS`].
    before_head: AtomicUsize,
    /// It ended with bytes of ours unread.
    cut: AtomicBool,
}

// === impl Seen ===

impl Seen {
    /// A request is sent.
    pub fn sent(&self) {
        self.before_head.store(0, Ordering::Relaxed);
    }

    /// Its response's head has come, or will not.
    pub fn answered(&self) {
        self.before_head.store(NONE_WAITS, Ordering::Relaxed);
    }

    /// Whether what was sent last was not read.
    pub fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

// === impl AppStream ===

impl AppStream {
    /// Watches `stream`.
    pub fn new(stream: TcpStream) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen { before_head: AtomicUsize::new(NONE_WAITS), cut: AtomicBool::new(false) });
        (Self { stream, seen: seen.clone() }, seen)
    }

    /// After a FIN: HUP says that both directions are closed, and ours was not closed by us.
    fn is_reset_too(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }
}

impl AsyncRead for AppStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let came = buf.filled().len() - before;
        if came == 0 && room > 0 && self.is_reset_too() {
            self.seen.cut.store(true, Ordering::Release);
        }
        let so_far = self.seen.before_head.load(Ordering::Relaxed);
        if so_far != NONE_WAITS {
            let all = so_far + came;
            if all > MAX_BEFORE_HEAD {
                let error = TooManyInterims(MAX_BEFORE_HEAD);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            self.seen.before_head.store(all, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::TcpListener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn pair() -> (AppStream, Arc<Seen>, TcpStream) {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (watched, cut) = AppStream::new(stream);
        (watched, cut, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_for_a_closed_socket_were_not_read() {
        let (mut ours, cut, app) = pair().await;
        drop(app);
        ours.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(cut.was_cut());
    }

    #[tokio::test]
    async fn what_was_read_before_the_end_may_have_been_acted_upon() {
        let (mut ours, cut, mut app) = pair().await;
        ours.write_all(b"x").await.unwrap();
        app.read_exact(&mut [0]).await.unwrap();
        drop(app);
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!cut.was_cut());
    }

    #[tokio::test]
    async fn a_reset_alone_says_nothing() {
        let (mut ours, cut, mut app) = pair().await;
        ours.write_all(b"x").await.unwrap();
        app.read_exact(&mut [0]).await.unwrap();
        app.set_zero_linger().unwrap();
        drop(app);
        assert!(ours.read(&mut [0; 8]).await.is_err());
        assert!(!cut.was_cut());
    }
}
